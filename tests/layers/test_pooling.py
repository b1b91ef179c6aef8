"""`jaxrepro.layers` pooling against flax's, and by numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.layers import avg_pool, max_pool, pooling

WINDOWS = {
    "tiles": ((2, 2), (2, 2), "VALID"),
    "tiles, padded": ((2, 2), (2, 2), "SAME"),
    "oblong tiles": ((3, 1), (3, 1), "VALID"),
    "overlapping": ((3, 3), (2, 2), "SAME"),
    "default strides": ((3, 3), None, "VALID"),
    "explicit pads": ((3, 2), (1, 2), ((1, 1), (0, 1))),
    "gaps": ((2, 2), (3, 3), "VALID"),
}


def images():
    """[2, 7, 9, 3] without two equal numbers."""
    return jnp.asarray(np.random.default_rng(0).permutation(2 * 7 * 9 * 3).reshape(2, 7, 9, 3), jnp.float32) - 100


@pytest.mark.parametrize(("window", "strides", "padding"), WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_pooling_and_its_gradient_match_flax_where_no_window_has_ties(name, window, strides, padding):
    def run(function):
        @jax.jit
        def value_and_gradient(x):
            y, vjp = jax.vjp(lambda x: function(x, window, strides, padding), x)
            return y, *vjp(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        return value_and_gradient(images())

    for ours, theirs in zip(run(getattr(pooling, name)), run(getattr(nn, name))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_mean_can_leave_out_the_padding():
    actual = avg_pool(images(), (3, 3), (2, 2), "SAME", count_include_pad=False)
    expected = nn.avg_pool(images(), (3, 3), (2, 2), "SAME", count_include_pad=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("strides", [(2, 2), (1, 1)])
def test_maximum_and_mean_of_one_window_by_hand(strides):
    x = jnp.asarray([[1.0, 4.0], [-3.0, 2.0]]).reshape(1, 2, 2, 1)
    assert max_pool(x, (2, 2), strides).tolist() == [[[[4.0]]]]
    assert avg_pool(x, (2, 2), strides).tolist() == [[[[1.0]]]]


@pytest.mark.parametrize("strides", [(2, 2), (1, 1)])
def test_the_first_of_equal_maxima_gets_the_gradient_as_in_flax(strides):
    x = jnp.asarray([[0.0, 5.0], [5.0, 5.0]]).reshape(1, 2, 2, 1)
    for pool in (max_pool, nn.max_pool):
        gradient = jax.grad(lambda x, pool=pool: 3 * pool(x, (2, 2), strides).sum())(x)
        assert gradient.reshape(2, 2).tolist() == [[0.0, 3.0], [0.0, 0.0]]


def test_padding_never_wins_a_maximum():
    assert max_pool(-jnp.ones((1, 3, 3, 1)), (2, 2), (2, 2), "SAME").max() == -1


def test_no_gradient_needs_select_and_scatter():
    gradient = jax.grad(lambda x: max_pool(x, (3, 3), (2, 2), "SAME").sum())
    assert "select_and_scatter" not in str(jax.make_jaxpr(gradient)(images()))


@pytest.mark.parametrize(
    ("window", "strides", "pads"),
    [((3, 3), (2, 2), ((1, 1), (1, 1))), ((2, 3), (1, 2), ((0, 1), (1, 0))), ((2, 2), (3, 3), ((0, 0), (0, 0)))],
    ids=["overlapping", "oblong", "gaps"],
)
def test_gradients_of_maxima_and_theirs_match_flax(window, strides, pads):
    x = images() / 100

    def squared_gradient(pool):
        inner = jax.grad(lambda x: jnp.sum(jnp.tanh(pool(x, window, strides, pads))))
        return lambda x: (inner(x), jax.grad(lambda x: jnp.sum(jnp.square(inner(x))))(x))

    for ours, theirs in zip(jax.jit(squared_gradient(max_pool))(x), jax.jit(squared_gradient(nn.max_pool))(x)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_equal_maxima_in_overlapping_windows_give_their_gradient_to_the_first():
    for pool in (max_pool, nn.max_pool):
        gradient = jax.grad(lambda x, pool=pool: pool(x, (3, 3), (2, 2)).sum())(jnp.zeros((1, 5, 5, 1)))
        assert sorted(map(tuple, np.argwhere(gradient[0, ..., 0]).tolist())) == [(0, 0), (0, 2), (2, 0), (2, 2)]
