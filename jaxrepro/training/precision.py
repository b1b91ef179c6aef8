"""Narrow arithmetic with wide parameters: the only way to bfloat16.

logits = apply_in(config.precision, network, variables, images, train=False)

Networks know nothing of it: their layers compute in the type of what they get. Statistics of batch norms are float32,
and so are logits and other outputs that losses are computed from: their layers say so themselves.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.config import Precision


def apply_in(
    precision: Precision, network: nn.Module, variables: Any, images: jax.Array, *inputs: Any, **options: Any
) -> Any:
    """Returns what `network.apply` does, computed in a precision; parameters and statistics stay float32.

    Args:
      variables: {"params", …}, float32.
      images: float32, or whatever else the network maps, such as latents.
      *inputs: others, passed on as they are.
      **options: of `network.apply`.
    """
    if precision == Precision.BFLOAT16:
        narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables["params"])
        variables, images = {**variables, "params": narrow}, images.astype(jnp.bfloat16)
    return network.apply(variables, images, *inputs, **options)
