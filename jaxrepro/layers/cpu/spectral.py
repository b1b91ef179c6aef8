"""Convolution as products of Fourier coefficients; for maps of few pixels.

    y = spectral_correlate(x, weights, filters, pads)   # [B, H, W, I], [F, I, O], [F, k, k] to [B, H', W', O]
    y = correlate_by_spectrum(x, kernel, pads)          # the same with any kernel [h, w, I, O]

The kernel sum_i weights[i] filters[i] never exists in space: its coefficients are the same sum over those of the
filters, which are constants. And since the maps are small, the transforms are products with constant real matrices
rather than fast transforms: they need more arithmetic, but they put the frequencies first and the channels last
without a transposition, take any period, and work on real numbers alone. So the whole convolution, and every
derivative of it, is a handful of matrix products.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Pads = Sequence[tuple[int, int]]


# From this number of pixels on, rows and columns are transformed one after the other: less arithmetic, one more pass.
_SEPARABLE_PIXELS = 144


class _Linear(NamedTuple):
    """Constant matrices float32 [n, M, N] that map [n, N, K] to [n, M, K], and their transposes."""

    matrices: np.ndarray
    transposes: np.ndarray


class _Constants(NamedTuple):
    """What one convolution multiplies by, in order; f counts frequencies, 2 stands for real and imaginary parts."""

    analysis: tuple[_Linear, ...]  # pixels [H * W, K] to coefficients [f * 2, K]
    synthesis: tuple[_Linear, ...]  # coefficients [f * 2, K] to pixels [H' * W', K]
    filters: tuple[_Linear, ...]  # weights [F, K] to conjugate coefficients as 2×2 matrices, [f * 2 * 2, K]


def spectral_correlate(x: jax.Array, weights: jax.Array, filters: np.ndarray, pads: Pads) -> jax.Array:
    """Convolves images with sum_i weights[i] filters[i], without flipping it, with stride 1.

    Args:
      x: float [B, H, W, I].
      weights: [F, I, O], of the dtype of `x`.
      filters: constants [F, k, k] with k odd.
      pads: (low, high) for height and width; negative ones cut.

    Returns:
      [B, H', W', O] of the dtype of `x`, within a few float32 roundings of the convolution in space.
    """
    batch, height, width, num_in = x.shape
    num_out, k = weights.shape[2], filters.shape[1]
    out = tuple(n + sum(p) - k + 1 for n, p in zip((height, width), pads))
    starts = tuple(k // 2 - low for low, _ in pads)
    key = (np.ascontiguousarray(filters, np.float32).tobytes(), filters.shape)
    constants = _constants(key, (height, width), out, starts)

    pixels = x.astype(jnp.float32).transpose(1, 2, 0, 3).reshape(height * width, -1)
    coefficients = _apply(constants.analysis, pixels).reshape(-1, 2, batch, num_in)
    coefficients = coefficients.transpose(0, 2, 1, 3).reshape(-1, batch, 2 * num_in)
    kernel = _apply(constants.filters, weights.astype(jnp.float32))
    kernel = kernel.reshape(-1, 2, 2, num_in, num_out).transpose(0, 1, 3, 2, 4).reshape(-1, 2 * num_in, 2 * num_out)
    products = _product(coefficients, kernel).reshape(-1, batch, 2, num_out)
    y = _apply(constants.synthesis, products.transpose(0, 2, 1, 3))
    return y.reshape(*out, batch, num_out).transpose(2, 0, 1, 3).astype(x.dtype)


def correlate_by_spectrum(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Convolves x [B, H, W, I] with a kernel [h, w, I, O], without flipping it, with stride 1: [B, H', W', O].

    Every tap is a filter of its own; kernels that are not odd squares stand in the top left of one.
    """
    height, width, num_in, num_out = kernel.shape
    side = max(height, width) | 1
    filters = np.zeros((height, width, side, side), np.float32)
    rows, columns = np.indices((height, width))
    filters[rows, columns, rows, columns] = 1
    pads = tuple((low, high + side - k) for (low, high), k in zip(pads, (height, width)))
    weights = kernel.reshape(height * width, num_in, num_out)
    return spectral_correlate(x, weights, filters.reshape(-1, side, side), pads)


