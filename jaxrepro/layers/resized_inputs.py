"""The strongest answer of one convolution over several sizes of its input: the layer of SI-ConvNet.

    y = MaxOverSizes(32, scales=(0.5, 1.0, 2.0), kernel_size=7)(x)      # [B, H, H, I] to [B, H, H, 32]
    y = max_over_sizes(conv, x, (0.5, 1.0, 2.0))                        # with any convolution, strided ones included

Kanazawa et al., "Locally Scale-Invariant Convolutional Neural Networks" (arXiv 1412.5104), as reimplemented in the code
released with SESN (Sosnovik et al., ICLR 2020).
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers.maximum import largest
from jaxrepro.layers.resample import fit, linear_matrix, resample
from jaxrepro.layers.torch_init import TorchConv


def rescaling(size: int, scale: float) -> np.ndarray:
    """Returns float32 [size, size]: resizes one axis by `scale`, aligned corners, about its middle in a fixed frame."""
    if scale == 1:
        return np.eye(size, dtype=np.float32)
    return fit(linear_matrix(size, math.floor(size * scale), align_corners=True), size)


def max_over_sizes(conv: Callable[[jax.Array], jax.Array], x: jax.Array, scales: Sequence[float]) -> jax.Array:
    """Returns the strongest of the answers of a convolution to several sizes of its input, each resized back.

    Args:
      conv: [N, H, H, I] to [N, h, h, O]; it is called once, on all sizes.
      x: [B, H, H, I].
      scales: of the input, 1 = as it is.

    Returns:
      [B, h, h, O].
    """
    resized = jnp.concatenate([resample(x, rescaling(x.shape[1], s)) for s in scales])
    answers = jnp.split(conv(resized), len(scales))
    return largest([resample(y, rescaling(y.shape[1], 1 / s)) for y, s in zip(answers, scales, strict=True)])


class MaxOverSizes(nn.Module):
    """A convolution of the resized input, resized back, at its strongest: [B, H, H, C] to [B, H, H, features].

    Attributes:
      scales: of the input, 1 = as it is.
    """

    features: int
    scales: Sequence[float]
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return max_over_sizes(TorchConv(self.features, self.kernel_size), x, self.scales)
