"""Conditional batch normalisation: the scale and the shift of every channel come from a condition.

y = ConditionalBatchNorm()(x, condition, train)      # x [B, H, W, C], condition [B, D]
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_dense


class ConditionalBatchNorm(nn.Module):
    """gamma * BN(x) + beta, with (gamma, beta) one dense layer of the condition and BN without scale and shift.

    gamma is used as it is, not 1 + gamma: at first it lies about 0. Maps [B, ..., C] to the same shape and dtype.

    Source: Brock et al. (BigGAN, 2019), in the form of the released code of Synbols.
    """

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        gamma, beta = jnp.split(torch_dense(condition, 2 * x.shape[-1]).astype(x.dtype), 2, axis=-1)
        shape = (len(x), *(1,) * (x.ndim - 2), x.shape[-1])
        return BatchNorm(use_affine=False)(x, train) * gamma.reshape(shape) + beta.reshape(shape)
