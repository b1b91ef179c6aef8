"""Keys and generators depend on seed, purpose and index, and on nothing else."""

import itertools

import jax
import numpy as np

from jaxrepro import rng


def test_keys_differ_in_seed_purpose_and_index():
    combinations = list(itertools.product((0, 1), ("init", "train", "eval/grid"), (0, 1, 2**31)))
    keys = {tuple(jax.random.key_data(rng.key(*c)).tolist()) for c in combinations}
    assert len(keys) == len(combinations)


def test_a_key_is_the_same_under_jit_and_vmap_over_seeds():
    seeds = np.arange(3, dtype=np.uint32)
    mapped = jax.jit(jax.vmap(lambda s: jax.random.key_data(rng.key(s, "train", 7))))(seeds)
    solo = [jax.random.key_data(rng.key(int(s), "train", 7)) for s in seeds]
    np.testing.assert_array_equal(mapped, solo)


def test_numbers_stay_what_they_were_when_old_runs_were_made():
    assert rng.purpose_id(rng.Purpose.TRAIN) == 0xC4546F11
    assert rng.generator(0, "data", 1).integers(0, 2**62) == 3295152162696917423


def test_generators_differ_in_their_index():
    assert rng.generator(0, "data", 1).integers(0, 2**62) != rng.generator(0, "data", 2).integers(0, 2**62)
