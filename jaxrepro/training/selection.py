"""The best weights so far, chosen by a number that should be low; a value in the state, so that a run resumes exactly.

best = start(variables)
best = keep_lowest(best, variables, valid_loss)      # strictly lower: the first of equals stays
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

LARGEST = np.finfo(np.float32).max  # stands for no value yet: a checkpoint of numbers that are not finite is refused


@struct.dataclass
class Best:
    """value: float32 scalar, the lowest so far. kept: what it belongs to, any pytree."""

    value: jax.Array
    kept: Any


def start(candidate: Any) -> Best:
    """Returns the state before the first comparison."""
    return Best(jnp.float32(LARGEST), candidate)


def keep_lowest(best: Best, candidate: Any, value: jax.Array, *, or_equal: bool = False) -> Best:
    """Returns the state with `candidate` kept where its value is lower, or equal if asked for; NaN never is."""
    better = value <= best.value if or_equal else value < best.value
    kept = jax.tree.map(lambda new, old: jnp.where(better, new, old), candidate, best.kept)
    return Best(jnp.where(better, value, best.value), kept)
