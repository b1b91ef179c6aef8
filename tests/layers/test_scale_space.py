"""Maxima over windows and scales: values by NumPy, gradients to the place of the maximum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.layers import max_over_scales, scale_max_pool

# window, padding, over scales, size
CASES = {
    "2, even": (2, ((0, 0), (0, 0)), False, (6, 8)),
    "2, odd": (2, ((0, 0), (0, 0)), False, (7, 5)),
    "2, over scales": (2, ((0, 0), (0, 0)), True, (6, 8)),
    "4, last pool at 28": (4, ((2, 2), (2, 2)), False, (7, 7)),
    "8, last pool at 56, over scales": (8, ((2, 2), (2, 2)), True, (14, 14)),
    "3, uneven padding": (3, ((1, 0), (2, 1)), True, (8, 9)),
    "1, over scales": (1, ((0, 0), (0, 0)), True, (3, 2)),
    "16, more than a byte": (16, ((0, 0), (0, 0)), True, (16, 16)),
}


def reference(x, window, padding, over_scales):
    """The pooled array, and for each of its elements the index into x of the maximum."""
    rows, columns = ((n + sum(p)) // window for n, p in zip(x.shape[1:3], padding))
    batch, _, _, scales, channels = x.shape
    shape = (batch, rows, columns, 1 if over_scales else scales, channels)
    pooled, places = np.empty(shape), np.empty(shape, object)
    for b, i, j, s, c in np.ndindex(shape):
        top, left = i * window - padding[0][0], j * window - padding[1][0]
        candidates = [
            (b, y, z, t, c)
            for y in range(max(top, 0), min(top + window, x.shape[1]))
            for z in range(max(left, 0), min(left + window, x.shape[2]))
            for t in (range(scales) if over_scales else [s])
        ]
        places[b, i, j, s, c] = max(candidates, key=lambda index: x[index])
        pooled[b, i, j, s, c] = x[places[b, i, j, s, c]]
    return (pooled[:, :, :, 0], places[:, :, :, 0]) if over_scales else (pooled, places)


@pytest.mark.parametrize("name", CASES)
def test_pooling_and_its_gradient_equal_the_reference(name):
    window, padding, over_scales, size = CASES[name]
    x = np.random.default_rng(0).standard_normal((2, *size, 3, 2), dtype=np.float32)
    pooled, places = reference(x, window, padding, over_scales)
    y, vjp = jax.vjp(lambda x: scale_max_pool(x, window, padding, over_scales), x)
    np.testing.assert_array_equal(y, pooled.astype(np.float32))
    g = np.random.default_rng(1).standard_normal(y.shape, dtype=np.float32)
    expected = np.zeros_like(x)
    for index, place in np.ndenumerate(places):
        expected[place] += g[index]
    np.testing.assert_array_equal(vjp(g)[0], expected)


def test_of_equal_maxima_the_first_receives_the_gradient():
    gradient = jax.grad(lambda x: scale_max_pool(x, 2, over_scales=True).sum())(jnp.zeros((1, 2, 2, 3, 1)))
    assert gradient[0, 0, 0, 0, 0] == 1
    assert gradient.sum() == 1


def test_projection_drops_the_scale_axis():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6), dtype=np.float32)
    np.testing.assert_array_equal(max_over_scales(x), x.max(3))


def test_leading_axes_are_batch_axes():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6, 5, 7), dtype=np.float32)
    np.testing.assert_array_equal(max_over_scales(x), x.max(4))
    np.testing.assert_array_equal(max_over_scales(x[0, 0]), x[0, 0].max(2))
    flat = scale_max_pool(x.reshape(6, 4, 6, 5, 7), 2)
    np.testing.assert_array_equal(scale_max_pool(x, 2), np.asarray(flat).reshape(2, 3, 2, 3, 5, 7))
    with pytest.raises(UserError, match=r"x has shape \(4, 6, 7\); features on scale space are"):
        max_over_scales(x[0, 0, :, :, 0])
