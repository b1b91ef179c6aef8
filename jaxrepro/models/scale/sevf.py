"""SEVF: scale-equivariant vector fields. A layer answers with the strength of its best scale and an angle for which.

Marcos et al., "Scale equivariance in CNNs with vector fields" (arXiv 1807.11783), as reimplemented in the code released
with SESN.
"""

import math

import flax.linen as nn
import jax

from jaxrepro.layers.maximum import largest
from jaxrepro.layers.vector_field import (
    ConvAtScales,
    FieldNorm,
    FieldToField,
    ScaleAngles,
    magnitude,
    pool_field,
    strongest,
)
from jaxrepro.models.scale.frame import KERNEL, Frame, Head, apply_frame, upsample

LAW = ScaleAngles(base=1.26, exponents=(-4, -3, -2, -1, 0, 1, 2, 3), angle_range=2 * math.pi / 3)


class SEVFScalar(nn.Module):
    """Every layer lifts and keeps the magnitude, which is the strongest answer, rectified.

    Maps images float [B, 28, 28, 1] to logits [B, 10]; 494,425 parameters.
    """

    frame: Frame = Frame()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return apply_frame(
            self.frame,
            images,
            train,
            conv=lambda features: lambda x: largest(ConvAtScales(features, LAW, KERNEL)(x)),
            last_norm=False,
            head_bias=True,
        )


class SEVFVector(nn.Module):
    """Fields up to the head. Maps images [B, 28, 28, 1] to logits [B, 10]; 475,407 parameters, all of them trained."""

    frame: Frame = Frame(channels=(23, 45, 68))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        frame = self.frame
        first, second, third = frame.channels
        lifted = ConvAtScales(first, LAW, KERNEL)(upsample(images, frame.resolution))
        field = FieldNorm()(*pool_field(*strongest(lifted, LAW), 2), train)
        field = FieldNorm()(*pool_field(*FieldToField(second, LAW, KERNEL)(*field), 2), train)
        field = pool_field(*FieldToField(third, LAW, KERNEL)(*field), frame.resolution // 7, padding=2)
        return Head(frame.hidden, frame.dropout, use_bias=True)(magnitude(*field), train)
