"""Convolutions whose kernels are combinations of cosines: the layers of harmonic networks.

    y = HarmonicConv(64)(x)                     # [B, H, W, I] to [B, H, W, 64]
    y = HarmonicStem(16, strides=2)(x, train)   # responses to the cosines themselves, normalised, then combined

Ulicny, Krylov & Dahyot, "Harmonic Networks for Image Classification" (BMVC 2019) and the released code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.errors import check
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.conv import Conv, conv2d

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # N(0, 2 / fan-in)


def cosine_filters(size: int = 3, level: int = 0) -> np.ndarray:
    """Returns the discrete cosine transform's filters, each divided by its L1 norm: float32 [F, size, size].

    Filter (i, j) is cos(pi (row + 1/2) i / size) cos(pi (column + 1/2) j / size); j counts fastest.

    Args:
      level: filters with i + j < level are kept; 0 = all size² of them.
    """
    check(0 <= level < 2 * size, f"level is {level}; it must lie in [0, {2 * size - 1}], 0 for all filters")
    waves = np.cos(np.pi * np.outer(np.arange(size), np.arange(size) + 0.5) / size)
    kept = [(i, j) for i in range(size) for j in range(size) if not level or i + j < level]
    bank = np.stack([np.outer(waves[i], waves[j]) for i, j in kept])
    return (bank / np.abs(bank).sum((1, 2), keepdims=True)).astype(np.float32)


class HarmonicConv(nn.Module):
    """A convolution with trained combinations of `cosine_filters`, without bias: [B, H, W, I] to [B, h, w, features].

    Parameters: `kernel` [F, I, features].

    Attributes:
      level: of the filters, 0 = all.
    """

    features: int
    strides: int = 1
    kernel_size: int = 3
    level: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bank = cosine_filters(self.kernel_size, self.level)
        weights = self.param("kernel", he_normal, (len(bank), x.shape[-1], self.features))
        kernel = jnp.einsum("fab,fio->abio", bank.astype(weights.dtype), weights, precision="highest")
        return conv2d(x, kernel, self.strides, padding=self.kernel_size // 2)


class HarmonicStem(nn.Module):
    """Every channel's responses to `cosine_filters`, normalised without scale or shift, then a 1×1 convolution.

    Maps images [B, H, W, I] to [B, h, w, features].
    """

    features: int
    strides: int = 1
    kernel_size: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        k, channels = self.kernel_size, x.shape[-1]
        bank = cosine_filters(k)
        # A dense kernel with zeros: there are few channels, and a depthwise one has no fast way on CPU.
        kernel = np.einsum("fab,io->abiof", bank, np.eye(channels, dtype=np.float32)).reshape(k, k, channels, -1)
        responses = conv2d(x, jnp.asarray(kernel, x.dtype), self.strides, padding=k // 2)
        responses = BatchNorm(use_affine=False)(responses, train)
        return Conv(self.features, (1, 1), padding=0, use_bias=False, kernel_init=he_normal)(responses)
