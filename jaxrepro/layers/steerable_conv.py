"""Scale-equivariant convolutions: from images to scale space, and from scale space to itself.

    basis = SteerableBasis(15, geometric_scales(1.7, 3.0, 4), multi_level_functions(49, 1.5))
    x = SESConv(32, basis)(images)      # [B, 28, 28, 1] to [B, 28, 28, 4, 32]
    x = SESConvH(63, basis)(x)          # [B, 28, 28, 4, 32] to [B, 28, 28, 4, 63]
    x = SESConv1x1(16)(x)               # every scale alike, to [B, 28, 28, 4, 16]

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), equations 6 to 12. A kernel is a combination of
the basis functions with trained weights that all scales share. For an image f enlarged by the ratio of two
neighbouring scales, the result is enlarged likewise and moved on by one scale channel. On a continuous plane that is
exact; here it is limited by the cut of the filters at their supports (a relative squared error of 4e-10 in one layer
with ample supports, of 0.002 to 0.04 with those of the paper), by the borders of the image, and, where a layer connects
scales, by the zeros beyond the last scale, which spoil the last channels. Translation by whole pixels is exact away
from the borders.

The arrays [..., H, W, S, C] keep channels last for normalisation and dense products, and make projection and
pooling over space plain reductions. Large networks keep one map [B, H, W, C] per scale in a tuple instead
(`lift_to_maps`, `scale_conv_maps`): no layer then copies what it reads out of one array. How a layer is computed
depends on its shape and the backend, see `Strategy`. Kernels are put together in full precision on every backend.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from jaxrepro.errors import check, unknown
from jaxrepro.layers.conv import IntOrPair, Padding, as_pair, conv2d, fitting_pads, with_parameters
from jaxrepro.layers.cpu import choose
from jaxrepro.layers.cpu.geometry import Geometry
from jaxrepro.layers.cpu.spectral import spectral_correlate
from jaxrepro.layers.steerable_basis import SteerableBasis, filters, padded_filters

Initializer = Callable[..., jax.Array]
Maps = tuple[jax.Array, ...]  # one [B, H, W, C] per scale, the smallest first


class Strategy(enum.StrEnum):
    """How a layer is computed; the results are equal but for rounding."""

    PADDED = "padded"  # a convolution per scale, its kernels filled up with zeros to the largest support
    CROPPED = "cropped"  # a convolution per scale, each with its own support
    SPECTRAL = "spectral"  # a product of Fourier coefficients per scale; unit strides and at most float32 only


def lift(
    images: jax.Array,
    weights: jax.Array,
    basis: SteerableBasis,
    strides: IntOrPair = 1,
    padding: Padding | None = None,
    strategy: Strategy | str | None = None,
) -> jax.Array:
    """Convolves images with the same kernels at every scale: y[s, o] = sum_c images[c] * kernel[s, c, o].

    Args:
      images: [..., H, W, I]; integers are promoted.
      weights: [basis.num_functions, I, O].
      basis: the fixed functions.
      strides: steps between windows, in space only: one number or (vertical, horizontal).
      padding: as for `conv2d` with a kernel of basis.kernel_size; half the kernel on each side where not given.
      strategy: chosen by backend, shape and dtype where not given.

    Returns:
      [..., H', W', S, O] of the dtype that `images` and `weights` promote to.

    Raises:
      UserError: shapes that do not fit the basis or each other, a strategy that does not exist or cannot do it.
    """
    flat = images.reshape(-1, *images.shape[-3:])
    maps = lift_to_maps(flat, weights, basis, strides, padding, strategy)
    return _stack(maps, images.shape[:-3])


def scale_conv(
    x: jax.Array,
    weights: jax.Array,
    basis: SteerableBasis,
    strides: IntOrPair = 1,
    padding: Padding | None = None,
    strategy: Strategy | str | None = None,
) -> jax.Array:
    """Convolves scale-space features: y[s, o] = sum_q sum_c x[s + q, c] * kernel[q, s, c, o].

    The sum over q runs over the scale of the output and num_taps - 1 larger ones; beyond the last scale there are
    zeros. With one tap, scale channels do not interact.

    Args:
      x: [..., H, W, S, I]; integers are promoted.
      weights: [basis.num_functions, num_taps, I, O].
      basis, strides, padding, strategy: as for `lift`.

    Returns:
      [..., H', W', S, O] of the dtype that `x` and `weights` promote to.

    Raises:
      UserError: as for `lift`.
    """
    check(x.ndim >= 4, f"x has shape {x.shape}; features on scale space are [..., H, W, S, C]")
    flat = x.reshape(-1, *x.shape[-4:])
    maps = tuple(flat[..., s, :] for s in range(flat.shape[3]))
    return _stack(scale_conv_maps(maps, weights, basis, strides, padding, strategy), x.shape[:-4])


def lift_to_maps(
    images: jax.Array,
    weights: jax.Array,
    basis: SteerableBasis,
    strides: IntOrPair = 1,
    padding: Padding | None = None,
    strategy: Strategy | str | None = None,
) -> Maps:
    """Does what `lift` does for one batch axis: [B, H, W, I] to S maps [B, H', W', O]."""
    count = basis.num_scales
    check(weights.ndim == 3, f"weights have shape {weights.shape}; those of a lifting layer are [functions, I, O]")
    return _correlate((images,) * count, (weights,) * count, basis, strides, padding, strategy)


def scale_conv_maps(
    maps: Maps,
    weights: jax.Array,
    basis: SteerableBasis,
    strides: IntOrPair = 1,
    padding: Padding | None = None,
    strategy: Strategy | str | None = None,
) -> Maps:
    """Does what `scale_conv` does with one map [B, H, W, I] per scale, to maps [B, H', W', O]."""
    found = len(maps)
    check(found == basis.num_scales, f"features have {found} scales; the basis has {basis.num_scales}")
    check(weights.ndim == 4, f"weights have shape {weights.shape}; those on scale space are [functions, taps, I, O]")
    num_functions, num_taps, _, num_out = weights.shape
    check(1 <= num_taps <= found, f"the layer has {num_taps} taps along scale; there are {found} scales")
    taps = [min(num_taps, found - s) for s in range(found)]
    inputs = tuple(maps[s] if n == 1 else jnp.concatenate(maps[s : s + n], axis=-1) for s, n in enumerate(taps))
    used = tuple(weights[:, :n].reshape(num_functions, -1, num_out) for n in taps)
    return _correlate(inputs, used, basis, strides, padding, strategy)


class SESConv(nn.Module):
    """Lifts images [..., H, W, I] to scale space [..., H', W', S, features]; see `lift`.

    Parameters: `kernel` [num_functions, I, features], `bias` [features], shared by all scales.

    Attributes:
      dtype: of the computation; None = what images and parameters promote to.
    """

    features: int
    basis: SteerableBasis
    strides: IntOrPair = 1
    padding: Padding | None = None
    use_bias: bool = True
    strategy: Strategy | str | None = None
    kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        shape = (self.basis.num_functions, images.shape[-1], self.features)
        options = (self.basis, self.strides, self.padding, self.strategy)
        return with_parameters(self, images, shape, lambda images, kernel: lift(images, kernel, *options))


class SESConvH(nn.Module):
    """Maps scale space [..., H, W, S, I] to scale space [..., H', W', S, features]; see `scale_conv`.

    Parameters: `kernel` [num_functions, num_taps, I, features], `bias` [features], shared by all scales.

    Attributes:
      dtype: of the computation; None = what features and parameters promote to.
    """

    features: int
    basis: SteerableBasis
    num_taps: int = 1
    strides: IntOrPair = 1
    padding: Padding | None = None
    use_bias: bool = True
    strategy: Strategy | str | None = None
    kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.basis.num_functions, self.num_taps, x.shape[-1], self.features)
        options = (self.basis, self.strides, self.padding, self.strategy)
        return with_parameters(self, x, shape, lambda x, kernel: scale_conv(x, kernel, *options))


class SESConv1x1(nn.Module):
    """Maps the channels of scale space [..., H, W, S, I] at every pixel and scale alike, to [..., H', W', S, features].

    Parameters: `kernel` [I, features], `bias` [features].

    Raises:
      UserError: features without an axis of scales.
    """

    features: int
    strides: IntOrPair = 1
    use_bias: bool = False
    kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        check(x.ndim >= 4, f"x has shape {x.shape}; features on scale space are [..., H, W, S, C]")
        down, right = as_pair(self.strides)
        x = x[..., ::down, ::right, :, :]
        return with_parameters(self, x, (x.shape[-1], self.features), jnp.matmul)


def choose_strategy(geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: Any) -> Strategy:
    """Returns how one scale of a layer is computed on the present backend.

    On CPU the measured table of `layers.cpu.choose` decides, and its bound on the memory: spectral where products of
    spectra are expected to train faster than convolutions in space and their coefficients are not much larger than the
    arrays themselves, else cropped. On accelerators nothing was measured: cropped has the least arithmetic.
    """
    if jax.default_backend() == "cpu" and choose.spectrum_pays(geometry, batch, num_in, num_out, dtype):
        return Strategy.SPECTRAL
    return Strategy.CROPPED


def _correlate(
    inputs: Sequence[jax.Array],
    weights: Sequence[jax.Array],
    basis: SteerableBasis,
    strides: IntOrPair,
    padding: Padding | None,
    strategy: Strategy | str | None,
) -> Maps:
    """One convolution per scale: inputs[s] [B, H, W, I_s] with weights[s] [F, I_s, O], each to [B, H', W', O]."""
    strides, strategy = as_pair(strides), _known(strategy)
    k, results = basis.kernel_size, []
    for s, (x, w) in enumerate(zip(inputs, weights, strict=True)):
        check(x.ndim == 4, f"a map has shape {x.shape}; it must be [B, H, W, C]")
        count, channels = w.shape[:2]
        check(count == basis.num_functions, f"weights are of {count} functions; the basis has {basis.num_functions}")
        check(channels == x.shape[-1], f"weights are for {channels} channels; the features have {x.shape[-1]}")
        x, w = promote_dtype(x, w)
        pads = fitting_pads(k // 2 if padding is None else padding, x.shape[1:3], (k, k), strides)
        constants = padded_filters(basis)[:, s] if strategy is Strategy.PADDED else filters(basis)[s]
        margin = (k - constants.shape[-1]) // 2
        pads = tuple((low - margin, high - margin) for low, high in pads)
        geometry = Geometry(x.shape[1:3], constants.shape[1:], strides, pads)
        results.append(_correlate_one(x, w, constants, geometry, strategy))
    return tuple(results)


def _correlate_one(
    x: jax.Array, weights: jax.Array, constants: np.ndarray, geometry: Geometry, strategy: Strategy | None
) -> jax.Array:
    """[B, H, W, I] with weights [F, I, O] of constants [F, k, k] to [B, H', W', O]."""
    chosen = strategy or choose_strategy(geometry, x.shape[0], *weights.shape[1:], x.dtype)
    if chosen is Strategy.SPECTRAL:
        check(geometry.strides == (1, 1), f"strategy 'spectral' cannot have strides {geometry.strides}; use 'cropped'")
        check(choose.is_narrow(x.dtype), f"strategy 'spectral' computes in float32; use 'cropped' for {x.dtype}")
        return spectral_correlate(x, weights, constants, geometry.pads)
    # Full precision: accelerators would round the constants to ten bits, which costs equivariance.
    kernel = jnp.einsum("nab,nio->abio", constants.astype(x.dtype), weights, precision="highest")
    return conv2d(x, kernel, geometry.strides, geometry.pads)


def _known(strategy: Strategy | str | None) -> Strategy | None:
    try:
        return None if strategy is None else Strategy(strategy)
    except ValueError:
        raise unknown("strategy", strategy, [str(s) for s in Strategy]) from None


def _stack(maps: Maps, batch: tuple[int, ...]) -> jax.Array:
    """S maps [B, H, W, C] as one array with the leading axes that B stands for: [..., H, W, S, C]."""
    y = jnp.stack(maps, axis=3)
    return y.reshape(*batch, *y.shape[1:])
