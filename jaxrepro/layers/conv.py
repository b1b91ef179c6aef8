"""The one convolution of every model: two-dimensional, NHWC, fast on CPU and plain XLA elsewhere.

    x = Conv(64, (3, 3), strides=2)(images)          # [B, 32, 32, 3] to [B, 16, 16, 64]
    x = ConvTranspose(3, (4, 4), strides=2)(x)       # back to [B, 32, 32, 3]
    y = conv2d(x, kernel, strides=2, padding="SAME") # the same without parameters

Parameters (`kernel` HWIO, `bias`) and results are those of `flax.linen.Conv` and `ConvTranspose`, so either can
read the other's checkpoints. On accelerators everything is `lax.conv_general_dilated` with XLA's gradients. On
CPU the gradients are written by hand (`jaxrepro.layers.cpu`), which forward-mode differentiation
(`jax.jvp`, `jax.jacfwd`, `jax.hessian`) does not support; `jax.grad` of `jax.grad` does work.
The backend is `jax.default_backend()` at the time of tracing.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from jaxrepro.layers import xla
from jaxrepro.layers.cpu import correlate as cpu
from jaxrepro.layers.cpu.geometry import Geometry

IntOrPair = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]
Initializer = Callable[..., jax.Array]


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    strides: IntOrPair = 1,
    padding: Padding = "SAME",
    kernel_dilation: IntOrPair = 1,
    feature_group_count: int = 1,
) -> jax.Array:
    """Convolves images with a kernel, without flipping it.

    Args:
      x: float [B, H, W, I]; integers are promoted.
      kernel: [h, w, I // feature_group_count, O].
      strides: steps between windows, one number or (vertical, horizontal).
      padding: "SAME", "VALID", one number for all sides, or (low, high) for each of height and width.
      kernel_dilation: distance between the taps of the kernel.
      feature_group_count: number of groups of channels that do not see each other.

    Returns:
      [B, H', W', O] of the dtype that `x` and `kernel` promote to; narrow floats are summed in float32.

    Raises:
      ValueError: shapes that do not fit each other, or a kernel that is larger than the padded images.
    """
    x, kernel = promote_dtype(x, kernel)
    _check_shapes(x, kernel, feature_group_count)
    strides, dilation = as_pair(strides), as_pair(kernel_dilation)
    size, kernel_size = x.shape[1:3], kernel.shape[:2]
    window = tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation))
    pads = fitting_pads(padding, size, window, strides)
    if _on_cpu() and feature_group_count == 1 and dilation == (1, 1):
        return cpu.correlate(x, kernel, Geometry(size, kernel_size, strides, pads))
    return xla.convolve(x, kernel, pads, strides, dilation, feature_group_count)


def conv_transpose2d(x: jax.Array, kernel: jax.Array, strides: IntOrPair = 1, padding: Padding = "SAME") -> jax.Array:
    """Transposed ("fractionally strided") convolution with the conventions of `lax.conv_transpose`.

    x is dilated with zeros by `strides`, padded, and convolved with the kernel, which is not flipped.

    Args:
      x: float [B, H, W, I]; integers are promoted.
      kernel: [h, w, I, O].
      strides: factor of enlargement, one number or (vertical, horizontal).
      padding: "SAME" (H' = H * stride), "VALID", or the padding of the dilated input: one number or
        (low, high) for each of height and width.

    Returns:
      [B, H', W', O] of the dtype that `x` and `kernel` promote to.

    Raises:
      ValueError: shapes that do not fit each other, or padding that cuts off everything.
    """
    x, kernel = promote_dtype(x, kernel)
    _check_shapes(x, kernel)
    strides, kernel_size = as_pair(strides), kernel.shape[:2]
    pads = tuple(
        _transposed_pads(padding, k, s) if isinstance(padding, str) else p
        for k, s, p in zip(kernel_size, strides, explicit_pads(padding, x.shape[1:3], kernel_size, strides))
    )
    dilated = tuple((n - 1) * s + 1 for n, s in zip(x.shape[1:3], strides))
    _check_fits(kernel_size, dilated, pads)
    if not _on_cpu():
        return lax.conv_transpose(x, kernel, strides, pads, dimension_numbers=xla.DIMENSION_NUMBERS)
    # The same map as the input gradient of the strided convolution with the flipped kernel.
    size = tuple(n + 1 + sum(p) - k for n, p, k in zip(dilated, pads, kernel_size))
    forward_pads = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel_size, pads))
    geometry = Geometry(size, kernel_size, strides, forward_pads)
    return cpu.correlate_adjoint(x, kernel[::-1, ::-1].swapaxes(2, 3), geometry)


class Conv(nn.Module):
    """`flax.linen.Conv` for images; see `conv2d` for the options.

    Maps float [..., H, W, I] to [..., H', W', features]; leading axes are batch axes.
    """

    features: int
    kernel_size: IntOrPair
    strides: IntOrPair = 1
    padding: Padding = "SAME"
    kernel_dilation: IntOrPair = 1
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*as_pair(self.kernel_size), x.shape[-1] // self.feature_group_count, self.features)
        options = (self.strides, self.padding, self.kernel_dilation, self.feature_group_count)
        return with_parameters(self, x, shape, lambda *given: _with_one_batch_axis(conv2d, *given, *options))


class ConvTranspose(nn.Module):
    """`flax.linen.ConvTranspose` for images; see `conv_transpose2d` for the options.

    Maps float [..., H, W, I] to [..., H', W', features]; leading axes are batch axes.
    """

    features: int
    kernel_size: IntOrPair
    strides: IntOrPair = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape, options = (*as_pair(self.kernel_size), x.shape[-1], self.features), (self.strides, self.padding)
        return with_parameters(self, x, shape, lambda *given: _with_one_batch_axis(conv_transpose2d, *given, *options))


def with_parameters(
    layer: nn.Module, x: jax.Array, shape: Sequence[int], function: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Returns function(x, kernel), plus the bias where a layer has one; inside its compact method.

    Args:
      layer: has `features`, `use_bias`, `kernel_init`, `bias_init`, `dtype` and `param_dtype`, as those of flax.
      shape: of its parameter `kernel`; `bias` is [features].
      function: of x and kernel in the dtype of the computation.
    """
    kernel = layer.param("kernel", layer.kernel_init, tuple(shape), layer.param_dtype)
    bias = layer.param("bias", layer.bias_init, (layer.features,), layer.param_dtype) if layer.use_bias else None
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=layer.dtype)
    y = function(x, kernel)
    return y if bias is None else y + bias


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def as_pair(value: IntOrPair | None) -> tuple[int, int]:
    """One number for both axes, or one for each."""
    if value is None:  # flax's spelling of 1
        return (1, 1)
    pair = (value, value) if isinstance(value, Integral) else tuple(value)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"expected one positive number or a pair (height, width), got {value!r}")
    return pair


