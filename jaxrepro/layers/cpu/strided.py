"""Strided convolutions as dense ones of blocks of pixels, in which every channel of every pixel is a channel.

    dense = blocks_of(geometry)
    y = correlate(pixels_to_blocks(x, geometry), kernel_to_blocks(kernel, geometry), dense)
    dx = correlate_adjoint(g, kernel, geometry)

Gradients of the input come in blocks: without zeros between the pixels, which XLA's fast CPU path cannot take.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers import xla
from jaxrepro.layers.cpu.geometry import Geometry


def blocks_of(geometry: Geometry) -> Geometry:
    """Returns the geometry of the dense convolution: blocks of strides[0] × strides[1] pixels, no padding."""
    taps = tuple(-(-k // s) for k, s in zip(geometry.kernel, geometry.strides))
    size = tuple(n + t - 1 for n, t in zip(geometry.out, taps))
    return Geometry(size, taps, (1, 1), ((0, 0), (0, 0)))


def pixels_to_blocks(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns x [B, H, W, I], padded, as the blocks [B, *blocks_of(geometry).size, strides[0] * strides[1] * I]."""
    (sh, sw), (rows, columns) = geometry.strides, blocks_of(geometry).size
    spatial = [
        (low, blocks * s - n - low, 0)
        for (low, _), blocks, s, n in zip(geometry.pads, (rows, columns), geometry.strides, geometry.size)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *spatial, (0, 0, 0)))
    x = x.reshape(-1, rows, sh, columns, sw, x.shape[3]).transpose(0, 1, 3, 2, 4, 5)
    return lax.optimization_barrier(x.reshape(-1, rows, columns, math.prod(x.shape[3:])))


def kernel_to_blocks(kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the kernel [h, w, I, O], filled up with zeros, as [h / sh, w / sw, sh * sw * I, O]."""
    (sh, sw), taps = geometry.strides, blocks_of(geometry).kernel
    spatial = [(0, t * s - k) for t, s, k in zip(taps, geometry.strides, geometry.kernel)]
    kernel = jnp.pad(kernel, (*spatial, (0, 0), (0, 0)))
    kernel = kernel.reshape(taps[0], sh, taps[1], sw, *kernel.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(*taps, -1, kernel.shape[-1])


def blocks_to_kernel(kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The transpose of `kernel_to_blocks`."""
    (sh, sw), (rows, columns) = geometry.strides, kernel.shape[:2]
    kernel = kernel.reshape(rows, columns, sh, sw, -1, kernel.shape[3]).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(rows * sh, columns * sw, *kernel.shape[4:])
    return kernel[: geometry.kernel[0], : geometry.kernel[1]]


def correlate_adjoint(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the transpose of a correlation in its input: [B, H', W', O] with [h, w, I, O] to [B, H, W, I].

    One dense convolution of g, XLA's, yields per position the strides[0] × strides[1] block of x it owns. Along one
    axis, with p the low pad and blocks that begin d pixels early,
    dx[s t + r - d] = sum_a g[t - a] kernel[s a + r + p - d].
    Where a stride does not divide the kernel it multiplies more than patches do.
    """
    num_in, num_out = kernel.shape[2:]
    sh, sw = geometry.strides
    axes = [_axis(*a) for a in zip(geometry.kernel, geometry.strides, geometry.pads, geometry.size, geometry.out)]
    taps = tuple(axis.taps for axis in axes)
    kernel = jnp.pad(kernel, (axes[0].kernel_pads, axes[1].kernel_pads, (0, 0), (0, 0)))
    kernel = kernel.reshape(taps[0], sh, taps[1], sw, num_in, num_out)
    kernel = kernel.transpose(0, 2, 5, 1, 3, 4)[::-1, ::-1].reshape(*taps, num_out, sh * sw * num_in)
    y = xla.convolve(g, kernel, [axis.pads for axis in axes])
    rows, columns = y.shape[1:3]
    y = y.reshape(-1, rows, columns, sh, sw, num_in).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(-1, rows * sh, columns * sw, num_in)
    top, left = (axis.before for axis in axes)
    return y[:, top : top + geometry.size[0], left : left + geometry.size[1]]


class _Axis(NamedTuple):
    """How one axis of an input gradient is cut into blocks."""

    before: int  # pixels of the first block that lie before the image
    taps: int  # blocks that one element of g reaches
    kernel_pads: tuple[int, int]
    pads: tuple[int, int]  # of g


def _axis(kernel: int, stride: int, pads: tuple[int, int], size: int, size_g: int) -> _Axis:
    """Of all places where blocks can begin, the one with the fewest taps; of these, the one with the fewest blocks."""

    def begin(before: int) -> _Axis:
        shift = pads[0] - before
        first, last = -((stride - 1 + shift) // stride), (kernel - 1 - shift) // stride
        filled = (-(stride * first + shift), stride * (last + 1) + shift - kernel)
        count = -(-(size + before) // stride)
        return _Axis(before, last - first + 1, filled, (last, count - first - size_g))

    return min(map(begin, range(stride)), key=lambda axis: (axis.taps, axis.before))
