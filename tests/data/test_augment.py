"""Augmentation against slow references, and each example for itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxrepro.data import augment

KEY = jax.random.key(0)


def noise(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def coordinates(num_examples, height, width):
    """Returns images whose two channels are the row and the column of each pixel, plus one: padding is 0."""
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1) + 1
    return np.tile(grid.astype(np.float32), (num_examples, 1, 1, 1))


OPERATIONS = {
    "crop": functools.partial(augment.random_crop, size=10, padding=2),
    "flip": augment.random_flip,
    "zoom": functools.partial(augment.random_zoom, low=0.5, high=1.5),
    "cutout": functools.partial(augment.random_cutout, size=5),
}
OPERATIONS = {name: jax.jit(operation) for name, operation in OPERATIONS.items()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_picture_of_an_example_does_not_depend_on_the_rest_of_the_batch(name):
    operation, images = OPERATIONS[name], noise(6, 12, 12, 3)
    few = operation(KEY, images[:2])
    np.testing.assert_allclose(few, operation(KEY, images)[:2], atol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
def test_equal_images_of_a_batch_come_out_differently(name):
    out = np.asarray(OPERATIONS[name](KEY, np.tile(noise(1, 12, 12, 3), (16, 1, 1, 1))))
    num_outcomes = len({image.tobytes() for image in out})
    assert num_outcomes >= {"flip": 2, "crop": 8}.get(name, 16)  # crops have 25 places to fall on


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_same_key_gives_the_same_batch_and_another_key_another(name):
    operation, images = OPERATIONS[name], noise(6, 12, 12, 3)
    first = operation(KEY, images)
    np.testing.assert_array_equal(first, operation(KEY, images))
    assert (np.asarray(operation(jax.random.key(1), images)) != np.asarray(first)).any()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_vmapped_axis_of_keys_gives_what_each_key_gives_alone(name):
    keys, images = jax.random.split(KEY, 3), noise(4, 12, 12, 3)
    together = jax.vmap(OPERATIONS[name], in_axes=(0, None))(keys, images)
    for key, out in zip(keys, together):
        np.testing.assert_allclose(out, OPERATIONS[name](key, images), atol=1e-5)  # a warp of a map computed in float32


def test_a_cutout_is_one_square_that_the_border_cuts_off():
    ones = np.ones((400, 9, 8, 2), np.float32)
    out = np.asarray(augment.random_cutout(KEY, ones, 4))
    corners = set()
    for image in out:
        assert set(np.unique(image)) <= {0.0, 1.0}
        rows, columns = (np.flatnonzero((image[..., 0] == 0).any(axis)) for axis in (1, 0))
        assert (image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
        assert (image == 0).sum() == 2 * len(rows) * len(columns)
        assert 2 <= len(rows) <= 4
        corners.add((rows[0], columns[0], len(rows), len(columns)))
    assert len(corners) > 60  # of 72 centres
    whole = np.asarray(augment.random_cutout(KEY, ones, 18))
    assert (whole == 0).all()


def test_a_crop_is_a_window_of_the_padded_image():
    images = coordinates(200, 9, 7)
    out = np.asarray(augment.random_crop(KEY, images, 6, padding=2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    offsets = set()
    for window, whole in zip(out, padded):
        places = [
            (i, j) for i in range(9 + 4 - 6 + 1) for j in range(7 + 4 - 6 + 1)
            if np.array_equal(whole[i : i + 6, j : j + 6], window)
        ]  # fmt: skip
        assert len(places) == 1
        offsets.add(places[0])
    assert len({i for i, _ in offsets}) == 8
    assert len({j for _, j in offsets}) == 6


def test_crops_are_uniform_over_all_places():
    out = np.asarray(augment.random_crop(KEY, coordinates(4000, 8, 8), 5))
    rows, columns = out[:, 0, 0, 0].astype(int) - 1, out[:, 0, 0, 1].astype(int) - 1
    counts = np.histogram2d(rows, columns, bins=[np.arange(5)] * 2)[0]
    assert counts.shape == (4, 4)
    chi_square = ((counts - 250) ** 2 / 250).sum()
    assert chi_square < 37.7  # 99.9 % of a chi-square with 15 degrees of freedom


def test_crops_keep_the_type_of_the_images():
    assert augment.random_crop(KEY, np.zeros((2, 8, 8, 1), np.uint8), 4).dtype == jnp.uint8


def test_a_crop_larger_than_the_padded_image_is_an_error():
    with pytest.raises(ValueError, match="cannot cut 9×9 from 6×8 with padding 1"):
        augment.random_crop(KEY, noise(1, 6, 8, 1), 9, padding=1)


def test_half_of_the_images_are_mirrored_and_the_others_unchanged():
    images = noise(2000, 3, 4, 1)
    out = np.asarray(augment.random_flip(KEY, images))
    mirrored = (out == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (out == images).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert abs(mirrored.mean() - 0.5) < 0.04


@pytest.mark.parametrize("size", [8, 15, 40])
def test_resizing_equals_pillow(size):
    images = noise(2, 20, 20, 1)
    expected = [np.asarray(Image.fromarray(i[..., 0]).resize((size, size), Image.Resampling.BILINEAR)) for i in images]
    np.testing.assert_allclose(augment.resize(images, size)[..., 0], expected, atol=1e-4)
