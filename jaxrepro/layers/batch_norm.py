"""Batch normalisation over every axis but the last, with the running statistics of PyTorch.

x = BatchNorm()(x, train)      # [B, H, W, C] or, on scale space, any rank with channels last
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Normalises each channel by its statistics over all other axes; keeps running ones in "batch_stats".

    In training the variance is the biased one, while the running average takes the unbiased one (n - 1), as PyTorch
    does and `flax.linen.BatchNorm` does not: with one number per example the difference is 1/n of a batch. Statistics
    are float32 whatever the dtype of `x`. Maps float [..., C] to the same shape and dtype.

    Attributes:
      affine: whether there are a scale and a shift per channel.
      scale_init: initial scales.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    affine: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape) if self.affine else jnp.ones(shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape) if self.affine else jnp.zeros(shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        mean, var = running_mean.value, running_var.value
        if train:
            wide, axes, count = x.astype(jnp.float32), tuple(range(x.ndim - 1)), x.size // x.shape[-1]
            mean = wide.mean(axes)
            var = jnp.square(wide - mean).mean(axes)
            if not self.is_initializing():
                old, new = self.momentum, 1 - self.momentum
                running_mean.value = old * running_mean.value + new * mean
                running_var.value = old * running_var.value + new * var * (count / max(count - 1, 1))
        factor = scale.astype(jnp.float32) * jax.lax.rsqrt(var + self.epsilon)
        return (x * factor + (bias.astype(jnp.float32) - mean * factor)).astype(x.dtype)