def explicit_pads(padding: Padding, size: Sequence[int], window: Sequence[int], strides: Sequence[int]):
    """Returns ((top, bottom), (left, right)) for every way to write a padding."""
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding is {padding!r}; use 'SAME', 'VALID', a number, or two (low, high) pairs")
        return tuple((int(low), int(high)) for low, high in lax.padtype_to_pads(size, window, strides, padding))
    if isinstance(padding, Integral):
        return ((padding, padding), (padding, padding))
    pads = tuple((p, p) if isinstance(p, Integral) else tuple(p) for p in padding)
    if len(pads) != 2 or any(len(p) != 2 for p in pads):
        raise ValueError(f"padding is {padding!r}; use 'SAME', 'VALID', a number, or two (low, high) pairs")
    return pads


def fitting_pads(padding: Padding, size: Sequence[int], window: Sequence[int], strides: Sequence[int]):
    """Returns `explicit_pads`, with which a window fits into images at least once.

    Raises:
      ValueError: it does not.
    """
    pads = explicit_pads(padding, size, window, strides)
    _check_fits(window, size, pads)
    return pads


def _check_fits(window: Sequence[int], size: Sequence[int], pads: Sequence[tuple[int, int]]) -> None:
    if any(n + sum(p) < k for n, p, k in zip(size, pads, window)):
        raise ValueError(f"a window of {window[0]}×{window[1]} does not fit into {size[0]}×{size[1]} padded by {pads}")


def _check_shapes(x: jax.Array, kernel: jax.Array, groups: int = 1) -> None:
    if (x.ndim, kernel.ndim) != (4, 4) or x.shape[3] != kernel.shape[2] * groups:
        inputs = "I" if groups == 1 else f"I / {groups}"
        raise ValueError(f"x is {x.shape} and kernel {kernel.shape}; they must be [B, H, W, I] and [h, w, {inputs}, O]")


def _transposed_pads(padding: str, kernel_size: int, stride: int) -> tuple[int, int]:
    """The padding of the dilated input that `lax.conv_transpose` means by a word, along one axis."""
    if padding == "VALID":
        return kernel_size - 1, max(kernel_size, stride) - 1
    total = kernel_size + stride - 2
    low = kernel_size - 1 if stride > kernel_size - 1 else math.ceil(total / 2)
    return low, total - low


def _with_one_batch_axis(function: Callable[..., jax.Array], x: jax.Array, *others: Any) -> jax.Array:
    y = function(x.reshape(-1, *x.shape[-3:]), *others)
    return y.reshape(*x.shape[:-3], *y.shape[1:])