def spectral_bytes(batch: int, size: tuple[int, int], kernel_size: int, num_in: int, num_out: int) -> int:
    """Returns about what the coefficients of maps and kernels take, each of them in two orders of axes."""
    frequencies = math.prod(n + min(kernel_size // 2, n - 1) for n in size) // 2 + 1
    return 2 * 4 * frequencies * (2 * batch * (num_in + num_out) + 4 * num_in * num_out)


def _apply(stages: tuple[_Linear, ...], x: jax.Array) -> jax.Array:
    for stage in stages:
        count, _, size = stage.matrices.shape
        x = _transform(*stage, x.reshape(count, size, -1))
    return x


# Products whose gradients are written out: XLA's transposes of these put the axes in an order that costs a copy of
# every large array.
@jax.custom_vjp
def _transform(matrices: np.ndarray, transposes: np.ndarray, x: jax.Array) -> jax.Array:
    """Constant matrices, given with their transposes, times x: [n, M, N] with [n, N, K] to [n, M, K]."""
    return jnp.einsum("umn,unk->umk", matrices, x)


_transform.defvjp(
    lambda matrices, transposes, x: (_transform(matrices, transposes, x), (matrices, transposes)),
    lambda constants, g: (None, None, _transform(*constants[::-1], g)),
)


@jax.custom_vjp
def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    """One matrix product per frequency: [f, B, I] with [f, I, O] to [f, B, O]."""
    return jnp.einsum("fbi,fio->fbo", x, y)


_product.defvjp(
    lambda x, y: (_product(x, y), (x, y)),
    lambda saved, g: (jnp.einsum("fbo,fio->fbi", g, saved[1]), jnp.einsum("fbi,fbo->fio", saved[0], g)),
)


@functools.lru_cache(maxsize=64)
def _constants(
    filters: tuple[bytes, tuple[int, ...]], size: tuple[int, int], out: tuple[int, int], starts: tuple[int, int]
) -> _Constants:
    """The constants for filters whose centre lies on pixel `starts` of the map at the first output.

    The period is the smallest for which no tap of a filter meets a copy of the map, where taps that never meet
    the map itself are left out. Of each two conjugate frequencies one is kept, with twice the share in the result.
    """
    values = np.frombuffer(filters[0], np.float32).reshape(filters[1]).astype(float)
    radius = values.shape[1] // 2
    reach = [min(radius, max(n - 1 - a, a + m - 1)) for n, m, a in zip(size, out, starts)]
    period = [max(n - a, a + m, n) + r for n, m, a, r in zip(size, out, starts, reach)]
    frequencies = np.stack(np.meshgrid(*map(np.arange, period), indexing="ij"), -1).reshape(-1, 2)
    separable = size[0] * size[1] >= _SEPARABLE_PIXELS
    order = (0, 1) if separable else (period[1], 1)  # separable transforms need whole columns of frequencies
    rank, conjugate_rank = frequencies @ order, (-frequencies % period) @ order
    kept = rank <= conjugate_rank
    shares = np.where(rank == conjugate_rank, 1, 2)[kept] / len(frequencies)
    angles = 2 * np.pi * frequencies[kept] / period  # [f, 2]

    taps = tuple(slice(radius - r, radius + r + 1) for r in reach)
    at_taps = _waves(angles, [np.arange(-r, r + 1) for r in reach])
    spectra = np.einsum("fab,nab->fn", at_taps, values[:, *taps])
    products = _linear(np.stack([spectra.real, spectra.imag, -spectra.imag, spectra.real], 1))
    positions = [a + np.arange(m) for m, a in zip(out, starts)]
    if separable:
        grid, shares = angles.reshape(period[0], -1, 2), shares.reshape(period[0], -1)
        return _Constants(*_separable(grid[:, 0, 0], grid[0, :, 1], shares[0], size, positions), (products,))
    at_input = _waves(angles, [np.arange(n) for n in size]).reshape(len(angles), -1).conj()
    at_output = (_waves(angles, positions) * shares[:, None, None]).reshape(len(angles), -1).T
    analysis = _linear(np.stack([at_input.real, at_input.imag], 1))
    synthesis = _linear(np.stack([at_output.real, -at_output.imag], 2).reshape(len(at_output), -1))
    return _Constants((analysis,), (synthesis,), (products,))


def _separable(
    rows: np.ndarray, columns: np.ndarray, shares: np.ndarray, size: tuple[int, int], positions: list[np.ndarray]
) -> tuple[tuple[_Linear, ...], tuple[_Linear, ...]]:
    """Transforms along H and then W, and back along W and then H, for all pairs of row and column angles."""
    down = np.exp(-1j * np.outer(rows, np.arange(size[0])))  # [u, H]
    across = np.exp(-1j * np.outer(columns, np.arange(size[1])))  # [v, W]
    back = (np.exp(1j * np.outer(columns, positions[1])) * shares[:, None]).T  # [W', v]
    up = np.exp(1j * np.outer(positions[0], rows))  # [H', u]
    across = np.stack([across.real, -across.imag, across.imag, across.real], 1)
    across = across.reshape(len(columns), 2, 2, size[1])  # [v, 2, 2, W]
    back = np.stack([back.real, -back.imag, back.imag, back.real])
    back = back.reshape(2, 2, -1, len(columns)).transpose(0, 2, 3, 1)  # [2, W', v, 2]
    analysis = (
        _linear(np.stack([down.real, down.imag], 1)),
        _linear(across.reshape(2 * len(columns), -1), len(rows)),
    )
    synthesis = (
        _linear(back.reshape(-1, 2 * len(columns)), len(rows)),
        _linear(np.stack([up.real, -up.imag], 2).reshape(len(up), -1)),
    )
    return analysis, synthesis


def _waves(angles: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
    """exp(i angle · position) on a grid: angles [f, 2] and two lists of positions to [f, rows, columns]."""
    rows, columns = (np.exp(1j * np.outer(angles[:, d], positions[d])) for d in (0, 1))
    return rows[:, :, None] * columns[:, None, :]


def _linear(matrix: np.ndarray, count: int = 1) -> _Linear:
    """`count` times the same map; the matrix is [..., N], its rows counted over all leading axes."""
    stack = np.tile(matrix.reshape(-1, matrix.shape[-1]).astype(np.float32), (count, 1, 1))
    return _Linear(stack, np.ascontiguousarray(stack.swapaxes(1, 2)))
