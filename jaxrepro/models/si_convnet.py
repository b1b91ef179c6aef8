"""SI-ConvNet: every layer sees its input at several sizes and keeps the strongest answer.

Kanazawa et al., "Locally Scale-Invariant Convolutional Neural Networks" (arXiv 1412.5104), as reimplemented in the code
released with SESN.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers.maximum import largest
from jaxrepro.layers.resample import fit, linear_matrix, resample
from jaxrepro.models.cnn import TorchConv
from jaxrepro.models.mnist_frame import CHANNELS, network
from jaxrepro.models.sicnn import SCALES


def rescaling(size: int, scale: float) -> np.ndarray:
    """Returns float32 [size, size]: resizes one axis by `scale`, aligned corners, about its middle in a fixed frame."""
    if scale == 1:
        return np.eye(size, dtype=np.float32)
    return fit(linear_matrix(size, math.floor(size * scale), align_corners=True), size)


class MaxOverSizes(nn.Module):
    """A convolution of the resized input, resized back, at its strongest: [B, H, H, C] to [B, H, H, features]."""

    features: int
    scales: Sequence[float] = SCALES

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = x.shape[1]
        resized = jnp.concatenate([resample(x, rescaling(size, s)) for s in self.scales])
        answers = jnp.split(TorchConv(self.features)(resized), len(self.scales))
        back = [resample(y, rescaling(size, 1 / s)) for y, s in zip(answers, self.scales, strict=True)]
        return largest(back)


class SIConvNet(nn.Module):
    """Maps images float [B, 28, 28, 1] to logits [B, 10]; 494,549 parameters."""

    resolution: int = 28
    channels: tuple[int, ...] = CHANNELS
    hidden: int = 256
    dropout: float = 0.7
    scales: tuple[float, ...] = SCALES

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return network(
            images,
            train,
            conv=lambda features: MaxOverSizes(features, self.scales),
            resolution=self.resolution,
            channels=self.channels,
            hidden=self.hidden,
            dropout=self.dropout,
        )
