"""Convolutions as matrix products of patches, a few images at a time."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers.cpu import chunks
from jaxrepro.layers.cpu.geometry import Geometry

# How a kernel's gradient is multiplied. Patches of WIDE numbers are transposed beforehand (rows that lie powers of two
# apart share places of the cache); those of less than NARROW times the outputs come first. Both by trial on two cores;
# `benchmarks/conv_costs.py --only=kernel_gradient` shows what another value does.
WIDE, NARROW = 2048, 4
CHUNK_BYTES = 8 << 20  # of the patches of some images, by trial: their copies gain by the cache
MOST_BYTES = 128 << 20  # of the patches of one image that are summed to an input gradient
# Patches of at most FEW_CHANNELS and at least MANY_TAPS a row, to at most MOST_OUTPUTS, take longer to copy than to
# multiply. There PLACES neighbours in a row of at least FEW_COLUMNS share one patch, which is PLACES - 1 pixels wider.
# By trial on two cores; a number that is not finite spoils results and taps of up to PLACES - 1 neighbours, too.
FEW_CHANNELS, MANY_TAPS, MOST_OUTPUTS, FEW_COLUMNS, PLACES = 4, 7, 128, 12, 4
# For a kernel's gradient such patches are cut into smaller chunks, where two of them go together: what computes g, in a
# network, then fills one chunk while another is multiplied (`benchmarks/training.py --only="SESN's CNN"`).
SHARED_CHUNK_BYTES = 2 << 20


def correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the correlation [B, H', W', O] of x [B, H, W, I] with a kernel [h, w, I, O]."""
    if not _places_share(geometry, *kernel.shape[2:]):
        return _correlate_each(x, kernel, geometry)
    y = _correlate_each(x, _kernel_of_places(kernel), _of_shared(geometry))
    y = y.reshape(*y.shape[:3], PLACES, kernel.shape[3])
    return y.reshape(*y.shape[:2], y.shape[2] * PLACES, y.shape[4])[:, :, : geometry.out[1]]


