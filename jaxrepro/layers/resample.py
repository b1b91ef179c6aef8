"""Resizing as two small matrices, one per spatial axis, for networks that look at an image at several sizes.

    rows = fit(linear_matrix(28, 18, align_corners=True), 28)    # shrink to 18, put back into the middle of 28
    y = resample(x, rows)                                        # [B, 28, 28, C] to [B, 28, 28, C]

A matrix [out, in] is a constant of NumPy. Two products with it are faster than gathering taps, on CPU and on
accelerators, and so are their gradients, which are products with the transpose. Shrinking is not antialiased.
"""

import jax
import jax.numpy as jnp
import numpy as np


def linear_matrix(num_in: int, num_out: int, *, align_corners: bool) -> np.ndarray:
    """Returns float32 [num_out, num_in]: linear interpolation as in PyTorch's `interpolate`.

    Args:
      align_corners: whether the outermost samples coincide; otherwise the outer edges of the outermost samples do, and
        what lies beyond the first and last sample takes their value.
    """
    i = np.arange(num_out)
    if align_corners:
        position = i * (num_in - 1) / max(num_out - 1, 1)
    else:
        position = np.clip((i + 0.5) * num_in / num_out - 0.5, 0, num_in - 1)
    low = np.minimum(position.astype(int), num_in - 1)
    high = np.minimum(low + 1, num_in - 1)
    matrix = np.zeros((num_out, num_in))
    np.add.at(matrix, (i, low), 1 - (position - low))
    np.add.at(matrix, (i, high), position - low)
    return matrix.astype(np.float32)


def nearest_matrix(num_in: int, num_out: int, factor: float) -> np.ndarray:
    """Returns float32 [num_out, num_in]: output i copies input floor(i / factor)."""
    source = np.minimum((np.arange(num_out) / factor).astype(int), num_in - 1)
    return np.eye(num_in, dtype=np.float32)[source]


def fit(matrix: np.ndarray, size: int) -> np.ndarray:
    """Returns a matrix [n, in] with zero rows added or rows cut off at both ends, [size, in].

    Half of the difference, rounded towards minus infinity, is added at the start: of an odd number of rows that are cut
    off the larger half goes there, of an odd number that are added the smaller.
    """
    before = (size - len(matrix)) // 2
    fitted = np.zeros((size, matrix.shape[1]), matrix.dtype)
    source = matrix[max(-before, 0) : max(-before, 0) + size]
    start = max(before, 0)
    fitted[start : start + len(source)] = source
    return fitted


def resample(x: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Applies a matrix [out, in] to both spatial axes: [B, in, in, C] to [B, out, out, C], of the dtype of `x`."""
    matrix = jnp.asarray(matrix, x.dtype)
    x = jnp.einsum("oh,bhwc->bowc", matrix, x)
    return jnp.einsum("ow,bhwc->bhoc", matrix, x)
