"""The strongest answer of one convolution over several sizes of its input: the layer of SI-ConvNet.

    y = MaxOverSizes(32, scales=(0.5, 1.0, 2.0), kernel_size=7)(x)      # [B, H, H, I] to [B, H, H, 32]

Kanazawa et al., "Locally Scale-Invariant Convolutional Neural Networks" (arXiv 1412.5104), as reimplemented in the code
released with SESN (Sosnovik et al., ICLR 2020).
"""

import math
from collections.abc import Sequence

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
        size = x.shape[1]
        resized = jnp.concatenate([resample(x, rescaling(size, s)) for s in self.scales])
        answers = jnp.split(TorchConv(self.features, self.kernel_size)(resized), len(self.scales))
        back = [resample(y, rescaling(size, 1 / s)) for y, s in zip(answers, self.scales, strict=True)]
        return largest(back)
