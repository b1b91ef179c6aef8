"""Two-dimensional convolutions that are fast on XLA's CPU backend, at top level and inside loops.

XLA derives the gradients of a convolution itself, and on CPU the layout it picks for them can cost a factor
of forty (inside `lax.scan`) or turn a large kernel into a scalar loop. Here stride-1 convolutions of many taps become
products of spectra (`jaxrepro.layers.spectral`), and of all others the three bilinear maps are written by hand, each
the gradient of the others, so derivatives of every order stay fast:

    correlate(x, kernel, geometry)       y  = x * kernel
    correlate_adjoint(g, kernel, ...)    dx = the same map, transposed in x
    kernel_gradient(x, g, geometry)      dw = the same map, transposed in kernel

`jaxrepro.layers.conv` is the public face. Arrays are NHWC, kernels HWIO. Forward-mode differentiation
(`jax.jvp`) is not supported, as for every `jax.custom_vjp`. Narrow floats are computed in float32.
"""

import enum
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers.spectral import correlate_by_spectrum

Pair = tuple[int, int]
DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")

# Patches of a batch are built in pieces of this size, which stay in the cache. Tried once with 1..16 MiB on
# the 3x3 and 7x7 shapes of benchmarks/conv.py (2 idle cores, 32 MiB L3): up to 3x faster than all at once.
_CHUNK_BYTES = 8 << 20


class Strategy(enum.StrEnum):
    """How one correlation is computed."""

    LAX = "lax"  # XLA's own forward convolution
    COLUMNS = "columns"  # patches times kernel as a matrix product, a few images at a time
    SPECTRUM = "spectrum"  # products of Fourier coefficients, gradients included


