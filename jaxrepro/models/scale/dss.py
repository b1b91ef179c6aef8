"""DSS: deep scale space. An image is blurred to several scales, and each scale is convolved with the kernel dilated.

Worrall & Welling, "Deep Scale-spaces: Equivariance Over Scale" (NeurIPS 2019), as reimplemented in the code released
with SESN: two scales, kernels of one scale.
"""

import functools

import flax.linen as nn
import jax

from jaxrepro.layers.blurred_scales import ScaleSpaceConv, blur_to_scales, max_over_blurred
from jaxrepro.models.scale.frame import KERNEL, Frame, apply_frame

NUM_SCALES = 2
ZERO_SCALE = 0.25  # the blur that the pixels of MNIST are taken to have, in standard deviations

lift = functools.partial(blur_to_scales, num_scales=NUM_SCALES, zero_scale=ZERO_SCALE)
project = functools.partial(max_over_blurred, num_scales=NUM_SCALES)


def conv(features: int) -> ScaleSpaceConv:
    return ScaleSpaceConv(features, NUM_SCALES, KERNEL)


class DSSScalar(nn.Module):
    """Lifts and projects in every stage. Maps images [B, 28, 28, 1] to logits [B, 10]; 494,359 parameters."""

    frame: Frame = Frame()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return apply_frame(self.frame, images, train, conv=lambda features: lambda x: project(conv(features)(lift(x))))


class DSSVector(nn.Module):
    """Stays in scale space up to the head. Maps images [B, 28, 28, 1] to logits [B, 10]; 494,359 parameters."""

    frame: Frame = Frame()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return apply_frame(self.frame, images, train, conv=conv, lift=lift, project=project)
