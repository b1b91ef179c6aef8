"""Episodes: disjoint class splits, and what the sampler promises about repetition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.data import episodes as lib
from jaxrepro.data.episodes import EpisodeShape, class_tables
from jaxrepro.errors import UserError

SHAPE = EpisodeShape(ways=3, shots=2, queries=2)
LABELS = np.repeat(np.arange(30), np.random.default_rng(0).integers(3, 12, 30))
NAMES = tuple(f"font {i}" for i in range(30))


def tables(shape=SHAPE, labels=LABELS, **options):
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return class_tables(images, labels, NAMES, "font", shape, **options)


def drawn(arrays, num_episodes, key=0, shape=SHAPE):
    """Returns (the sampler after every episode, the episodes), leaves [E, ...]."""

    def one(sampler, key):
        sampler, episode = lib.draw(sampler, arrays, shape, key)
        return sampler, (sampler, episode)

    start = lib.start(len(arrays["counts"]), jax.random.key(key))
    keys = jax.random.split(jax.random.key(key + 1), num_episodes)
    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.scan(one, start, keys)[1])(keys))


def test_no_class_is_in_two_parts_and_a_class_with_too_few_images_is_in_none():
    parts = tables()
    names = [name for part in parts.values() for name in part.names]
    assert len(names) == len(set(names))
    enough = {NAMES[c] for c in range(30) if (c == LABELS).sum() >= SHAPE.per_class}
    assert set(names) == enough != set(NAMES)
    for part in parts.values():
        for c, (members, count) in enumerate(zip(part.arrays["members"], part.arrays["counts"])):
            rows = part.rows[members[:count]]
            assert sorted(rows) == list(np.flatnonzero(np.array(NAMES)[LABELS] == part.names[c]))
            np.testing.assert_array_equal(part.arrays["image"][members[:count]].ravel(), rows % 256)


def test_the_paper_has_659_characters_and_406_fonts_for_training():
    for classes, sizes in ((1099, (659, 220, 220)), (678, (406, 136, 136))):
        labels = np.repeat(np.arange(classes), SHAPE.per_class)
        names = tuple(map(str, range(classes)))
        parts = class_tables(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, names, "font", SHAPE)
        assert tuple(len(part.names) for part in parts.values()) == sizes


def test_an_episode_has_different_classes_and_of_each_different_images_of_its_own():
    arrays = tables()["train"].arrays
    _, episodes = drawn(arrays, 50)
    number = np.empty(len(arrays["image"]), int)
    for c, (members, count) in enumerate(zip(arrays["members"], arrays["counts"])):
        number[members[:count]] = c
    for classes, rows in zip(*episodes):
        assert len(set(classes)) == SHAPE.ways
        assert len(set(rows.ravel())) == SHAPE.num_images
        np.testing.assert_array_equal(number[rows], np.repeat(classes[:, None], SHAPE.per_class, 1))


def test_no_image_comes_again_before_a_shuffle_and_a_shuffle_comes_only_where_a_class_is_exhausted():
    arrays = tables()["train"].arrays
    samplers, episodes = drawn(arrays, 200)
    used, seen, shuffles = np.zeros(len(arrays["counts"]), int), set(), 0
    order = np.asarray(lib.start(1, jax.random.key(0)).order)
    for i, (classes, rows) in enumerate(zip(*episodes)):
        exhausted = (arrays["counts"][classes] - used[classes] < SHAPE.per_class).any()
        assert exhausted == (not np.array_equal(samplers.order[i], order))
        if exhausted:
            used[:], seen, shuffles = 0, set(), shuffles + 1
        assert not seen & set(rows.ravel())
        seen |= set(rows.ravel())
        used[classes] += SHAPE.per_class
        order = samplers.order[i]
        np.testing.assert_array_equal(samplers.used[i], used)
    assert 10 < shuffles < 200


def test_after_a_shuffle_the_images_of_a_class_come_in_another_order():
    labels = np.repeat(np.arange(10), 40)
    shape = EpisodeShape(ways=2, shots=2, queries=18)
    arrays = tables(shape, labels)["train"].arrays
    samplers, episodes = drawn(arrays, 60, shape=shape)
    chosen = {}
    for order, classes, rows in zip(map(tuple, samplers.order), *episodes):
        for c, of_class in zip(classes, rows):
            chosen.setdefault(int(c), {}).setdefault(order, set()).update(of_class[:2])
    assert all(len({frozenset(rows) for rows in orders.values()}) > 1 for orders in chosen.values())


def test_classes_are_drawn_uniformly():
    arrays = tables()["train"].arrays
    _, episodes = drawn(arrays, 2000)
    counts = np.bincount(episodes.classes.ravel(), minlength=len(arrays["counts"]))
    expected = 2000 * SHAPE.ways / len(counts)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_episodes_drawn_together_are_those_drawn_one_after_the_other():
    arrays = jax.tree.map(jnp.asarray, dict(tables()["train"].arrays))
    keys = jax.random.split(jax.random.key(5), 4)
    start = lib.start(len(arrays["counts"]), jax.random.key(0))
    together, episodes = jax.jit(lambda keys: lib.draw_many(start, arrays, SHAPE, keys))(keys)
    sampler = start
    for i, key in enumerate(keys):
        sampler, episode = lib.draw(sampler, arrays, SHAPE, key)
        np.testing.assert_array_equal(episode.rows, episodes.rows[i])
    np.testing.assert_array_equal(together.used, sampler.used)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (EpisodeShape(20, 1, 1), "train has 18 classes, .* 20 ways need as many"),
        (EpisodeShape(3, 5, 15), "0 of them with the 20 images that 5 shots and 15 queries need"),
    ],
)
def test_too_few_classes_or_images_is_one_line(shape, message):
    with pytest.raises(UserError, match=message):
        tables(shape)


@pytest.mark.parametrize("numbers", [(1, 1, 1), (2, 0, 1), (2, 1, 0)])
def test_an_impossible_episode_is_a_users_error(numbers):
    with pytest.raises(UserError, match=r"must be [12] or more"):
        EpisodeShape(*numbers)