class Geometry(NamedTuple):
    """The static shape of a convolution: sizes are (height, width), pads ((top, bottom), (left, right))."""

    size: Pair
    kernel: Pair
    strides: Pair
    pads: tuple[Pair, Pair]

    @property
    def out(self) -> Pair:
        """Height and width of the result."""
        return tuple((n + sum(p) - k) // s + 1 for n, k, s, p in zip(self.size, self.kernel, self.strides, self.pads))

    @property
    def num_taps(self) -> int:
        return math.prod(self.kernel)


def _strategy(geometry: Geometry, batch: int, in_channels: int, out_channels: int) -> Strategy:
    """Chooses how to correlate; the limits were found with the shapes of benchmarks/conv.py on two cores.

    A matrix product of patches beats XLA's convolution only with unit strides and a middling number of channels (or a
    large kernel): with fewer, the copy of the patches costs more than it saves; with more, XLA's own is as good.
    """
    if geometry.kernel == (1, 1):
        return Strategy.COLUMNS
    if _spectrum_pays(geometry, batch, in_channels, out_channels):
        return Strategy.SPECTRUM
    middling = 48 <= in_channels < 128 or (geometry.num_taps >= 25 and 16 <= in_channels < 128)
    if geometry.strides == (1, 1) and out_channels >= 48 and middling:
        return Strategy.COLUMNS
    return Strategy.LAX


def _spectrum_pays(geometry: Geometry, batch: int, in_channels: int, out_channels: int) -> bool:
    """Whether the products of spectra save enough multiplications to pay for the transforms.

    Those of the kernel cost the same for any number of images, those of the pixels grow with the size of the map, and
    either of them weighs more the fewer channels there are to multiply.
    """
    if geometry.strides != (1, 1) or batch < 8 or max(geometry.size) > 128:
        return False
    period = math.prod(n + k // 2 for n, k in zip(geometry.size, geometry.kernel))
    saving = math.prod(geometry.out) * geometry.num_taps / (2 * period)
    if math.prod(geometry.size) <= 200 and min(in_channels, out_channels) >= 16:
        return saving >= 2.5
    return saving >= (8 if in_channels >= 3 else 24)


def correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolution as in neural networks (no flip): [B, H, W, I] with [h, w, I, O] to [B, H', W', O]."""
    if _strategy(geometry, len(x), *kernel.shape[2:]) is Strategy.SPECTRUM:
        # Its gradients are fast as they stand, and share the spectra with each other and with the result.
        return correlate_by_spectrum(x, kernel, geometry.pads)
    return _correlate_in_space(x, kernel, geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate_in_space(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return _in_float32(_correlate, geometry, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def correlate_adjoint(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Transpose of `correlate` in x: [B, H', W', O] with [h, w, I, O] to [B, H, W, I]."""
    return _in_float32(_correlate_adjoint, geometry, g, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Transpose of `correlate` in kernel: [B, H, W, I] with [B, H', W', O] to [h, w, I, O]."""
    return _in_float32(_kernel_gradient, geometry, x, g)


_correlate_in_space.defvjp(
    lambda x, kernel, geometry: (_correlate_in_space(x, kernel, geometry), (x, kernel)),
    lambda geometry, saved, g: (
        correlate_adjoint(g, saved[1], geometry),
        kernel_gradient(saved[0], g, geometry),
    ),
)
correlate_adjoint.defvjp(
    lambda g, kernel, geometry: (correlate_adjoint(g, kernel, geometry), (g, kernel)),
    lambda geometry, saved, x: (correlate(x, saved[1], geometry), kernel_gradient(x, saved[0], geometry)),
)
kernel_gradient.defvjp(
    lambda x, g, geometry: (kernel_gradient(x, g, geometry), (x, g)),
    lambda geometry, saved, kernel: (
        correlate_adjoint(saved[1], kernel, geometry),
        correlate(saved[0], kernel, geometry),
    ),
)


def _in_float32(function, geometry: Geometry, a: jax.Array, b: jax.Array) -> jax.Array:
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return function(a.astype(wide), b.astype(wide), geometry).astype(a.dtype)


def _correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    strategy = _strategy(geometry, len(x), *kernel.shape[2:])
    if strategy is Strategy.SPECTRUM:
        return correlate_by_spectrum(x, kernel, geometry.pads)
    if strategy is Strategy.COLUMNS:
        return _correlate_by_columns(x, kernel, geometry)
    return lax.conv_general_dilated(x, kernel, geometry.strides, geometry.pads, dimension_numbers=DIMENSION_NUMBERS)


def _correlate_adjoint(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """A dense correlation of g that yields, per position, the strides[0] x strides[1] block of x it owns.

    Splitting the kernel by phase avoids dilating g with zeros, which XLA's fast CPU path does not support.
    Along one axis, with p the low pad: dx[s m + r - p] = sum_a g[m - a] kernel[s a + r].
    """
    h, w, num_in, num_out = kernel.shape
    (sh, sw), strides = geometry.strides, geometry.strides
    taps = (-(-h // sh), -(-w // sw))
    kernel = jnp.pad(kernel, ((0, taps[0] * sh - h), (0, taps[1] * sw - w), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps[0], sh, taps[1], sw, num_in, num_out)
    kernel = kernel.transpose(0, 2, 5, 1, 3, 4)[::-1, ::-1].reshape(*taps, num_out, sh * sw * num_in)
    first = [pads[0] // s for pads, s in zip(geometry.pads, strides)]
    last = [(pads[0] + n - 1) // s for pads, s, n in zip(geometry.pads, strides, geometry.size)]
    pads = tuple((t - 1 - a, b - n + 1) for t, a, b, n in zip(taps, first, last, g.shape[1:3]))
    blocks = Geometry(g.shape[1:3], taps, (1, 1), pads)
    y = _correlate(g, kernel, blocks)
    if strides == (1, 1):
        return y
    rows, columns = blocks.out
    y = y.reshape(-1, rows, columns, sh, sw, num_in).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(-1, rows * sh, columns * sw, num_in)
    top, left = (pads[0] - a * s for pads, a, s in zip(geometry.pads, first, strides))
    return y[:, top : top + geometry.size[0], left : left + geometry.size[1]]


def _kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """From patches, not by XLA's convolution: the layout that its autodiff picks is many times slower in a loop
    (benchmarks/conv.py), and one with the batch as channels was slower there on most of the shapes tried."""
    num_in, num_out = x.shape[3], g.shape[3]
    if geometry.strides == (1, 1) and num_out < num_in:
        # With unit strides x and g may change places; patches of the narrower one are the smaller copy.
        pads = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(geometry.kernel, geometry.pads))
        mirrored = _kernel_gradient_by_columns(g, x, geometry._replace(size=geometry.out, pads=pads))
        return mirrored[::-1, ::-1].swapaxes(2, 3)
    return _kernel_gradient_by_columns(x, g, geometry)


def _correlate_by_columns(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    num_out = kernel.shape[3]
    kernel = kernel.reshape(-1, num_out)

    def correlate_chunk(chunk: jax.Array) -> jax.Array:
        return (_columns(chunk, geometry) @ kernel).reshape(-1, *geometry.out, num_out)

    count = _chunk_count(x, geometry)
    if count == 1:
        return correlate_chunk(x)
    x = _split(x, count)
    y = jnp.zeros((*x.shape[:2], *geometry.out, num_out), x.dtype)

    def body(i: jax.Array, y: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(y, correlate_chunk(_chunk(x, i)), i, axis=1)

    return lax.fori_loop(0, count, body, y).reshape(-1, *geometry.out, num_out)


def _kernel_gradient_by_columns(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    num_in, num_out = x.shape[3], g.shape[3]

    def gradient_of_chunk(x: jax.Array, g: jax.Array) -> jax.Array:
        # In this order; the product the other way round takes up to twice as long.
        return lax.dot_general(g.reshape(-1, num_out), _columns(x, geometry), (((0,), (0,)), ((), ())))

    count = _chunk_count(x, geometry)
    if count == 1:
        total = gradient_of_chunk(x, g)
    else:
        x, g = _split(x, count), _split(g, count)
        total = lax.fori_loop(
            0,
            count,
            lambda i, total: total + gradient_of_chunk(_chunk(x, i), _chunk(g, i)),
            jnp.zeros((num_out, geometry.num_taps * num_in), x.dtype),
        )
    return total.reshape(num_out, *geometry.kernel, num_in).transpose(1, 2, 3, 0)


def _columns(x: jax.Array, geometry: Geometry) -> jax.Array:
    """All patches of x as rows: [B, H, W, I] to [B * H' * W', h * w * I]."""
    (h, w), (sh, sw), (rows, columns) = geometry.kernel, geometry.strides, geometry.out
    channels = x.shape[3]
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, ((0, 0, 0), (*geometry.pads[0], 0), (*geometry.pads[1], 0), (0, 0, 0)))
    last_row, last_column = (rows - 1) * sh + 1, (columns - 1) * sw + 1
    # One axis after the other, not fused: the second pass then copies runs of w * I numbers instead of I.
    across = [lax.slice_in_dim(x, j, j + last_column, sw, axis=2) for j in range(w)]
    x = lax.optimization_barrier(lax.concatenate(across, 3))
    down = [lax.slice_in_dim(x, i, i + last_row, sh, axis=1) for i in range(h)]
    return lax.concatenate(down, 3).reshape(-1, h * w * channels)


def _chunk_count(x: jax.Array, geometry: Geometry) -> int:
    """Into how many chunks of images the patches of x are split; it divides the batch."""
    if geometry.kernel == (1, 1):
        return 1  # nothing is copied
    batch, num_devices = x.shape[0], jax.device_count()
    per_device = max(batch // math.gcd(batch, num_devices), 1)
    patch_bytes = batch * math.prod(geometry.out) * geometry.num_taps * x.shape[3] * x.dtype.itemsize
    wanted = min(-(-patch_bytes // (_CHUNK_BYTES * num_devices)), per_device)
    return next(n for n in range(max(wanted, 1), per_device + 1) if per_device % n == 0)


def _split(x: jax.Array, count: int) -> jax.Array:
    """[B, ...] to [B / count, count, ...]: a batch sharded over devices stays sharded on its first axis."""
    return x.reshape(-1, count, *x.shape[1:])


def _chunk(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False)
