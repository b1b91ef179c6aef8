"""Strided convolutions as dense ones of blocks of pixels, in which every channel of every pixel is a channel.

dense = blocks_of(geometry)
y = correlate(pixels_to_blocks(x, geometry), kernel_to_blocks(kernel, geometry), dense)
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers.cpu.geometry import Geometry


def blocks_of(geometry: Geometry) -> Geometry:
    """Returns the geometry of the dense convolution: blocks of strides[0] × strides[1] pixels, no padding."""
    taps = tuple(-(-k // s) for k, s in zip(geometry.kernel, geometry.strides))
    size = tuple(n + t - 1 for n, t in zip(geometry.out, taps))
    return Geometry(size, taps, (1, 1), ((0, 0), (0, 0)))


def pixels_to_blocks(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns x [B, H, W, I], padded, as blocks [B, H / strides[0], W / strides[1], strides[0] * strides[1] * I]."""
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
