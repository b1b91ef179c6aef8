"""Batch normalisation over every axis but the last, with the running statistics of PyTorch.

x = BatchNorm()(x, train)            # [B, H, W, C] or, on scale space, any rank with channels last
maps = BatchNorm()(maps, train)      # a tuple of arrays of one shape, such as one per scale, with common statistics
"""

from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

ArrayOrMaps = TypeVar("ArrayOrMaps", jax.Array, tuple[jax.Array, ...])


class BatchNorm(nn.Module):
    """Normalises each channel by its statistics over all other axes; keeps running ones in "batch_stats".

    In training the variance is the biased one, while the running average takes the unbiased one (n - 1), as PyTorch
    does and `flax.linen.BatchNorm` does not: with one number per example the difference is 1/n of a batch. Statistics
    are float32 whatever the dtype of `x`. Maps float [..., C] to the same shape and dtype; a tuple of arrays is
    normalised as if they were stacked, without a copy.

    Attributes:
      use_affine: whether a trained scale and shift follow.
      scale_init: first values of the scale.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_affine: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: ArrayOrMaps, train: bool) -> ArrayOrMaps:
        maps = x if isinstance(x, tuple) else (x,)
        shape = (maps[0].shape[-1],)
        scale = self.param("scale", self.scale_init, shape) if self.use_affine else jnp.ones(shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape) if self.use_affine else jnp.zeros(shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        mean, var = running_mean.value, running_var.value
        if train:
            count = sum(m.size for m in maps) // shape[0]
            mean, var = _moments(maps)
            if not self.is_initializing():
                old, new = self.momentum, 1 - self.momentum
                running_mean.value = old * running_mean.value + new * mean
                running_var.value = old * running_var.value + new * var * (count / max(count - 1, 1))
        factor = scale.astype(jnp.float32) * jax.lax.rsqrt(var + self.epsilon)
        shift = bias.astype(jnp.float32) - mean * factor
        normalised = tuple((m * factor + shift).astype(m.dtype) for m in maps)
        return normalised if isinstance(x, tuple) else normalised[0]


def _moments(maps: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns mean and biased variance of the last axis' channels over arrays of one shape, float32 [C]."""
    wide, axes = [m.astype(jnp.float32) for m in maps], tuple(range(maps[0].ndim - 1))
    mean = sum(m.mean(axes) for m in wide) / len(wide)
    return mean, sum(jnp.square(m - mean).mean(axes) for m in wide) / len(wide)
