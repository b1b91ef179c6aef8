"""SI-ConvNet: every layer sees its input at several sizes and keeps the strongest answer.

Kanazawa et al., "Locally Scale-Invariant Convolutional Neural Networks" (arXiv 1412.5104), as reimplemented in the code
released with SESN.
"""

import flax.linen as nn
import jax

from jaxrepro.layers.resized_inputs import MaxOverSizes
from jaxrepro.models.scale.frame import KERNEL, Frame, apply_frame
from jaxrepro.models.scale.sicnn import SCALES


class SIConvNet(nn.Module):
    """Maps images float [B, 28, 28, 1] to logits [B, 10]; 494,549 parameters."""

    frame: Frame = Frame()
    scales: tuple[float, ...] = SCALES

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return apply_frame(self.frame, images, train, conv=lambda features: MaxOverSizes(features, self.scales, KERNEL))
