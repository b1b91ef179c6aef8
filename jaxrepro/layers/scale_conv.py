"""Scale-equivariant convolutions: from images to scale space, and from scale space to itself.

    basis = SteerableBasis(15, geometric_scales(1.7, 3.0, 4), multi_level_functions(49, 1.5))
    x = SESConv(32, basis)(images)      # [B, 28, 28, 1] to [B, 28, 28, 4, 32]
    x = SESConvH(63, basis)(x)          # [B, 28, 28, 4, 32] to [B, 28, 28, 4, 63]

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), equations 6 to 12. A kernel is a combination of
the basis functions with trained weights that all scales share. For an image f enlarged by the ratio of two
neighbouring scales, the result is enlarged likewise and moved on by one scale channel. On a continuous plane that is
exact; here it is limited by the cut of the filters at their supports (a relative squared error of 4e-10 in one layer
with ample supports, of 0.002 to 0.04 with those of the paper), by the borders of the image, and, where a layer connects
scales, by the zeros beyond the last scale, which spoil the last channels. Translation by whole pixels is exact away
from the borders.

The arrays [B, H, W, S, C] keep channels last for normalisation and dense products, and make projection and
pooling over space plain reductions. How a layer is computed depends on its shape and the backend, see `Strategy`.
"""

import enum
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers.conv import conv2d
from jaxrepro.layers.cpu.spectral import spectral_correlate
from jaxrepro.layers.steerable_basis import SteerableBasis, filters, padded_filters

Pads = tuple[tuple[int, int], tuple[int, int]]
Initializer = Callable[..., jax.Array]


class Strategy(enum.StrEnum):
    """How a layer is computed; the results are equal but for rounding."""

    PADDED = "padded"  # one convolution whose kernels are filled up with zeros to the largest support
    CROPPED = "cropped"  # a convolution per scale, each with its own support
    SPECTRAL = "spectral"  # a product of Fourier coefficients per scale; unit strides only


def lift(
    images: jax.Array,
    weights: jax.Array,
    basis: SteerableBasis,
    strides: int = 1,
    padding: int | None = None,
    strategy: Strategy | None = None,
) -> jax.Array:
    """Convolves images with the same kernels at every scale: y[s, o] = sum_c images[c] * kernel[s, c, o].

    Args:
      images: float [B, H, W, I].
      weights: [basis.num_functions, I, O], of the dtype of `images`.
      basis: the fixed functions.
      strides: steps between windows, in space only.
      padding: zeros on each side; kernel_size // 2 ("same") where not given.
      strategy: chosen by backend and shape where not given.

    Returns:
      [B, H', W', S, O] of the dtype of `images`.
    """
    inputs = [images] * basis.num_scales
    return _correlate(inputs, [weights] * basis.num_scales, basis, strides, padding, strategy)


def scale_conv(
    x: jax.Array,
    weights: jax.Array,
    basis: SteerableBasis,
    strides: int = 1,
    padding: int | None = None,
    strategy: Strategy | None = None,
) -> jax.Array:
    """Convolves scale-space features: y[s, o] = sum_q sum_c x[s + q, c] * kernel[q, s, c, o].

    The sum over q runs over the scale of the output and num_taps - 1 larger ones; beyond the last scale there are
    zeros. With one tap, scale channels do not interact.

    Args:
      x: float [B, H, W, S, I].
      weights: [basis.num_functions, num_taps, I, O], of the dtype of `x`.
      basis, strides, padding, strategy: as for `lift`.

    Returns:
      [B, H', W', S, O] of the dtype of `x`.
    """
    batch, height, width, num_scales, _ = x.shape
    num_functions, num_taps, _, num_out = weights.shape
    inputs, used = [], []
    for s in range(num_scales):
        taps = min(num_taps, num_scales - s)
        inputs.append(x[..., s : s + taps, :].reshape(batch, height, width, -1))
        used.append(weights[:, :taps].reshape(num_functions, -1, num_out))
    return _correlate(inputs, used, basis, strides, padding, strategy)


