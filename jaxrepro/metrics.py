"""Metrics as sums and counts, so that means over masks, batches and devices merge exactly.

m = Mean.of(losses, mask)        # [B] values, padding masked out
(m + other).value                # the mean over both, every example once
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Mean:
    """A running mean: float32 `total` and `count`, scalars (or with leading axes added by vmap)."""

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array | None = None) -> "Mean":
        """Returns the mean of `values` over all axes, where `mask` (broadcastable, 0 or 1) is 1."""
        values = jnp.asarray(values, jnp.float32)
        if mask is None:
            return cls(values.sum(), jnp.float32(values.size))
        mask = jnp.broadcast_to(jnp.asarray(mask, jnp.float32), values.shape)
        return cls(jnp.where(mask > 0, values, 0).sum(), mask.sum())

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> jax.Array:
        """The mean; NaN where nothing was counted."""
        return self.total / self.count


def is_mean(x: Any) -> bool:
    return isinstance(x, Mean)


def as_means(metrics: Mapping[str, Any]) -> dict[str, Mean]:
    """Returns metrics with every scalar wrapped as a Mean of count 1."""
    return {k: v if is_mean(v) else Mean(jnp.asarray(v, jnp.float32), jnp.float32(1)) for k, v in metrics.items()}


def merge(a: Mapping[str, Mean], b: Mapping[str, Mean]) -> dict[str, Mean]:
    """Returns the metrics over the union of what `a` and `b` counted."""
    return {k: a[k] + b[k] for k in a}


def compute(metrics: Mapping[str, Mean]) -> dict[str, jax.Array]:
    """Returns name -> mean."""
    return {k: v.value for k, v in metrics.items()}
