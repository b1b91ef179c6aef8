"""MNIST-scale: its zoom against an imaging library, its splits, its determinism, and epochs with a partial batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from jaxrepro.data import augment, mnist_scale
from jaxrepro.data.zoom import zoom_images, zoom_matrices
from jaxrepro.errors import UserError
from jaxrepro.rng import generator

SIZES = mnist_scale.Sizes(300, 100, 250)


@pytest.fixture(scope="module")
def digits():
    """25 digits, and noise that reaches the borders."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    return np.concatenate([mnist_scale.read_pool("mnist5k")["image"][::200], noise])


def write_pool(path, num, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), num // 10)
    np.savez(path, images=random.integers(0, 256, (len(labels), 28, 28), np.uint8), labels=labels)
    return f"npz:{path}"


@pytest.mark.parametrize("factor", [0.3, 0.47, 0.77, 1.0, 1.3, 2.0])
def test_the_zoom_is_the_bicubic_one_of_pillow(digits, factor):
    from PIL import Image

    found = zoom_images(digits, np.full(len(digits), factor))
    shift = 14 - 14 / factor
    for image, zoomed in zip(digits, found, strict=True):
        expected = Image.fromarray(image[..., 0]).transform(
            (28, 28), Image.AFFINE, (1 / factor, 0, shift, 0, 1 / factor, shift), Image.BICUBIC
        )
        # Pillow cuts the fraction off where we round. (At 0.75 a pixel lies on the edge, in or out by rounding.)
        assert np.abs(np.asarray(expected).astype(int) - zoomed[..., 0]).max() <= 1


def test_the_matrix_of_a_zoom_interpolates_with_the_cubic_of_parameter_minus_one():
    factor, size = 0.8, 12
    row = zoom_matrices(np.array([factor]), size)[0][4]
    position = (4.5 - 6) / factor + 6 - 0.5
    distance = np.abs(np.arange(size) - position)
    near, far = 1 - 2 * distance**2 + distance**3, 4 - 8 * distance + 5 * distance**2 - distance**3
    np.testing.assert_allclose(row, np.where(distance <= 1, near, np.where(distance < 2, far, 0)), atol=1e-12)


def test_zooming_by_one_changes_nothing_and_content_keeps_its_centre(digits):
    np.testing.assert_array_equal(zoom_images(digits, np.ones(len(digits))), digits)
    blob = np.zeros((1, 28, 28, 1), np.uint8)
    blob[0, 8:20, 8:20] = 200
    for factor in (0.5, 0.8, 1.25):
        zoomed = zoom_images(blob, np.array([factor]))[0, ..., 0].astype(float)
        np.testing.assert_allclose(scipy.ndimage.center_of_mass(zoomed), (13.5, 13.5), atol=1e-6)
        np.testing.assert_allclose(zoomed.sum() / (200 * 144), factor**2, rtol=0.15)


def test_augmentation_zooms_on_the_device_as_the_data_was_made_on_the_host(digits):
    images = jnp.asarray(digits, jnp.float32)
    factors = np.linspace(0.5, 2.0, len(digits)).astype(np.float32)
    found = np.clip(np.round(jax.jit(augment.zoom)(images, factors)), 0, 255)
    assert np.abs(found - zoom_images(digits, factors)).max() <= 1
    assert np.mean(found != zoom_images(digits, factors)) < 1e-3


def test_random_zoom_is_uniform_and_drawn_per_image():
    key, images = jax.random.key(3), jnp.full((600, 9, 9, 1), 1.0)
    zoomed = np.asarray(jax.jit(augment.random_zoom, static_argnums=(2, 3))(key, images, 0.5, 2.0))
    covered = np.count_nonzero(zoomed[:, 4, :, 0], axis=1)  # 9 pixels of content, seen through the factor
    assert len(np.unique(covered)) >= 3
    # Content of 9 pixels fills the canvas from factor 1 on, which has probability 2/3 of U(0.5, 2).
    np.testing.assert_allclose(np.mean(covered == 9), (2.0 - 8 / 9) / 1.5, atol=0.07)
    first = augment.random_zoom(key, images[:5], 0.5, 2.0)
    np.testing.assert_allclose(first, zoomed[:5], atol=1e-4)


def test_a_realisation_has_the_asked_sizes_stratified_classes_and_uniform_scales():
    splits = {k: t.arrays() for k, t in mnist_scale.realisation("mnist5k", 0, SIZES).items()}
    assert {k: len(a["label"]) for k, a in splits.items()} == {"train": 300, "valid": 100, "test": 250}
    for arrays in splits.values():
        counts = np.bincount(arrays["label"], minlength=10)
        assert np.abs(counts - len(arrays["label"]) / 10).max() <= 1
        assert arrays["image"].dtype == np.uint8
    scales = np.concatenate([a["scale"] for a in splits.values()])
    assert scipy.stats.kstest(scales, scipy.stats.uniform(0.3, 0.7).cdf).pvalue > 0.01
    assert scales.min() >= 0.3
    assert scales.max() <= 1.0
    # The ink of a shrunk digit falls with the square of its scale.
    ink = splits["train"]["image"].sum((1, 2, 3)) / splits["train"]["scale"] ** 2
    assert abs(np.corrcoef(ink, splits["train"]["scale"])[0, 1]) < 0.2


def test_realisations_are_deterministic_and_differ():
    first, again, other = (
        mnist_scale.realisation("mnist5k", seed, SIZES)["train"].arrays()["image"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # A known number: a change of the split or the zoom must change `_VERSION`.
    assert int(first.sum(dtype=np.int64)) == 3_550_555


def test_classes_keep_their_proportions_when_they_are_unequal():
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    parts = mnist_scale.stratified(labels, [300, 150], generator(0, "test"))
    assert [len(p) for p in parts] == [300, 150]
    assert len(np.unique(np.concatenate(parts))) == 450
    for part, size in zip(parts, (300, 150), strict=True):
        counts = np.bincount(labels[part], minlength=3)
        assert np.abs(counts - size * np.array([0.7, 0.2, 0.1])).max() <= 2


def test_a_small_source_gives_a_smaller_test_set_and_one_that_is_too_small_is_refused(tmp_path):
    source = write_pool(tmp_path / "digits.npz", 200)
    sizes = mnist_scale.Sizes(100, 40, 50_000)
    splits = mnist_scale.realisation(source, 0, sizes)
    assert {k: t.num_rows for k, t in splits.items()} == {"train": 100, "valid": 40, "test": 60}
    with pytest.raises(UserError, match=r"200 digits; train and valid take 200 .*num_train"):
        mnist_scale.realisation(source, 0, mnist_scale.Sizes(150, 50, 10))


def test_the_test_set_may_come_from_another_source(tmp_path):
    source, other = write_pool(tmp_path / "a.npz", 200), write_pool(tmp_path / "b.npz", 100, seed=1)
    splits = mnist_scale.realisation(source, 0, mnist_scale.Sizes(150, 50, 1000), test_source=other, scale=(1.0, 1.0))
    assert {k: t.num_rows for k, t in splits.items()} == {"train": 150, "valid": 50, "test": 100}
    pool = mnist_scale.read_pool(other)["image"]
    found = splits["test"].arrays()["image"]
    assert {x.tobytes() for x in found} == {x.tobytes() for x in pool}


def test_images_of_another_size_are_refused(tmp_path):
    np.savez(tmp_path / "small.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.zeros(20, int))
    with pytest.raises(UserError, match=r"images \(8, 8, 1\)"):
        mnist_scale.read_pool(f"npz:{tmp_path / 'small.npz'}")
