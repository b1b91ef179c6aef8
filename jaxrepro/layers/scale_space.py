"""Features on the group of scalings and translations: arrays [B, H, W, S, C], one scale channel per filter width.

    y = max_over_scales(x)                       # [B, H, W, S, C] to [B, H, W, C]
    y = scale_max_pool(x, 2)                     # halves H and W, keeps S
    y = scale_max_pool(x, 2, over_scales=True)   # both at once, cheaper than one after the other

Enlarging an image enlarges its features and shifts them along S. Whatever acts on every scale channel alike
commutes with that shift: pointwise functions, pooling over space, and batch normalisation with statistics over
(B, H, W, S), which is that of any `BatchNorm` that reduces over all axes but the last. The maximum over S does
not see the shift, but for what enters and leaves at the ends of the scale axis.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrepro.errors import check

Pads = tuple[tuple[int, int], tuple[int, int]]


def max_over_scales(x: jax.Array) -> jax.Array:
    """Takes the maximum over the scale axis ("projection"): [..., H, W, S, C] to [..., H, W, C]."""
    return scale_max_pool(x, 1, over_scales=True)


def scale_max_pool(
    x: jax.Array, window: int, padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)), over_scales: bool = False
) -> jax.Array:
    """Takes the maximum of every window of window × window pixels, without overlap.

    Args:
      x: float [..., H, W, S, C]; leading axes are batch axes.
      window: height, width and stride of the windows.
      padding: (low, high) for height and width; padding never wins. What no whole window covers is dropped.
      over_scales: whether a window also takes in all scales.

    Returns:
      [..., H', W', S, C], or [..., H', W', C] over scales. The gradient goes to the first of equal maxima.

    Raises:
      UserError: fewer than four axes.
    """
    check(x.ndim >= 4, f"x has shape {x.shape}; features on scale space are [..., H, W, S, C]")
    pads = tuple((int(low), int(high)) for low, high in padding)
    y = _max_pool(x.reshape(-1, *x.shape[-4:]), window, pads, over_scales)
    return y.reshape(*x.shape[:-4], *y.shape[1:])


# XLA's own gradients of a maximum compare, count and divide in several passes over the largest arrays of a
# network. Here the place of each maximum is kept, in a byte where that is enough, and the gradient written once.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: jax.Array, window: int, padding: Pads, over_scales: bool) -> jax.Array:
    return _max_and_place(x, window, padding, over_scales)[0]


def _max_and_place(x: jax.Array, window: int, padding: Pads, over_scales: bool) -> tuple[jax.Array, jax.Array]:
    """The maxima, and which element of its window each one is, counted scale by scale and row by row.

    Each scale is sliced off first: where `x` was just stacked, XLA then reads the parts and never builds the whole.
    """
    shape = x.shape
    scales = [_windows(x[:, :, :, s], window, padding) for s in range(shape[3])]
    dtype = np.min_scalar_type(window**2 * shape[3] - 1)
    if over_scales:
        return _first_maximum([element for windows in scales for element in windows], dtype)
    maxima, places = zip(*[_first_maximum(windows, dtype) for windows in scales])
    return jnp.stack(maxima, axis=3), jnp.stack(places, axis=3)


def _first_maximum(elements: list[jax.Array], dtype: np.dtype) -> tuple[jax.Array, jax.Array]:
    maximum, place = elements[0], jnp.zeros(elements[0].shape, dtype)
    for number, element in enumerate(elements[1:], start=1):
        larger = element > maximum
        maximum, place = jnp.where(larger, element, maximum), jnp.where(larger, dtype.type(number), place)
    return maximum, place


def _max_pool_gradient(
    window: int, padding: Pads, over_scales: bool, saved: tuple[jax.Array, tuple[int, ...]], g: jax.Array
) -> tuple[jax.Array]:
    place, shape = saved
    rows, columns = g.shape[1:3]
    numbers = np.arange(window**2, dtype=place.dtype).reshape(window, 1, window, 1)
    parts = []
    for s in range(shape[3]):
        here, part = (place, g) if over_scales else (place[:, :, :, s], g[:, :, :, s])
        offset = numbers + place.dtype.type(window**2 * s * over_scales)
        part = jnp.where(here[:, :, None, :, None] == offset, part[:, :, None, :, None], 0)
        part = part.reshape(len(g), rows * window, columns * window, shape[4])
        parts.append(_fit(part, [-low for low, _ in padding], shape[1:3], 0))
    return (jnp.stack(parts, axis=3),)


_max_pool.defvjp(
    lambda x, *options: (lambda y, place: (y, (place, x.shape)))(*_max_and_place(x, *options)), _max_pool_gradient
)


def _windows(x: jax.Array, window: int, padding: Pads) -> list[jax.Array]:
    """The elements of all windows of [B, H, W, C], each [B, H', W', C], row by row."""
    rows, columns = (((size + sum(pads)) // window) for size, pads in zip(x.shape[1:3], padding))
    x = _fit(x, [low for low, _ in padding], (rows * window, columns * window), -np.inf)
    x = x.reshape(len(x), rows, window, columns, window, x.shape[3])
    return [x[:, :, i, :, j] for i in range(window) for j in range(window)]


def _fit(x: jax.Array, lows: Sequence[int], size: Sequence[int], fill: float) -> jax.Array:
    """Pads [B, H, W, C] by `lows` before, and after it pads or cuts to reach `size`."""
    spatial = [(low, new - low - old, 0) for low, new, old in zip(lows, size, x.shape[1:3])]
    return lax.pad(x, jnp.asarray(fill, x.dtype), ((0, 0, 0), *spatial, (0, 0, 0)))
