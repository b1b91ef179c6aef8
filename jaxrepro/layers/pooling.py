"""Max and average pooling whose gradients are fast on CPU.

    x = max_pool(x, (2, 2), strides=(2, 2))                    # [B, 32, 32, C] to [B, 16, 16, C]
    x = avg_pool(x, (3, 3), strides=(2, 2), padding="SAME")

Signatures and results are those of `flax.linen.max_pool` and `avg_pool` for images, and on accelerators these
functions are flax's own. XLA's gradient of a pooling window (select-and-scatter) is slow on CPU: there windows
remember the place of their maximum, and means are sums of strided slices. Of several equal maxima the first one of the
window gets the gradient. A maximum is that of the numbers that can be compared: on CPU a NaN behind a number is passed
over, where flax's pooling returns it.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers.cpu.max_pool import max_pool as overlapping_max_pool
from jaxrepro.layers.scale_space import scale_max_pool

Padding = str | Sequence[tuple[int, int]]


def max_pool(
    x: jax.Array, window_shape: tuple[int, int], strides: tuple[int, int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Takes the maximum of each window.

    Args:
      x: float [B, H, W, C].
      window_shape: (height, width) of the window.
      strides: steps between windows; (1, 1) where not given.
      padding: "SAME", "VALID" or (low, high) for each of height and width; padding never wins.

    Returns:
      [B, H', W', C] of the dtype of `x`.
    """
    if jax.default_backend() != "cpu":
        return nn.max_pool(x, window_shape, strides, padding)
    height, width = window_shape
    strides = tuple(strides or (1, 1))
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], window_shape, strides, padding)
    if height == width and strides == (height, width):
        return scale_max_pool(x[..., None, :], height, padding)[..., 0, :]
    pads = tuple((int(low), int(high)) for low, high in padding)
    return overlapping_max_pool(x, (height, width), strides, pads)


def avg_pool(
    x: jax.Array,
    window_shape: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """Takes the mean of each window; arguments as for `max_pool`.

    Args:
      count_include_pad: whether padding counts as zeros (flax's default) or is left out of the mean.
    """
    if jax.default_backend() != "cpu":
        return nn.avg_pool(x, window_shape, strides, padding, count_include_pad)
    total = jnp.sum(_windows(x, window_shape, strides, padding, 0), axis=0)
    if count_include_pad:
        return total / math.prod(window_shape)
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return total / jnp.sum(_windows(ones, window_shape, strides, padding, 0), axis=0)


def _windows(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int] | None, padding: Padding, fill: float
) -> jax.Array:
    """The elements of every window: [B, H, W, C] to [h * w, B, H', W', C]."""
    strides = strides or (1, 1)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    x = lax.pad(x, jnp.asarray(fill, x.dtype), ((0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)))
    batch, height, width, channels = x.shape
    rows, columns = ((n - k) // s + 1 for n, k, s in zip((height, width), window, strides))
    if tuple(window) == tuple(strides):
        x = x[:, : rows * window[0], : columns * window[1]]
        x = x.reshape(batch, rows, window[0], columns, window[1], channels)
        return x.transpose(2, 4, 0, 1, 3, 5).reshape(-1, batch, rows, columns, channels)
    limit = ((rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1)
    return jnp.stack(
        [
            lax.slice(x, (0, i, j, 0), (batch, i + limit[0], j + limit[1], channels), (1, *strides, 1))
            for i in range(window[0])
            for j in range(window[1])
        ]
    )
