"""Augmentation against slow references, and each example for itself."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
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
    "affine": functools.partial(augment.random_affine, max_rotation=0.5, scale=(0.8, 1.2), max_translation=2.0),
    "jitter": functools.partial(augment.color_jitter, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
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
        np.testing.assert_allclose(out, OPERATIONS[name](key, images), atol=1e-6)


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


@pytest.mark.parametrize(
    ("angle", "factor", "shift"), [(0.4, 1.0, (0, 0)), (0, 1.3, (0, 0)), (0, 1, (1.5, -2)), (-0.7, 0.8, (0.3, 2.2))]
)
def test_affine_equals_scipy_with_the_inverse_of_the_forward_map(angle, factor, shift):
    image = noise(11, 9, 2)
    # Forward, in (row, column): p -> centre + factor R (p - centre) + shift; clockwise on the screen.
    forward = factor * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inverse, centre = np.linalg.inv(forward), np.array([5, 4])
    expected = np.stack(
        [
            scipy.ndimage.affine_transform(
                image[..., c], inverse, centre - inverse @ (centre + shift), order=1, mode="grid-constant", cval=0.25
            )
            for c in range(2)
        ],
        axis=-1,
    )
    out = augment.affine(image, angle, factor, jnp.array(shift, jnp.float32), fill=0.25)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_a_positive_quarter_turn_is_clockwise():
    image = noise(8, 8, 3)
    out = augment.affine(image, jnp.pi / 2, 1.0, jnp.zeros(2))
    np.testing.assert_allclose(out, np.rot90(image, k=-1), atol=1e-5)


def test_a_positive_shift_goes_down_and_right():
    image = noise(6, 6, 1)
    out = augment.affine(image, 0.0, 1.0, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(out[1:, 2:], image[:-1, :-2], atol=1e-6)
    np.testing.assert_array_equal(out[0], 0)


def test_without_ranges_random_affine_changes_nothing():
    images = noise(3, 7, 6, 3)
    np.testing.assert_allclose(jax.jit(augment.random_affine)(KEY, images), images, atol=1e-6)


def test_angle_scale_and_shift_are_drawn_from_the_stated_ranges():
    # A ramp stays a ramp: its slopes and its centre tell the map.
    out = np.asarray(
        augment.random_affine(KEY, coordinates(2000, 15, 15), max_rotation=0.6, scale=(0.5, 2.0), max_translation=1.5)
    )
    down, right = out[:, 8, 7] - out[:, 7, 7], out[:, 7, 8] - out[:, 7, 7]
    inverse = np.stack([down, right], axis=-1)  # [B, input axis, output axis]
    forward = np.linalg.inv(inverse)
    scale = np.sqrt(np.linalg.det(forward))
    angle = np.arctan2(forward[:, 0, 1], forward[:, 0, 0])
    shift = -np.einsum("bij,bj->bi", forward, out[:, 7, 7] - 8)
    for values, limit in [(angle, 0.6), (np.log(scale), np.log(2)), (shift[:, 0], 1.5), (shift[:, 1], 1.5)]:
        assert np.abs(values).max() < limit + 1e-3
        assert np.abs(values.mean()) < 0.08 * limit
        assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    correlation = np.corrcoef([angle, np.log(scale), shift[:, 0], shift[:, 1]])
    assert np.abs(correlation - np.eye(4)).max() < 0.08


def jitter(images, **ranges):
    operation = jax.jit(functools.partial(augment.color_jitter, **ranges))
    return np.asarray(operation(KEY, images)), np.asarray(images)


def check_uniform(values, limit):
    assert np.abs(values).max() <= limit + 1e-4
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)


def test_brightness_adds_one_number_to_each_image():
    out, images = jitter(0.4 + 0.2 * noise(500, 4, 4, 3), brightness=0.3)
    added = (out - images).reshape(500, -1)
    np.testing.assert_allclose(added, np.tile(added[:, :1], (1, 48)), atol=1e-6)
    check_uniform(added[:, 0], 0.3)


def test_contrast_scales_the_distance_from_the_mean_of_each_image():
    out, images = jitter(0.4 + 0.2 * noise(500, 4, 4, 1), contrast=0.5)
    mean = images.mean(axis=(1, 2), keepdims=True)
    factor = ((out - mean) * (images - mean)).sum(axis=(1, 2, 3)) / ((images - mean) ** 2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(out, mean + factor[:, None, None, None] * (images - mean), atol=1e-5)
    check_uniform(factor - 1, 0.5)


def hsv(images):
    return np.array([colorsys.rgb_to_hsv(*p) for p in images.reshape(-1, 3).tolist()]).reshape(len(images), -1, 3)


def test_saturation_changes_only_the_saturation():
    out, images = jitter(0.2 + 0.3 * noise(300, 3, 3, 3), saturation=0.4)
    before, after = hsv(images), hsv(out)
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=1e-4)
    factor = after[..., 1] / before[..., 1]
    np.testing.assert_allclose(factor, np.tile(factor[:, :1], (1, 9)), rtol=2e-3)
    check_uniform(factor[:, 0] - 1, 0.4)


def test_hue_turns_every_pixel_by_the_same_share_of_the_circle():
    out, images = jitter(0.2 + 0.6 * noise(300, 3, 3, 3), hue=0.25)
    before, after = hsv(images), hsv(out)
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-3)
    turn = (after[..., 0] - before[..., 0] + 0.5) % 1 - 0.5
    np.testing.assert_allclose(turn, np.tile(turn[:, :1], (1, 9)), atol=2e-3)
    check_uniform(turn[:, 0], 0.25)


def test_jittered_images_stay_within_range():
    out, _ = jitter(noise(50, 4, 4, 3), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5)
    assert out.min() == 0
    assert out.max() == 1


def test_jitter_leaves_gray_images_gray():
    out, _ = jitter(noise(5, 4, 4, 1), brightness=0.1, contrast=0.1)
    assert out.shape == (5, 4, 4, 1)


@pytest.mark.parametrize("size", [8, 15, 40])
def test_resizing_equals_pillow(size):
    images = noise(2, 20, 20, 1)
    expected = [np.asarray(Image.fromarray(i[..., 0]).resize((size, size), Image.Resampling.BILINEAR)) for i in images]
    np.testing.assert_allclose(augment.resize(images, size)[..., 0], expected, atol=1e-4)
