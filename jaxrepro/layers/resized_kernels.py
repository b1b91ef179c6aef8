"""One kernel in several sizes, each for its own group of channels: the layer of SiCNN.

    y = SiConv(32, scales=(0.5, 1.0, 2.0), kernel_size=7)(x)      # [B, H, W, 3 * I] to [B, H, W, 3 * 32]

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


class SiConv(nn.Module):
    """Convolves each group of channels, one per scale, with its own size of the shared kernels.

    Maps [B, H, W, S * I] to [B, H, W, S * features], S scales one after the other, without bias. Taps that are zero by
    construction are left out: of 7×7 kernels at scale 0.3 two by two of 23 by 23 remain.

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
        outputs = []
        for scale, group in zip(self.scales, groups, strict=True):
            matrix = resizing(scale, max(self.scales), k)
            rows = np.flatnonzero(matrix.any(axis=1))
            first, last, centre = rows[0], rows[-1], len(matrix) // 2
            pads = (int(centre - first), int(last - centre))
            outputs.append(conv2d(group, resized_kernel(kernel, matrix[first : last + 1]), padding=(pads, pads)))
        return jnp.concatenate(outputs, axis=-1)
