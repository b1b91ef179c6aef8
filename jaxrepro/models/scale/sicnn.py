"""SiCNN: one column of layers per scale, all with the same kernels, resized.

Xu et al., "Scale-Invariant Convolutional Neural Networks" (arXiv 1411.6369), as reimplemented in the code released with
SESN: a column is a group of channels, and the columns meet in a maximum behind the last stage.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.maximum import largest
from jaxrepro.layers.resized_kernels import SiConv
from jaxrepro.models.scale.frame import KERNEL, Frame, apply_frame

SCALES = (0.3, 0.45, 0.67, 1.0, 1.49, 2.23, 3.33)


class SiCNN(nn.Module):
    """Maps images float [B, 28, 28, 1] to logits [B, 10]; 496,639 parameters."""

    frame: Frame = Frame()
    scales: tuple[float, ...] = SCALES

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        num_scales = len(self.scales)
        return apply_frame(
            self.frame,
            images,
            train,
            conv=lambda features: SiConv(features, self.scales, KERNEL),
            lift=lambda x: jnp.tile(x, num_scales),
            project=lambda x: largest(jnp.split(x, num_scales, axis=-1)),
        )
