"""SESN Scalar and SESN Vector of the MNIST-scale table, in the frame that its ten networks share.

    model = SESNScalar(num_scales=4, scale_factor=3.0, sigma_min=1.7, mult=1.5, kernel_size=15)
    logits = model.apply(model.init(key, images, False), images, False)

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), section 6.1 and the released code. "Scalar"
projects every layer back to an image by the maximum over scales; "vector" keeps the scale axis up to the last stage.
ReLU and bias follow the maximum here, which gives the same and leaves less to compute.
"""

import flax.linen as nn
import jax

from jaxrepro.layers import SESConv, SESConvH, max_over_scales, scale_max_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.scale_conv import Strategy
from jaxrepro.layers.steerable_basis import SteerableBasis, geometric_scales, multi_level_functions
from jaxrepro.models.mnist_frame import CHANNELS, Head, Observed, upsample


class SESNScalar(nn.Module):
    """Lifts and projects in every layer. Maps images float [B, 28, 28, 1] to logits [B, 10]; 494,549 parameters.

    Attributes:
      resolution: 28 or 56; the images are enlarged to it first.
      channels: features of the three stages.
      hidden, dropout: of the head; dropout is the probability that a unit is dropped.
      num_scales, sigma_min, scale_factor: filter widths, from sigma_min to sigma_min * scale_factor pixels.
      mult: ratio between the widths of the levels of the basis.
      kernel_size: support of the largest filters, in pixels.
      effective_size: a layer has as many weights as one with square kernels of this size.
      max_order: largest total order of the basis functions.
      strategy: how the convolutions are computed; chosen by backend and shape where not given.
    """

    resolution: int = 28
    channels: tuple[int, ...] = CHANNELS
    hidden: int = 256
    dropout: float = 0.7
    num_scales: int = 4
    scale_factor: float = 3.0
    sigma_min: float = 1.7
    mult: float = 1.5
    kernel_size: int = 15
    effective_size: int = 7
    max_order: int = 4
    strategy: Strategy | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = upsample(images, self.resolution)
        for i, features in enumerate(self.channels):
            x = SESConv(features, _basis(self), use_bias=False, strategy=self.strategy)(x)
            x = _finish_stage(self, i, x, train, over_scales=True)
        return Head(self.hidden, self.dropout)(x, train)


class SESNVector(nn.Module):
    """Lifts once and projects after the last convolution; fields and number of parameters as in `SESNScalar`."""

    resolution: int = 28
    channels: tuple[int, ...] = CHANNELS
    hidden: int = 256
    dropout: float = 0.7
    num_scales: int = 3
    scale_factor: float = 3.0
    sigma_min: float = 1.5
    mult: float = 1.5
    kernel_size: int = 13
    effective_size: int = 7
    max_order: int = 4
    strategy: Strategy | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = upsample(images, self.resolution)
        for i, features in enumerate(self.channels):
            layer = SESConv if i == 0 else SESConvH
            x = layer(features, _basis(self), use_bias=False, strategy=self.strategy)(x)
            x = _finish_stage(self, i, x, train, over_scales=i == len(self.channels) - 1)
        return Head(self.hidden, self.dropout)(x, train)


def _basis(model: SESNScalar | SESNVector) -> SteerableBasis:
    scales = geometric_scales(model.sigma_min, model.scale_factor, model.num_scales)
    functions = multi_level_functions(model.effective_size**2, model.mult, model.max_order)
    return SteerableBasis(model.kernel_size, scales, functions)


def _finish_stage(model: SESNScalar | SESNVector, i: int, x: jax.Array, train: bool, over_scales: bool) -> jax.Array:
    """Maximum over pixels (and scales), bias, ReLU, normalisation: [B, H, W, S, C] to [B, h, w, S, C] or [B, h, w, C].

    A maximum commutes with what is monotonous and the same for all that it compares, such as bias and ReLU.
    """
    bias = model.param(f"bias_{i + 1}", nn.initializers.zeros_init(), (x.shape[-1],))
    Observed(name=f"stage_{i + 1}")(nn.relu(max_over_scales(x) + bias))
    if i < len(model.channels) - 1:
        x = scale_max_pool(x, 2, over_scales=over_scales)
    else:
        x = scale_max_pool(x, model.resolution // 7, ((2, 2), (2, 2)), over_scales)
    return BatchNorm()(nn.relu(x + bias), train)
