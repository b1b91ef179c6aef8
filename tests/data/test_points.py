"""Points from masks: one in every visible letter that is counted; the same from a rendered source and from a file."""

import h5py
import numpy as np
import pytest
from scipy import ndimage

from jaxrepro.data import load_dataset
from jaxrepro.data.points import letter_size, point_columns, point_map, unpack_points
from jaxrepro.errors import UserError
from jaxrepro.synbols.generate import Recipe, generate_file

SOURCE = "synbols:counting?num_samples=30&auxiliary=false&resolution=48"


def slow_points(labels, letters, counted):
    """As the released code has it: the transform of the whole image for every letter."""
    found = np.zeros(labels.shape, bool)
    for number in np.unique(labels[labels > 0]):
        if letters[number - 1] == counted:
            depth = ndimage.distance_transform_edt(labels == number)
            found.flat[depth.argmax()] = True
    return found


def random_labels(random, side=24, most=9):
    """Returns rectangles over each other; some touch the border, some are covered wholly."""
    labels = np.zeros((side, side), np.uint8)
    for number in range(1, most + 1):
        top, left = random.integers(0, side, 2)
        height, width = random.integers(1, 9, 2)
        labels[max(0, top - 3) : top + height, max(0, left - 3) : left + width] = number
    return labels


def test_points_are_those_of_the_distance_transform_of_whole_images():
    random = np.random.default_rng(0)
    for _ in range(100):
        labels, letters = random_labels(random), random.choice(list("aab"), 9)
        np.testing.assert_array_equal(point_map(labels, letters, "a"), slow_points(labels, letters, "a"))


def test_a_letter_that_others_cover_has_no_point_and_other_letters_have_none():
    labels = np.zeros((8, 8), np.uint8)
    labels[1:4, 1:4], labels[5:8, 5:8] = 2, 3
    assert np.argwhere(point_map(labels, "aab", "a")).tolist() == [[2, 2]]
    assert np.argwhere(point_map(labels, "aab", "b")).tolist() == [[7, 7]], "the border of an image is no edge"
    assert letter_size(labels, "aab", "a") == 3
    assert np.isnan(letter_size(labels, "aab", "z"))


def test_of_equally_deep_pixels_the_first_one_is_the_point():
    labels = np.zeros((6, 9), np.uint8)
    labels[1:5, 2:8] = 1
    assert np.argwhere(point_map(labels, "a", "a")).tolist() == [[2, 3]]


def test_points_are_packed_to_bits_and_back():
    random = np.random.default_rng(0)
    masks = np.stack([random_labels(random, side=21) for _ in range(5)])
    attributes = [{"symbols": [{"char": c} for c in random.choice(list("ab"), 9)]} for _ in masks]
    columns = point_columns(masks, attributes, "a")
    assert columns["points"].shape == (5, 21, 3)
    for i, points in enumerate(unpack_points(columns["points"], 21)):
        letters = [s["char"] for s in attributes[i]["symbols"]]
        np.testing.assert_array_equal(points, slow_points(masks[i], letters, "a"))


def test_masks_of_whole_symbols_have_no_points():
    with pytest.raises(UserError, match="one label per pixel; take a dataset such as counting"):
        point_columns(np.zeros((2, 8, 8, 3), np.uint8), [{"symbols": []}] * 2, "a")


def test_a_rendered_source_and_a_file_of_it_have_the_same_points(tmp_path):
    rendered = load_dataset(f"{SOURCE}&points=a")
    masked = load_dataset(f"{SOURCE}&masks=true")
    assert "mask" not in rendered["train"].columns
    path = tmp_path / "counting.h5"
    generate_file(Recipe("counting", 0, {"auxiliary": False, "resolution": 48}), 30, path)
    stored = load_dataset(f"hdf5:{path}?points=a")
    total = 0
    for part, table in rendered.items():
        arrays, masks, file = table.arrays(), masked[part].arrays(), stored[part].arrays()
        np.testing.assert_array_equal(arrays["image"], masks["image"])
        np.testing.assert_array_equal(arrays["points"], file["points"])
        np.testing.assert_array_equal(arrays["letter_size"], file["letter_size"])
        points = unpack_points(arrays["points"], 48)
        assert all((masks["mask"][points] > 0).tolist())
        assert (points.sum((1, 2)) <= arrays["num_symbols"]).all()
        total += points.sum()
    assert total / 30 == pytest.approx(0.71 * 6, rel=0.35)


def test_a_file_without_masks_and_a_letter_that_is_not_drawn_are_told_apart(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["image"] = np.zeros((5, 32, 32, 3), np.uint8)
    with pytest.raises(UserError, match=r"plain\.h5 is no file of Synbols and stores no splits or masks"):
        load_dataset(f"hdf5:{tmp_path / 'plain.h5'}?points=a")
    with h5py.File(tmp_path / "unmasked.h5", "w") as file:
        file["x"] = np.zeros((5, 32, 32, 3), np.uint8)
        file.create_dataset("y", data=["{}"] * 5, dtype=h5py.string_dtype())
    with pytest.raises(UserError, match=r"unmasked\.h5 stores no masks; remove \?points=a"):
        load_dataset(f"hdf5:{tmp_path / 'unmasked.h5'}?points=a")
    with pytest.raises(UserError, match="unknown letter in points= of synbols:counting: 'ж'"):
        load_dataset(f"{SOURCE}&points=ж")
