"""Pictures of the STL-10 protocol: order of augmentation and normalisation, fixed zooms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.data.augment import zoom
from jaxrepro.data.dataset import table_from_arrays
from jaxrepro.data.pictures import AugmentConfig, PicturesConfig, at_random_scales, load_pictures, prepare
from jaxrepro.data.zoom import zoom_images
from jaxrepro.errors import UserError

RANDOM = np.random.default_rng(0)
CONFIG = PicturesConfig(image_size=12)
IMAGES = RANDOM.integers(60, 256, (40, 12, 12, 3), np.uint8)
MEAN, STD = np.array(CONFIG.mean), np.array(CONFIG.std)


def test_test_images_are_normalised_only():
    np.testing.assert_allclose(prepare(CONFIG, AugmentConfig(), IMAGES), (IMAGES / 255 - MEAN) / STD, atol=1e-5)


def test_borders_are_black_and_the_square_has_the_mean_colour():
    augment = AugmentConfig(padding=3, flip=True, cutout=4)
    found = np.asarray(jax.jit(lambda x: prepare(CONFIG, augment, x, jax.random.key(0)))(IMAGES))
    assert found.shape == IMAGES.shape
    square = (found == 0).all(-1)
    black = np.isclose(found * STD + MEAN, 0, atol=1e-5).all(-1)
    assert all(4 <= s.sum() <= 16 for s in square)
    assert 0.5 < np.mean([b.any() for b in black]) <= 1
    kept = np.round((found * STD + MEAN) * 255)[~square & ~black]
    assert set(np.unique(kept)) <= set(range(60, 256)), "pixels are those of the image"


def test_nothing_happens_to_training_images_where_the_config_says_so():
    none = AugmentConfig(padding=0, flip=False, cutout=0)
    found = prepare(CONFIG, none, IMAGES, jax.random.key(0))
    np.testing.assert_array_equal(found, prepare(CONFIG, none, IMAGES))


def test_images_of_another_size_are_resized():
    found = prepare(PicturesConfig(image_size=8), AugmentConfig(), jnp.full((2, 16, 24, 3), 51, jnp.uint8))
    np.testing.assert_allclose(found, np.broadcast_to((0.2 - MEAN) / STD, (2, 8, 8, 3)), atol=1e-5)


def test_every_image_has_its_own_zoom_once_and_for_all():
    table = table_from_arrays("t", {"image": IMAGES, "label": np.arange(40)})
    config = PicturesConfig(zoom=(0.5, 1.5))
    zoomed, again = (at_random_scales(table, config, "train") for _ in range(2))
    rows = np.array([7, 3, 7])
    found = zoomed.take(rows)
    np.testing.assert_array_equal(found["image"], again.arrays()["image"][rows])
    np.testing.assert_array_equal(found["image"], zoom_images(IMAGES[rows], found["scale"]))
    scales = zoomed.arrays()["scale"]
    assert 0.5 <= scales.min() < 0.6 < 1.4 < scales.max() <= 1.5
    assert not np.array_equal(scales, at_random_scales(table, config, "test").arrays()["scale"])
    assert at_random_scales(table, PicturesConfig(), "train") is table


def test_oblong_images_are_zoomed_as_on_the_device():
    oblong, factors = IMAGES[:2, :7], np.array([0.5, 1.3])
    found = zoom_images(oblong, factors)
    expected = np.clip(np.round(zoom(jnp.asarray(oblong, jnp.float32), jnp.asarray(factors, jnp.float32))), 0, 255)
    assert found.shape == oblong.shape
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PicturesConfig(image_size=4), "image_size is 4; it must be at least 8"),
        (lambda: PicturesConfig(zoom=(1.0, 0.5)), r"zoom is \(1.0, 0.5\); write \(\) or \(0.4,1.0\)"),
        (lambda: PicturesConfig(mean=(0.1,)), "give one number each, or three"),
        (lambda: PicturesConfig(std=(1.0, 0.0, 1.0)), "every number must be positive"),
        (lambda: AugmentConfig(cutout=-1), "cutout is -1; it must be 0 or more"),
        (lambda: load_pictures("mnist5k", {"train": "train"}, PicturesConfig()), "has 1 channels; config.task.mean"),
    ],
)
def test_impossible_configs_name_the_key(make, message):
    with pytest.raises(UserError, match=message):
        make()
