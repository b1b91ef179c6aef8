"""The plateau rule against a transcription of its definition, and the end of training to the last bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.training.plateau import Plateau, after_epoch, learning_rates, start

RULE = {"patience": 10, "threshold": 1e-4, "num_rates": 4}


@functools.partial(jax.jit, static_argnames=("patience", "threshold", "num_rates"))
def follow(losses, **rule):
    """Returns the number of reductions after every epoch, and the last state."""

    def epoch(plateau, loss):
        plateau = after_epoch(plateau, loss, **rule)
        return plateau, plateau.num_reductions

    last, reductions = jax.lax.scan(epoch, start(), losses)
    return reductions, last


def reductions_of(losses, **changes):
    return np.asarray(follow(jnp.asarray(losses, jnp.float32), **RULE | changes)[0]).tolist()


def slow_reductions(losses, patience, threshold, num_rates):
    """The rule in plain Python."""
    best, bad, reductions, found = float("inf"), 0, 0, []
    for loss in losses:
        if reductions < num_rates:
            if loss < best * (1 - threshold):
                best, bad = loss, 0
            else:
                bad += 1
            if bad > patience:
                reductions, bad = reductions + 1, 0
        found.append(reductions)
    return found


def test_the_rate_falls_after_the_eleventh_epoch_in_turn_without_improvement():
    assert reductions_of([1.0] * 12) == [0] * 11 + [1]
    assert reductions_of([1.0] * 11 + [0.9] + [1.0] * 11) == [0] * 22 + [1]


def test_after_a_reduction_the_count_begins_anew_and_the_fourth_ends_it():
    found = reductions_of([1.0] * 60)
    assert [found.index(k) for k in (1, 2, 3, 4)] == [11, 22, 33, 44]
    assert found[-1] == 4
    assert bool(follow(jnp.ones(45), **RULE)[1].stopped(4))
    assert not bool(follow(jnp.ones(44), **RULE)[1].stopped(4))


def test_an_improvement_of_less_than_a_ten_thousandth_is_none():
    def falling(factor):
        return factor ** np.arange(40.0)

    assert reductions_of(falling(1 - 2e-4))[-1] == 0
    # Each loss is compared with the best one, not with the last: three small steps together are an improvement.
    assert reductions_of(falling(1 - 4e-5))[-1] == 0
    found = reductions_of(falling(1 - 4e-6))  # epoch 26 is the first that improves enough
    assert [found.index(k) for k in (1, 2, 3)] == [11, 22, 26 + 11]


@pytest.mark.parametrize("seed", range(8))
def test_random_losses_are_judged_as_the_definition_says(seed):
    generator = np.random.default_rng(seed)
    losses = np.float32(np.exp(-np.arange(200) / 40) + generator.uniform(0, 0.3) * generator.random(200))
    for patience in (1, 3, 10):
        rule = {"patience": patience, "threshold": 1e-3, "num_rates": 5}
        found = reductions_of(losses, **rule)
        assert found == slow_reductions(losses.tolist(), **rule)
        assert found[-1] > 0


def test_what_is_not_a_number_is_no_improvement():
    assert reductions_of([1.0] + [float("nan")] * 11)[-1] == 1


def test_a_stopped_state_stays_as_it_is():
    stopped = Plateau(jnp.float32(0.5), jnp.int32(3), jnp.int32(4))
    after = after_epoch(stopped, jnp.float32(0.1), **RULE)
    assert jax.tree.map(float, after) == jax.tree.map(float, stopped)


@pytest.mark.parametrize("first", [4e-4, 1e-4])
def test_rounding_postpones_the_end_from_the_third_reduction_to_the_fourth(first):
    assert first * 0.1 * 0.1 * 0.1 > 1e-3 * first
    rates = learning_rates(first, factor=0.1, stop_at=1e-3)
    np.testing.assert_allclose(rates, first * np.array([1, 0.1, 0.01, 0.001]), rtol=1e-12)
    assert len(learning_rates(first, factor=0.1, stop_at=1.001e-3)) == 3


def test_the_end_comes_in_time_where_nothing_is_rounded():
    assert learning_rates(1.0, factor=0.5, stop_at=0.125) == [1.0, 0.5, 0.25]


def test_a_stop_and_a_restart_in_the_middle_change_nothing():
    losses = jnp.asarray(np.random.default_rng(0).random(50), jnp.float32)
    whole = follow(losses, **RULE)[1]
    plateau = follow(losses[:23], **RULE)[1]
    saved = jax.tree.map(np.asarray, plateau)
    for loss in losses[23:]:
        saved = after_epoch(saved, loss, **RULE)
    jax.tree.map(np.testing.assert_array_equal, whole, saved)
