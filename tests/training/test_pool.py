"""The bookkeeping of labels, over random scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.training.pool import label_highest, start_pool

label = jax.jit(label_highest, static_argnums=2)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_labelled_twice_and_the_order_is_that_of_the_scores(seed):
    random = np.random.default_rng(seed)
    pool = start_pool(jax.random.key(seed), 60, 12)
    known = np.asarray(pool.order)[:12].tolist()
    assert len(set(known)) == 12
    for round_ in range(8):
        scores = random.integers(0, 6, 60).astype(np.float32)  # many ties
        left = [row for row in range(60) if row not in known]
        known += sorted(left, key=lambda row: (-scores[row], row))[:6]
        pool = label(pool, scores, 6)
        assert int(pool.num_labelled) == 12 + 6 * (round_ + 1)
        assert np.asarray(pool.order)[: len(known)].tolist() == known
        assert np.flatnonzero(pool.labelled).tolist() == sorted(known)
        assert sorted(np.asarray(pool.order).tolist()) == list(range(60))
    assert len(known) == 60, "the whole pool is labelled in the end"


def test_seeds_begin_with_other_labels():
    first, second = (start_pool(jax.random.key(i), 60, 12) for i in range(2))
    assert not np.array_equal(first.order[:12], second.order[:12])


def test_a_score_as_low_as_numbers_go_still_comes_before_labelled_images():
    pool = start_pool(jax.random.key(0), 6, 4)
    scores = jnp.full(6, jnp.finfo(jnp.float32).min)
    assert sorted(np.asarray(label(pool, scores, 2).order).tolist()) == list(range(6))