class SESConv(nn.Module):
    """Lifts images [B, H, W, I] to scale space [B, H', W', S, features]; see `lift`.

    Parameters: `kernel` [num_functions, I, features], `bias` [features], shared by all scales.
    """

    features: int
    basis: SteerableBasis
    strides: int = 1
    padding: int | None = None
    use_bias: bool = True
    strategy: Strategy | None = None
    kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    bias_init: Initializer = nn.initializers.zeros_init()
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        shape = (self.basis.num_functions, images.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype).astype(images.dtype)
        y = lift(images, kernel, self.basis, self.strides, self.padding, self.strategy)
        return _add_bias(self, y)


class SESConvH(nn.Module):
    """Maps scale space [B, H, W, S, I] to scale space [B, H', W', S, features]; see `scale_conv`.

    Parameters: `kernel` [num_functions, num_taps, I, features], `bias` [features], shared by all scales.
    """

    features: int
    basis: SteerableBasis
    num_taps: int = 1
    strides: int = 1
    padding: int | None = None
    use_bias: bool = True
    strategy: Strategy | None = None
    kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    bias_init: Initializer = nn.initializers.zeros_init()
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.basis.num_functions, self.num_taps, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype).astype(x.dtype)
        y = scale_conv(x, kernel, self.basis, self.strides, self.padding, self.strategy)
        return _add_bias(self, y)


def _add_bias(module: SESConv | SESConvH, y: jax.Array) -> jax.Array:
    if not module.use_bias:
        return y
    return y + module.param("bias", module.bias_init, (module.features,), module.param_dtype).astype(y.dtype)


def choose_strategy(num_pixels: int, num_in: int, num_out: int, strides: int = 1) -> Strategy:
    """Returns how one scale of a layer is computed on the present backend.

    On CPU, spectral was 1.5 to 4 times faster than cropped, forward and backward, on the layers of the MNIST
    networks (7², 14² and 28² pixels, supports 3 to 15). Few channels or many pixels leave the transforms to
    dominate. On accelerators nothing was measured: cropped has the least arithmetic of the direct strategies.
    """
    spectral = strides == 1 and min(num_in, num_out) >= 8 and num_pixels <= 1024
    return Strategy.SPECTRAL if jax.default_backend() == "cpu" and spectral else Strategy.CROPPED


def _correlate(
    inputs: list[jax.Array],
    weights: list[jax.Array],
    basis: SteerableBasis,
    strides: int,
    padding: int | None,
    strategy: Strategy | None,
) -> jax.Array:
    """One convolution per scale, inputs[s] [B, H, W, I_s] with weights[s] [F, I_s, O]; stacked [B, H', W', S, O]."""
    padding = basis.kernel_size // 2 if padding is None else padding
    if strategy is Strategy.PADDED:
        return _correlate_padded(inputs, weights, basis, strides, padding)
    results = []
    for x, w, constants, support in zip(inputs, weights, filters(basis), basis.supports):
        pads = ((padding - (basis.kernel_size - support) // 2,) * 2,) * 2
        num_pixels = math.prod(x.shape[1:3])
        chosen = strategy or choose_strategy(num_pixels, *w.shape[1:], strides)
        if chosen is Strategy.SPECTRAL:
            results.append(spectral_correlate(x, w, constants, pads))
        else:
            kernel = jnp.einsum("nab,nio->abio", constants.astype(x.dtype), w)
            results.append(conv2d(x, kernel, strides, pads))
    return jnp.stack(results, axis=3)


def _correlate_padded(
    inputs: list[jax.Array], weights: list[jax.Array], basis: SteerableBasis, strides: int, padding: int
) -> jax.Array:
    """All scales in one grouped convolution, or one without groups where all share their input (lifting)."""
    constants = padded_filters(basis).astype(inputs[0].dtype)
    shared = all(x is inputs[0] for x in inputs)
    widest = max(x.shape[3] for x in inputs)
    weights = [jnp.pad(w, ((0, 0), (0, widest - w.shape[1]), (0, 0))) for w in weights]
    inputs = [jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, widest - x.shape[3]))) for x in inputs]
    kernel = jnp.einsum("nsab,snio->abiso", constants, jnp.stack(weights))
    y = lax.conv_general_dilated(
        inputs[0] if shared else jnp.concatenate(inputs, axis=3),
        kernel.reshape(*kernel.shape[:3], -1),
        (strides, strides),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=1 if shared else basis.num_scales,
    )
    return y.reshape(*y.shape[:3], basis.num_scales, -1)
