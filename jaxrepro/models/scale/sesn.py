"""SESN Scalar and SESN Vector of the MNIST-scale table, in the frame that its ten networks share.

    model = SESN(num_scales=4, scale_factor=3.0, sigma_min=1.7, mult=1.5, kernel_size=15)
    logits = model.apply(model.init(key, images, False), images, False)

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), section 6.1 and the released code. "Scalar"
projects every layer back to an image by the maximum over scales; "vector" keeps the scale axis up to the last stage.
ReLU and bias follow the maximum here, which gives the same and leaves less to compute.
"""

import flax.linen as nn
import jax

from jaxrepro.layers import SESConv, SESConvH, max_over_scales, scale_max_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.steerable_basis import SteerableBasis, geometric_scales, multi_level_functions
from jaxrepro.layers.steerable_conv import Strategy
from jaxrepro.models.scale.frame import Frame, Head, Observed, upsample


class SESN(nn.Module):
    """Maps images float [B, 28, 28, 1] to logits float32 [B, 10]; 494,549 parameters.

    Attributes:
      num_scales, sigma_min, scale_factor: filter widths, from sigma_min to sigma_min * scale_factor pixels.
      mult: ratio between the widths of the levels of the basis.
      kernel_size: support of the largest filters, in pixels.
      vector: lift once and project after the last convolution, instead of both in every layer.
      effective_size: a layer has as many weights as one with square kernels of this size.
      max_order: largest total order of the basis functions.
      frame: resolution, channels and dense layer.
      strategy: how the convolutions are computed; chosen by backend and shape where not given.
    """

    num_scales: int
    scale_factor: float
    sigma_min: float
    mult: float
    kernel_size: int
    vector: bool = False
    effective_size: int = 7
    max_order: int = 4
    frame: Frame = Frame()
    strategy: Strategy | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x, last = upsample(images, self.frame.resolution), len(self.frame.channels) - 1
        for i, features in enumerate(self.frame.channels):
            layer = SESConvH if self.vector and i > 0 else SESConv
            x = layer(features, self.basis, use_bias=False, strategy=self.strategy)(x)
            x = self._finish_stage(i, x, train, over_scales=not self.vector or i == last)
        return Head(self.frame.hidden, self.frame.dropout)(x, train)

    @property
    def basis(self) -> SteerableBasis:
        scales = geometric_scales(self.sigma_min, self.scale_factor, self.num_scales)
        functions = multi_level_functions(self.effective_size**2, self.mult, self.max_order)
        return SteerableBasis(self.kernel_size, scales, functions)

    def _finish_stage(self, i: int, x: jax.Array, train: bool, over_scales: bool) -> jax.Array:
        """Maximum over pixels (and scales), bias, ReLU, normalisation: [B, H, W, S, C] to [B, h, w, S, C] or without S.

        A maximum commutes with what is monotonous and the same for all that it compares, such as bias and ReLU.
        """
        bias = self.param(f"bias_{i + 1}", nn.initializers.zeros_init(), (x.shape[-1],))
        Observed(name=f"stage_{i + 1}")(nn.relu(max_over_scales(x) + bias))
        if i < len(self.frame.channels) - 1:
            x = scale_max_pool(x, 2, over_scales=over_scales)
        else:
            x = scale_max_pool(x, self.frame.resolution // 7, ((2, 2), (2, 2)), over_scales)
        return BatchNorm()(nn.relu(x + bias), train)