def _correlate_each(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Each place has a patch of its own."""
    if geometry.size == (1, 1):
        return jnp.einsum("bi,uvio->buvo", x[:, 0, 0], _taps_of_a_pixel(kernel, geometry))
    num_out = kernel.shape[3]
    kernel = kernel.reshape(-1, num_out)

    def correlate_chunk(x: jax.Array) -> jax.Array:
        return (_columns(x, geometry) @ kernel).reshape(-1, *geometry.out, num_out)

    return chunks.map_images(correlate_chunk, _split(x, geometry, CHUNK_BYTES), x)


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the gradient [h, w, I, O] of the kernel from x [B, H, W, I] and that of the result, g [B, H', W', O]."""
    num_in, num_out = x.shape[3], g.shape[3]
    if geometry.strides == (1, 1) and num_out < num_in:
        # With unit strides x and g may change places; patches of the narrower one are the smaller copy.
        return _kernel_gradient(g, x, geometry.mirrored)[::-1, ::-1].swapaxes(2, 3)
    return _kernel_gradient(x, g, geometry)


def correlate_adjoint(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the transpose of `correlate` in x: [B, H', W', O] with [h, w, I, O] to [B, H, W, I].

    One product yields what every place of g sends through every tap; what meets at a pixel is summed, axis by axis.
    """
    (rows, columns), (num_in, num_out) = geometry.out, kernel.shape[2:]
    taps = kernel.transpose(3, 0, 1, 2).reshape(num_out, -1)

    def adjoint_of_chunk(g: jax.Array) -> jax.Array:
        sent = (g.reshape(-1, num_out) @ taps).reshape(-1, rows, columns, *geometry.kernel, num_in)
        x = _sum_taps(sent, 1, 3, geometry.strides[0])
        x = _sum_taps(x, 2, 3, geometry.strides[1])
        # Cut off what was sent to the padding, and add pixels that no place saw.
        ends = [(-low, low + n - m, 0) for (low, _), n, m in zip(geometry.pads, geometry.size, x.shape[1:3])]
        return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *ends, (0, 0, 0)))

    per_image = _bytes_per_image(geometry, num_in, g.dtype.itemsize)
    groups = min(-(-per_image // MOST_BYTES), num_in)
    if groups > 1:
        return lax.concatenate([correlate_adjoint(g, w, geometry) for w in jnp.array_split(kernel, groups, 2)], 3)
    return chunks.map_images(adjoint_of_chunk, chunks.split_for(g.shape[0], per_image, CHUNK_BYTES), g)


def extra_bytes(batch: int, geometry: Geometry, channels: int, itemsize: int = 4) -> int:
    """Returns the size of the patches of x [B, H, W, channels] that a correlation has at a time.

    A compiler keeps up to as much again for copies on the way. Not counted: a kernel's gradient has larger chunks where
    the kernel is large, of twice its size, and that of shared patches is wider, (w + PLACES - 1) / w * PLACES times.
    """
    if geometry.size == (1, 1):
        return 0
    per_image = _bytes_per_image(geometry, channels, itemsize)
    return chunks.bytes_at_a_time(chunks.split_for(batch, per_image, CHUNK_BYTES), batch, per_image)


def _kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    num_in, num_out = x.shape[3], g.shape[3]
    if not _places_share(geometry, num_in, num_out):
        return _kernel_gradient_of(x, g, geometry)
    g = jnp.pad(g, ((0, 0), (0, 0), (0, -g.shape[2] % PLACES), (0, 0)))
    wide = _kernel_gradient_of(x, g, _of_shared(geometry), PLACES)
    wide = wide.reshape(*wide.shape[:3], PLACES, num_out)
    return sum(wide[:, i : i + geometry.kernel[1], :, i] for i in range(PLACES))


def _kernel_gradient_of(x: jax.Array, g: jax.Array, geometry: Geometry, places: int = 1) -> jax.Array:
    """Returns [h, w, I, places * O]; a patch of `geometry` is that of so many (`places`) neighbours in a row of g."""
    num_in, num_out = x.shape[3], places * g.shape[3]
    if geometry.size == (1, 1):
        kernel = jax.ShapeDtypeStruct((*geometry.kernel, num_in, num_out), x.dtype)
        transposed = jax.linear_transpose(lambda kernel: _taps_of_a_pixel(kernel, geometry), kernel)
        return transposed(jnp.einsum("bi,buvo->uvio", x[:, 0, 0], g))[0]

    width = geometry.num_taps * num_in
    patches_first = width >= WIDE or width < NARROW * num_out

    def gradient_of_chunk(x: jax.Array, g: jax.Array) -> jax.Array:
        if places > 1:  # Not fused: what computes this chunk of g would write it into the wider rows number by number.
            g = lax.optimization_barrier(g)
        columns, g = _columns(x, geometry), g.reshape(-1, num_out)
        if width >= WIDE:
            return lax.optimization_barrier(columns.T) @ g
        factors = (columns, g) if patches_first else (g, columns)
        return lax.dot_general(*factors, (((0,), (0,)), ((), ())))

    whole = x.dtype.itemsize * width * num_out
    split = _split(x, geometry, max(CHUNK_BYTES, 2 * whole))  # every chunk reads and writes the sum
    if places > 1:
        small = _split(x, geometry, max(SHARED_CHUNK_BYTES, 2 * whole))
        split = small if small.together > 1 else split
    total = chunks.sum_over_images(gradient_of_chunk, split, x, g)
    if patches_first:
        return total.reshape(*geometry.kernel, num_in, num_out)
    return total.reshape(num_out, *geometry.kernel, num_in).transpose(1, 2, 3, 0)


def _places_share(geometry: Geometry, num_in: int, num_out: int) -> bool:
    """Whether neighbouring places share patches of num_in channels."""
    few = num_in <= FEW_CHANNELS and num_out <= MOST_OUTPUTS and geometry.kernel[1] >= MANY_TAPS
    dense = geometry.strides == (1, 1) and geometry.size != (1, 1)
    return few and dense and geometry.out[1] >= FEW_COLUMNS


def _of_shared(geometry: Geometry) -> Geometry:
    """The geometry of shared patches; the last of a row may reach further right, for places that are cut off again."""
    (h, w), (left, right) = geometry.kernel, geometry.pads[1]
    pads = (geometry.pads[0], (left, right + -geometry.out[1] % PLACES))
    return geometry._replace(kernel=(h, w + PLACES - 1), strides=(1, PLACES), pads=pads)


def _kernel_of_places(kernel: jax.Array) -> jax.Array:
    """Returns the kernel of shared patches, [h, w', I, PLACES * O]: every place's taps where it stands in the patch."""
    ends = [((0, 0, 0), (i, PLACES - 1 - i, 0), (0, 0, 0), (0, 0, 0)) for i in range(PLACES)]
    return lax.concatenate([lax.pad(kernel, jnp.zeros((), kernel.dtype), e) for e in ends], 3)


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
    x = lax.optimization_barrier(lax.concatenate(across, 3)) if w > 1 else across[0]
    down = [lax.slice_in_dim(x, i, i + last_row, sh, axis=1) for i in range(h)]
    return lax.concatenate(down, 3).reshape(-1, h * w * channels)


def _sum_taps(sent: jax.Array, axis: int, taps_axis: int, stride: int) -> jax.Array:
    """Transposes one axis of patches: what place t sent through tap k is added to pixel t * stride + k.

    The result has whole blocks of `stride` pixels at `axis`, and no `taps_axis`.
    """
    places, taps = sent.shape[axis], sent.shape[taps_axis]
    blocks = places + (taps - 1) // stride

    def placed(tap: int) -> jax.Array:
        shift = tap // stride
        ends = [(0, 0, 0)] * (sent.ndim - 1)
        ends[axis] = (shift, blocks - places - shift, 0)
        return lax.pad(lax.index_in_dim(sent, tap, taps_axis, keepdims=False), jnp.zeros((), sent.dtype), ends)

    parts = [placed(tap) for tap in range(taps)]
    phases = [sum(parts[phase::stride]) if phase < taps else jnp.zeros_like(parts[0]) for phase in range(stride)]
    x = jnp.stack(phases, axis + 1)
    return x.reshape(*x.shape[:axis], blocks * stride, *x.shape[axis + 2 :])


def _split(x: jax.Array, geometry: Geometry, chunk_bytes: int) -> chunks.Split:
    if geometry.kernel == (1, 1):
        return chunks.Split(1)  # nothing is copied
    return chunks.split_for(x.shape[0], _bytes_per_image(geometry, x.shape[3], x.dtype.itemsize), chunk_bytes)


def _bytes_per_image(geometry: Geometry, channels: int, itemsize: int = 4) -> int:
    return math.prod(geometry.out) * geometry.num_taps * channels * itemsize
