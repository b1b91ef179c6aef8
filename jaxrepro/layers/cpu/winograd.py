"""Winograd's minimal filtering with unit strides: 36 multiplications where the sum of 3×3 and 4×4 kernels has 144.

    y      = correlate(x, kernel, geometry)        # [B, H, W, I], [r, r, I, O] to [B, H', W', O]
    dw     = kernel_gradient(x, g, geometry)
    dx, dw = gradients(x, kernel, g, geometry)     # sharing the transform of g

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), F(m×m, r×r). The result is cut into tiles
of m × m pixels; of each tile d of n × n pixels, n = m + r - 1, that such a tile depends on,

    tile of y = A^T [(G kernel G^T) ⊙ (B^T d B)] A

where ⊙, summed over channels, is one matrix product for each of the n² points. The gradients are the same bilinear map
read backwards, with A, B and G transposed. Transforms are sums of slices, which XLA fuses into one pass each; the
matrices come from interpolation at n - 1 points and infinity. The paper takes 0, ±1, ±2 for m = 4 and r = 3; with
0, ±3/4, ±3/2 results are twice as accurate (2e-6 of the largest number) for the same additions; so for m = 3 and r = 4,
whose tiles are the same. r = 2 serves strided convolutions, whose pixels are put together in blocks first
(`strided.py`).
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrepro.layers.cpu import chunks
from jaxrepro.layers.cpu.geometry import Geometry, Pair

CHUNK_BYTES = 16 << 20  # of the transformed maps of some images, by trial: their products gain by many tiles

_POINTS = {(2, 2): "0 1", (4, 2): "0 3/4 -3/4 3/2", (2, 3): "0 1 -1", (4, 3): "0 3/4 -3/4 3/2 -3/2"}
_POINTS[3, 4] = _POINTS[4, 3]


class Form(NamedTuple):
    """F(m×m, r×r)."""

    m: int
    r: int

    @property
    def n(self) -> int:
        return self.m + self.r - 1


class _Matrices(NamedTuple):
    """`output` is A^T [m, n], `kernel` G [n, r], `input` B^T [n, n]."""

    output: np.ndarray
    kernel: np.ndarray
    input: np.ndarray


def applies(geometry: Geometry) -> bool:
    return geometry.kernel in ((2, 2), (3, 3), (4, 4)) and geometry.strides == (1, 1)


def correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the correlation float32 [B, H', W', O] of x [B, H, W, I] with a kernel [r, r, I, O]."""
    form = form_of(geometry)
    weights = _kernel_to_points(kernel, form)

    def correlate_chunk(x: jax.Array) -> jax.Array:
        products = jnp.einsum("nti,nio->nto", _tiles_to_points(x, geometry, form), weights)
        return _points_to_result(products, geometry, form)

    return chunks.map_images(correlate_chunk, _split(len(x), geometry, *kernel.shape[2:]), x)


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the gradient [r, r, I, O] of the kernel from x [B, H, W, I] and that of the result, g [B, H', W', O]."""
    form = form_of(geometry)

    def gradient_of_chunk(x: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.einsum("nti,nto->nio", _tiles_to_points(x, geometry, form), _result_to_points(g, geometry, form))

    split = _split(len(x), geometry, x.shape[3], g.shape[3])
    return _points_to_kernel(chunks.sum_over_images(gradient_of_chunk, split, x, g), form)


def gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of x [B, H, W, I] and of the kernel [r, r, I, O] from that of the result."""
    form = form_of(geometry)
    weights = _kernel_to_points(kernel, form)

    def gradients_of_chunk(x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        g = _result_to_points(g, geometry, form)
        dx = _points_to_tiles(jnp.einsum("nto,nio->nti", g, weights), geometry, form)
        return dx, jnp.einsum("nti,nto->nio", _tiles_to_points(x, geometry, form), g)

    split = _split(len(x), geometry, *kernel.shape[2:])
    dx, dw = chunks.map_and_sum(gradients_of_chunk, split, x, g)
    return dx, _points_to_kernel(dw, form)


def form_of(geometry: Geometry) -> Form:
    """Returns the form in use: m is 3 for 4×4 kernels; else 2 for results of at most 2 × 2 pixels, or 4."""
    r = geometry.kernel[0]
    return Form(3 if r == 4 else 2 if max(geometry.out) <= 2 else 4, r)


def extra_bytes(batch: int, geometry: Geometry, num_in: int, num_out: int) -> int:
    """Returns the size of transformed kernels and of those transformed maps that exist at a time.

    Copies on the way, such as maps transformed along one axis, took up to 0.8 times as much again.
    """
    form = form_of(geometry)
    split, per_image = _split(batch, geometry, num_in, num_out), _bytes_per_image(geometry, num_in, num_out)
    return 2 * 4 * form.n**2 * num_in * num_out + chunks.bytes_at_a_time(split, batch, per_image)


def waste(geometry: Geometry) -> float:
    """Returns computed pixels by wanted ones: results that are no multiple of the tile are computed to its end."""
    form = form_of(geometry)
    return math.prod(form.m * tiles / n for tiles, n in zip(_num_tiles(geometry, form), geometry.out))


def _bytes_per_image(geometry: Geometry, num_in: int, num_out: int) -> int:
    form = form_of(geometry)
    return 4 * form.n**2 * math.prod(_num_tiles(geometry, form)) * (num_in + num_out)


def _split(batch: int, geometry: Geometry, num_in: int, num_out: int) -> chunks.Split:
    return chunks.split_for(batch, _bytes_per_image(geometry, num_in, num_out), CHUNK_BYTES)


def _num_tiles(geometry: Geometry, form: Form) -> Pair:
    return tuple(-(-n // form.m) for n in geometry.out)


def _tiles_to_points(x: jax.Array, geometry: Geometry, form: Form) -> jax.Array:
    """B^T d B of every tile d: [B, H, W, C] to [n * n, B * tiles, C]."""
    matrix, (rows, columns), (m, r) = _matrices(form).input, _num_tiles(geometry, form), form
    n, batch, channels = form.n, x.shape[0], x.shape[3]
    # The barriers keep passes apart that XLA would fuse into one, with a test or a second sum for every number.
    x = lax.optimization_barrier(_fit(x, [low for low, _ in geometry.pads], (rows * m + r - 1, columns * m + r - 1)))
    down = [lax.slice_in_dim(x, i, i + (rows - 1) * m + 1, m, axis=1) for i in range(n)]
    x = lax.optimization_barrier(jnp.stack(_combine(matrix, down)))  # [n, B, rows, columns * m + r - 1, C]
    across = [lax.slice_in_dim(x, j, j + (columns - 1) * m + 1, m, axis=3) for j in range(n)]
    return jnp.stack(_combine(matrix, across), axis=1).reshape(n * n, batch * rows * columns, channels)


def _points_to_tiles(points: jax.Array, geometry: Geometry, form: Form) -> jax.Array:
    """The transpose of `_tiles_to_points`: overlapping tiles are added up."""
    matrix, (rows, columns) = _matrices(form).input.T, _num_tiles(geometry, form)
    (m, _), n, channels = form, form.n, points.shape[2]
    points = points.reshape(n, n, -1, rows, columns, channels)
    x = _add_overlapping(_combine(matrix, points), m, axis=2)  # [n, B, (rows + 1) * m, columns, C]
    top, left = (low for low, _ in geometry.pads)
    x = lax.optimization_barrier(_fit(x, (-top,), geometry.size[:1], first_axis=2))
    x = _add_overlapping(_combine(matrix, x), m, axis=2)  # [B, H, (columns + 1) * m, C]
    return _fit(x, (-left,), geometry.size[1:], first_axis=2)


def _add_overlapping(parts: Sequence[jax.Array], m: int, axis: int) -> jax.Array:
    """Adds pixel i of tile t, parts[i] at t along `axis`, to pixel m * t + i: [..., T, .] to [..., (T + 1) * m, .]."""
    ends = [[(0, 0, 0)] * parts[0].ndim for _ in range(2)]
    ends[0][axis], ends[1][axis] = (0, 1, 0), (1, 0, 0)
    zero = jnp.zeros((), parts[0].dtype)
    phases = [lax.pad(part, zero, ends[0]) for part in parts[:m]]
    for i, part in enumerate(parts[m:]):
        phases[i] += lax.pad(part, zero, ends[1])
    x = jnp.stack(phases, axis + 1)
    return x.reshape(*x.shape[:axis], x.shape[axis] * m, *x.shape[axis + 2 :])


def _points_to_result(points: jax.Array, geometry: Geometry, form: Form) -> jax.Array:
    """A^T M A of the products M of every tile: [n * n, B * tiles, O] to [B, H', W', O]."""
    matrix, (rows, columns) = _matrices(form).output, _num_tiles(geometry, form)
    (m, _), n, channels = form, form.n, points.shape[2]
    points = points.reshape(n, n, -1, rows, columns, channels)
    points = lax.optimization_barrier(jnp.stack(_combine(matrix, points)))
    y = jnp.stack(_combine(matrix, points.swapaxes(0, 1)), axis=4)  # [m, B, rows, columns, m, O]
    y = y.transpose(1, 2, 0, 3, 4, 5).reshape(-1, rows * m, columns * m, channels)
    return y[:, : geometry.out[0], : geometry.out[1]]


def _result_to_points(g: jax.Array, geometry: Geometry, form: Form) -> jax.Array:
    """The transpose of `_points_to_result`: [B, H', W', O] to [n * n, B * tiles, O]."""
    matrix, (rows, columns), (m, _) = _matrices(form).output.T, _num_tiles(geometry, form), form
    n, batch, channels = form.n, g.shape[0], g.shape[3]
    g = _fit(g, (0, 0), (rows * m, columns * m)).reshape(batch, rows, m, columns * m, channels)
    g = lax.optimization_barrier(jnp.stack(_combine(matrix, [g[:, :, i] for i in range(m)])))
    g = g.reshape(n, batch, rows, columns, m, channels)
    points = jnp.stack(_combine(matrix, [g[..., j, :] for j in range(m)]), axis=1)
    return points.reshape(n * n, batch * rows * columns, channels)


def _kernel_to_points(kernel: jax.Array, form: Form) -> jax.Array:
    """G kernel G^T: [r, r, I, O] to [n * n, I, O]."""
    matrix = _matrices(form).kernel
    points = jnp.stack(_combine(matrix, kernel))
    return jnp.stack(_combine(matrix, points.swapaxes(0, 1)), axis=1).reshape(-1, *kernel.shape[2:])


def _points_to_kernel(points: jax.Array, form: Form) -> jax.Array:
    """The transpose of `_kernel_to_points`."""
    matrix, n = _matrices(form).kernel.T, form.n
    kernel = jnp.stack(_combine(matrix, points.reshape(n, n, *points.shape[1:])))
    return jnp.stack(_combine(matrix, kernel.swapaxes(0, 1)), axis=1)


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array] | jax.Array) -> list[jax.Array]:
    """The matrix [r, c] times c arrays (or an array of that length), written as sums without zeros: r arrays."""
    results = []
    for row in matrix:
        terms = [parts[i] if c == 1 else np.float32(c) * parts[i] for i, c in enumerate(row) if c]
        results.append(functools.reduce(jnp.add, terms))
    return results


def _fit(x: jax.Array, lows: Sequence[int], size: Sequence[int], first_axis: int = 1) -> jax.Array:
    """Pads (or cuts) the axes from `first_axis` on by `lows` before, and after to reach `size`."""
    pads = [(0, 0, 0)] * x.ndim
    for axis, (low, new) in enumerate(zip(lows, size), start=first_axis):
        pads[axis] = (low, new - low - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), pads)


@functools.cache
def _matrices(form: Form) -> _Matrices:
    """Cook and Toom's construction: products of polynomials from their values at n - 1 points and at infinity."""
    points = [Fraction(p) for p in _POINTS[form].split()]
    output = [[p**i for p in points] + [Fraction(i == form.m - 1)] for i in range(form.m)]
    kernel, inputs = [], []
    for point in points:
        others = [q for q in points if q != point]
        scale = math.prod(point - q for q in others)
        kernel.append([point**i / scale for i in range(form.r)])
        inputs.append([*_polynomial(others), Fraction(0)])
    kernel.append([Fraction(i == form.r - 1) for i in range(form.r)])
    inputs.append(_polynomial(points))
    return _Matrices(*(np.array(rows, float) for rows in (output, kernel, inputs)))


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(-root * c for c in coefficients), Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled)]
    return coefficients
