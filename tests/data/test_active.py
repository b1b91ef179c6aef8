"""The parts of active learning and the faults put into them."""

import numpy as np
import pytest

from jaxrepro.data.active import (
    FaultConfig,
    Flag,
    active_parts,
    is_missing,
    is_occluded,
    split_by_shares,
    with_blanks,
    with_false_labels,
    with_pixel_noise,
)
from jaxrepro.errors import UserError

NAMES = ("pool", "calibration", "valid", "test")


def test_parts_are_disjoint_have_the_published_shares_and_never_change():
    rows = {"image": np.arange(1000), "label": np.zeros(1000, np.int32)}
    parts, again = split_by_shares(rows, NAMES), split_by_shares(rows, NAMES)
    assert [len(part["image"]) for part in parts.values()] == [700, 100, 100, 100]
    assert sorted(np.concatenate([p["image"] for p in parts.values()]).tolist()) == list(range(1000))
    assert all(np.array_equal(parts[k]["image"], again[k]["image"]) for k in parts)
    assert parts["pool"]["image"][-1] > 900, "the permutation must mix"


def test_an_official_test_set_stays_whole():
    parts, num_classes, _ = active_parts("mnist5k", official_test=True)
    assert num_classes == 10
    sizes = {k: len(p["label"]) for k, p in parts.items()}
    num_train = sizes["pool"] * 10 // 7
    assert sizes["calibration"] == sizes["valid"] == num_train // 10
    assert sizes["test"] == 1000


def test_false_labels_are_drawn_anew_or_permuted():
    labels = np.arange(20_000, dtype=np.int32) % 26
    drawn = with_false_labels(labels, 26, FaultConfig(label_share=0.1), 0)
    assert (drawn != labels).mean() == pytest.approx(0.1 * 25 / 26, abs=0.01)
    permuted = with_false_labels(labels, 26, FaultConfig(label_share=0.15, permuted=True), 0)
    assert np.array_equal(np.bincount(permuted), np.bincount(labels)), "a permutation keeps the counts"
    assert (permuted != labels).mean() == pytest.approx(0.15 * 25 / 26, abs=0.01)
    assert not np.array_equal(drawn, with_false_labels(labels, 26, FaultConfig(label_share=0.1), 1))
    np.testing.assert_array_equal(with_false_labels(labels, 26, FaultConfig(), 0), labels)


def test_pixel_noise_has_its_deviation_on_half_of_the_images():
    images = np.full((400, 8, 8, 3), 128, np.uint8)
    noisy = with_pixel_noise(images, FaultConfig(pixel_std=0.1))
    changed = (noisy != images).any(axis=(1, 2, 3))
    assert changed.mean() == pytest.approx(0.5, abs=0.08)
    assert noisy[changed].std() / 255 == pytest.approx(0.1, rel=0.03)
    assert (images == 128).all(), "the source stays as it is"


def test_blank_images_have_the_colour_of_their_corner_and_count_as_without_a_symbol():
    images = np.random.default_rng(0).integers(0, 256, (2000, 4, 4, 3), np.uint8)
    found, blank = with_blanks(images, FaultConfig(blank_share=0.1), 0)
    assert blank.mean() == pytest.approx(0.1, abs=0.03)
    assert (found[blank] == images[blank][:, :1, :1]).all()
    np.testing.assert_array_equal(found[~blank], images[~blank])
    assert not np.array_equal(blank, with_blanks(images, FaultConfig(blank_share=0.1), 1)[1])
    parts, *_ = active_parts("mnist5k", official_test=False, flag=Flag.MISSING, faults=FaultConfig(blank_share=0.1))
    assert all((part["image"][part["missing"]] == 0).all() for part in parts.values())
    assert parts["pool"]["missing"].mean() == pytest.approx(0.1, abs=0.02)


def test_images_without_a_symbol_and_behind_shapes_are_recognised_by_their_masks():
    masks = np.zeros((3, 4, 4, 2), np.uint8)
    masks[0, 0, 0, 0], masks[0, 0, 0, 1] = 255, 1
    masks[1, 0, 0, 0], masks[1, 3, 3, 1] = 255, 1
    assert is_occluded(masks).tolist() == [True, False, False]
    assert is_missing(masks[..., 0]).tolist() == [False, False, True]
    faint = np.full((1, 4, 4), 2, np.uint8)
    assert is_missing(faint).tolist() == [True]


def test_the_generators_missing_symbols_are_found():
    parts, num_classes, _ = active_parts(
        "synbols:missing-symbol-paper?num_samples=300&resolution=8&auxiliary=false&masks=true",
        official_test=False,
        flag=Flag.MISSING,
    )
    assert num_classes == 26
    found = np.concatenate([part["missing"] for part in parts.values()])
    assert found.mean() == pytest.approx(0.1, abs=0.05)


def test_a_source_without_masks_is_refused_where_they_are_needed():
    source = "synbols:default-bw?num_samples=60&resolution=8&auxiliary=false"
    with pytest.raises(UserError, match=r"flag is 'missing', but synbols:default-bw\S+ has no masks; add masks=true"):
        active_parts(source, official_test=False, flag=Flag.MISSING)
    with pytest.raises(UserError, match="no masks of the letter and of the shapes"):
        active_parts(source + "&masks=true", official_test=False, flag=Flag.OCCLUDED)


def test_a_source_that_is_too_small_is_refused():
    with pytest.raises(UserError, match="5 images are too few"):
        split_by_shares({"label": np.zeros(5)}, NAMES)
