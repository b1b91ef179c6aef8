"""Convolutions as matrix products of patches, a few images at a time."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers.cpu import chunks
from jaxrepro.layers.cpu.geometry import Geometry


def correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the correlation [B, H', W', O] of x [B, H, W, I] with a kernel [h, w, I, O]."""
    if geometry.size == (1, 1):
        return jnp.einsum("bi,uvio->buvo", x[:, 0, 0], _taps_of_a_pixel(kernel, geometry))
    num_out = kernel.shape[3]
    kernel = kernel.reshape(-1, num_out)

    def correlate_chunk(x: jax.Array) -> jax.Array:
        return (_columns(x, geometry) @ kernel).reshape(-1, *geometry.out, num_out)

    return chunks.map_images(correlate_chunk, _chunk_count(x, geometry), x)


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the gradient [h, w, I, O] of the kernel from x [B, H, W, I] and that of the result, g [B, H', W', O]."""
    num_in, num_out = x.shape[3], g.shape[3]
    if geometry.strides == (1, 1) and num_out < num_in:
        # With unit strides x and g may change places; patches of the narrower one are the smaller copy.
        return _kernel_gradient(g, x, geometry.mirrored)[::-1, ::-1].swapaxes(2, 3)
    return _kernel_gradient(x, g, geometry)


def extra_bytes(batch: int, geometry: Geometry, channels: int) -> int:
    """Returns the size of the patches of one chunk."""
    if geometry.size == (1, 1):
        return 0
    per_image = _bytes_per_image(geometry, channels)
    return batch * per_image // chunks.count_for(batch, per_image)


def _kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    num_in, num_out = x.shape[3], g.shape[3]
    if geometry.size == (1, 1):
        kernel = jax.ShapeDtypeStruct((*geometry.kernel, num_in, num_out), x.dtype)
        transposed = jax.linear_transpose(lambda kernel: _taps_of_a_pixel(kernel, geometry), kernel)
        return transposed(jnp.einsum("bi,buvo->uvio", x[:, 0, 0], g))[0]

    def gradient_of_chunk(x: jax.Array, g: jax.Array) -> jax.Array:
        # In this order; the product the other way round takes up to twice as long.
        return lax.dot_general(g.reshape(-1, num_out), _columns(x, geometry), (((0,), (0,)), ((), ())))

    total = chunks.sum_over_images(gradient_of_chunk, _chunk_count(x, geometry), x, g)
    return total.reshape(num_out, *geometry.kernel, num_in).transpose(1, 2, 3, 0)


def _taps_of_a_pixel(kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns [H', W', I, O]: of a map of one pixel, the tap through which each place of the result sees it, or zero.

    Every other product would be one with the padding. Along one axis, with p the low pad, result t has tap p - s t.
    """
    lengths = [(m - 1) * s + 1 for m, s in zip(geometry.out, geometry.strides)]
    lows = [low - k + 1 for k, (low, _) in zip(geometry.kernel, geometry.pads)]
    spatial = [(low, m - low - k, 0) for low, m, k in zip(lows, lengths, geometry.kernel)]
    flipped = lax.pad(kernel[::-1, ::-1], jnp.zeros((), kernel.dtype), (*spatial, (0, 0, 0), (0, 0, 0)))
    return flipped[:: geometry.strides[0], :: geometry.strides[1]]


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
    if geometry.kernel == (1, 1):
        return 1  # nothing is copied
    return chunks.count_for(x.shape[0], _bytes_per_image(geometry, x.shape[3], x.dtype.itemsize))


def _bytes_per_image(geometry: Geometry, channels: int, itemsize: int = 4) -> int:
    return math.prod(geometry.out) * geometry.num_taps * channels * itemsize
