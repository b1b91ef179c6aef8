"""SS-CNN: filters whose size is steered by rotating their coefficients in a log-radial basis.

Ghosh & Gupta, "Scale Steerable Filters for Locally Scale-Invariant Convolutional Neural Networks" (arXiv 1906.03861),
with the constants of the version that was released with SESN.
"""

import math

import flax.linen as nn
import jax

from jaxrepro.layers.log_radial import LogRadial, SteeredConv
from jaxrepro.models.scale.frame import Frame, apply_frame

BASIS = LogRadial(orders=(0.5, 1.0, 2.0), num_angles=9, angle_std=math.pi / 16, phase=-math.pi / 4, reference_size=11)
SIZES = {28: (5, 7, 9, 11, 13), 56: (7, 9, 11, 13, 15, 17)}  # by resolution


class SSCNN(nn.Module):
    """Maps images float [B, 28, 28, 1] to logits [B, 10]; 486,278 parameters, all of them trained.

    The released code counts 493,688: 7,230 constants and a normalisation of 180 that it never uses are among them.
    """

    frame: Frame = Frame(channels=(30, 60, 90))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        sizes = SIZES[self.frame.resolution]
        return apply_frame(
            self.frame, images, train, conv=lambda features: SteeredConv(features, BASIS, sizes), head_bias=True
        )
