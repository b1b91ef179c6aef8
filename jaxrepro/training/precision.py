"""Narrow arithmetic with wide parameters.

logits = apply_in(config.precision, network, variables, images, train=False)
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.config import Precision


def apply_in(precision: Precision, network: nn.Module, variables: Any, images: jax.Array, **options: Any) -> Any:
    """Returns what `network.apply` does, computed in a precision; parameters and statistics stay float32.

    Args:
      variables: {"params", …}, float32.
      images: float32.
      **options: of `network.apply`.
    """
    if precision == Precision.BFLOAT16:
        narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables["params"])
        variables, images = {**variables, "params": narrow}, images.astype(jnp.bfloat16)
    return network.apply(variables, images, **options)
