"""Several models of one program, one conditional on beta or none, and what is logged of them.

betas = members(BetaConfig(baselines=(16.0,)))     # {"conditional": 0.0, "fixed_beta_16": 16.0}
metrics = member_metrics({"conditional": terms, "fixed_beta_16": others}, is_last)
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.metrics import Mean
from jaxrepro.training.loss_weights import BetaConfig

CONDITIONAL = "conditional"


@struct.dataclass
class Member:
    """One model in training."""

    params: Any
    opt_state: Any


def members(config: BetaConfig) -> dict[str, float]:
    """Returns name -> beta of every model of a run; 0 stands for the conditional one."""
    if config.fixed:
        return {fixed_name(config.fixed): config.fixed}
    return {CONDITIONAL: 0.0} | {fixed_name(beta): beta for beta in config.baselines}


def fixed_name(beta: float) -> str:
    return f"fixed_beta_{beta:g}"


def ends_epoch(step: jax.Array, steps_per_epoch: float, total: int) -> jax.Array:
    """Returns whether the batch of a step (0 is the first) is the last one of an epoch, or of the run: bool scalar."""
    return (jnp.floor((step + 1) / steps_per_epoch) > jnp.floor(step / steps_per_epoch)) | (step + 1 == total)


def member_metrics(found: Mapping[str, Mapping[str, jax.Array]], is_last: jax.Array | None = None) -> dict[str, Mean]:
    """Returns means over the batch: "kl" of the first member, "NAME/kl" of the others; their "loss" is left out.

    Args:
      found: member -> {"loss", …}, one number per example [B].
      is_last: where given, whether to count the batch in "last_batch_kl", …, also of "loss".
    """
    metrics = {}
    for i, (name, terms) in enumerate(found.items()):
        prefix = f"{name}/" if i else ""
        metrics |= {prefix + k: Mean.of(v) for k, v in terms.items() if k != "loss" or not i}
        if is_last is not None:
            metrics |= {f"{prefix}last_batch_{k}": Mean.of(v, is_last) for k, v in terms.items()}
    return metrics
