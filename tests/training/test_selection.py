"""The best weights so far, as values in the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.training import selection


def params(value):
    return {"w": jnp.full(2, value, jnp.float32), "n": jnp.int32(value)}


def kept_after(values):
    """Returns the best of weights 1, 2, … that come with these values."""
    best = selection.start(params(0))
    for i, value in enumerate(values):
        best = jax.jit(selection.keep_lowest)(best, params(i + 1), jnp.float32(value))
    return best


@pytest.mark.parametrize(
    ("values", "number", "lowest"),
    [
        ([3.0, 2.0, 2.5], 2, 2.0),
        ([2.0, 2.0, 2.0], 1, 2.0),
        ([2.0, np.nextafter(np.float32(2), np.float32(0))], 2, 2.0),
        ([np.nan, 5.0, np.nan], 2, 5.0),
        ([-1.0, 0.0], 1, -1.0),
    ],
)
def test_weights_are_kept_only_where_their_value_is_strictly_lower(values, number, lowest):
    best = kept_after(values)
    np.testing.assert_array_equal(best.kept["w"], [number, number])
    assert best.kept["n"] == number
    assert best.value == pytest.approx(lowest, abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_before_any_finite_value_the_first_weights_stay(value):
    best = kept_after([value])
    assert best.kept["n"] == 0
    assert np.isfinite(best.value), "a checkpoint refuses numbers that are not finite"


def test_keeping_never_changes_the_types_of_a_state():
    before = selection.start(params(0))
    after = jax.eval_shape(selection.keep_lowest, before, params(1), jnp.float32(1))
    types = [jax.tree.map(lambda a: (a.shape, a.dtype), best) for best in (before, after)]
    assert types[0] == types[1]


def test_every_seed_keeps_its_own():
    best = jax.vmap(lambda _: selection.start(params(0)))(jnp.arange(2))
    candidates = jax.vmap(lambda _: params(1))(jnp.arange(2))
    best = jax.vmap(selection.keep_lowest)(best, candidates, jnp.array([np.nan, 1.0]))
    np.testing.assert_array_equal(best.kept["n"], [0, 1])
