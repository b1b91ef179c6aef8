"""One kernel in several sizes, each for its own group of channels: the layer of SiCNN.

    y = SiConv(32, scales=(0.5, 1.0, 2.0), kernel_size=7)(x)      # [B, H, W, 3 * I] to [B, H, W, 3 * 32]
    maps = convolve_columns(maps, kernel, (0.5, 1.0, 2.0))        # the same with one map [B, H, W, I] per scale

Xu et al., "Scale-Invariant Convolutional Neural Networks" (arXiv 1411.6369), as reimplemented in the code released with
SESN (Sosnovik et al., ICLR 2020).
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers.conv import conv2d
from jaxrepro.layers.resample import fit, linear_matrix, nearest_matrix
from jaxrepro.layers.torch_init import torch_uniform


def resizing(scale: float, largest: float, kernel_size: int) -> np.ndarray:
    """Returns float32 [size, kernel_size], which resizes a kernel along one axis, inside a canvas for the largest one.

    The kernel stands in the middle of `size` = kernel_size + 2 ceil((floor(kernel_size * largest) - kernel_size) / 2)
    taps. The canvas is resized by `scale`, bilinearly with aligned corners to shrink and by the nearest tap to enlarge,
    then padded or cut back to `size`.
    """
    pad = math.ceil((int(kernel_size * largest) - kernel_size) / 2)
    size = kernel_size + 2 * pad
    if scale == 1:
        matrix = np.eye(size, dtype=np.float32)
    elif scale < 1:
        matrix = linear_matrix(size, int(size * scale), align_corners=True)
    else:
        matrix = nearest_matrix(size, int(size * scale), scale)
    return fit(matrix, size)[:, pad : pad + kernel_size]


def resized_kernel(kernel: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Returns a kernel [k, k, I, O] resized along both axes by `matrix` [n, k], each filter with its old L1 norm."""
    matrix = jnp.asarray(matrix, kernel.dtype)
    resized = jnp.einsum("ai,bj,ijcd->abcd", matrix, matrix, kernel)
    norm, resized_norm = (jnp.abs(k).sum((0, 1), keepdims=True) for k in (kernel, resized))
    return resized * (norm / jnp.maximum(resized_norm, jnp.finfo(resized.dtype).tiny))


def convolve_columns(
    maps: Sequence[jax.Array], kernel: jax.Array, scales: Sequence[float], strides: int = 1
) -> tuple[jax.Array, ...]:
    """Convolves a map [B, H, W, I] per scale with its own size of the kernel [k, k, I, O]; padded to keep the size.

    Taps that are zero by construction are left out: of 7×7 kernels at scale 0.3 two by two of 23 by 23 remain.

    Args:
      scales: of the kernels, 1 = as it is.
    """
    outputs = []
    for scale, x in zip(scales, maps, strict=True):
        matrix = resizing(scale, max(scales), len(kernel))
        rows = np.flatnonzero(matrix.any(axis=1))
        first, last, centre = rows[0], rows[-1], len(matrix) // 2
        pads = (int(centre - first), int(last - centre))
        resized = resized_kernel(kernel, matrix[first : last + 1])
        outputs.append(conv2d(x, resized, strides, padding=(pads, pads)))
    return tuple(outputs)


class SiConv(nn.Module):
    """Convolves each group of channels, one per scale, with its own size of the shared kernels.

    Maps [B, H, W, S * I] to [B, H, W, S * features], S scales one after the other, without bias.

    Attributes:
      scales: of the kernels, 1 = kernel_size.
    """

    features: int
    scales: Sequence[float]
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        groups, k = jnp.split(x, len(self.scales), axis=-1), self.kernel_size
        kernel = self.param("kernel", torch_uniform, (k, k, groups[0].shape[-1], self.features))
        return jnp.concatenate(convolve_columns(groups, kernel, self.scales), axis=-1)
