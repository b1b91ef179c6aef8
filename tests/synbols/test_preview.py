"""Pictures show what they say, and are written whole or not at all."""

import importlib.util
import os

import numpy as np
import pytest
from PIL import Image

from jaxrepro.errors import UserError
from jaxrepro.synbols import patterns, preview
from jaxrepro.synbols.generate import Recipe, generate_file, render_arrays
from jaxrepro.synbols.languages import alphabet
from jaxrepro.synbols.predefined import DATASETS


def test_tiles_stand_in_reading_order_with_white_between_them():
    images = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]
    picture = preview.tile(images, 2)
    assert picture.shape == (2 * 4 + 1, 2 * 6 + 1, 3)
    assert (picture[:4, :6] == 10).all()
    assert (picture[:4, 7:] == 20).all()
    assert (picture[5:, :6] == 30).all()
    assert (picture[4] == 255).all()
    assert (picture[:, 6] == 255).all()
    assert (picture[5:, 7:] == 255).all()  # no fourth image


def test_tiles_of_any_size_are_enlarged_by_repeating_their_pixels():
    small = np.array([[[10], [20]], [[30], [40]]], np.uint8)  # gray
    picture = preview.tile([small, np.full((8, 8, 3), 50, np.uint8)], 2, cell=8)
    assert picture.shape == (8, 17, 3)
    np.testing.assert_array_equal(picture[:, :8, 0], np.kron(small[..., 0], np.ones((4, 4))))
    assert (picture[:, 9:] == 50).all()


@pytest.mark.parametrize("figure", ["grid", "letters", "attributes", "histograms", "splits"])
def test_a_figure_is_a_picture_with_something_in_it(tmp_path, figure, monkeypatch):
    monkeypatch.setattr(preview, "NUM_POINTS", 300)
    preview.write(figure, tmp_path / "a.png", Recipe("default"))
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert min(pixels.shape[:2]) > 300
    assert (pixels.min(axis=-1) < 250).mean() > 0.05
    assert os.listdir(tmp_path) == ["a.png"]


def test_the_grid_holds_the_first_samples_of_the_dataset(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(preview, "_stacked", lambda rows: shown.update(rows))
    preview.grid(Recipe("default", 3), None)
    x = render_arrays(Recipe("default", 3).load(), 3, range(100))[0]
    np.testing.assert_array_equal(shown["default"], preview.tile(list(x), 10))
    path = generate_file(Recipe("default", 3), 40, tmp_path / "a.h5")
    preview.grid(Recipe("default"), path)
    np.testing.assert_array_equal(shown["a.h5"], preview.tile(list(x[:40]), 10))


def test_letters_are_a_row_for_each_font_and_a_column_for_each_character(monkeypatch):
    shown = {}
    monkeypatch.setattr(preview, "_stacked", lambda rows, beside: shown.update(rows))
    preview.letters(Recipe("default", options={"language": "greek"}), None)
    found = alphabet("greek", auxiliary=False)
    assert list(shown) == [font.name for font in found.fonts]
    size = 32 + 2
    assert {p.shape for p in shown.values()} == {(32, size * preview.NUM_LETTERS - 2, 3)}
    alpha, beta = (next(iter(shown.values()))[:, i * size : i * size + 32] for i in range(2))
    assert alpha.min() == beta.min() == 0
    assert (alpha != beta).any()


def test_the_picture_beside_a_file_of_large_images_is_small(tmp_path):
    path = generate_file(Recipe("plain", options={"resolution": 300}), 3, tmp_path / "a.h5")
    assert Image.open(preview.beside(path)).size == (3 * 128 + 2 * 8, 128)


def test_every_dataset_that_there_are_fonts_for_has_a_row(monkeypatch):
    names = []
    monkeypatch.setattr(preview, "_stacked", lambda rows, beside: names.extend(name for name, _ in rows))
    monkeypatch.setattr(preview, "NUM_COLUMNS", 1)
    preview.datasets(Recipe("default"), None)
    assert set(DATASETS) - set(names) <= {"korean-1k"}
    assert len(names) > 25


def test_without_photographs_the_other_datasets_have_their_rows(tmp_path, monkeypatch):
    """As in the distribution of the generator alone, which brings no scikit-learn."""
    names, find_spec = [], importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else find_spec(name))
    monkeypatch.setattr(preview, "_stacked", lambda rows, beside: names.extend(name for name, _ in rows))
    monkeypatch.setattr(preview, "NUM_COLUMNS", 1)
    monkeypatch.setattr(preview, "DATASETS", {k: DATASETS[k] for k in ("plain", "natural-patterns")})
    patterns.forget_pictures()
    preview.datasets(Recipe("default"), None)
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "a.png")
    preview.datasets(Recipe("default", options={"pictures": str(tmp_path)}), None)
    patterns.forget_pictures()
    assert names == ["plain", "plain", "natural-patterns"]


def test_histograms_show_all_samples_by_part(tmp_path):
    path = generate_file(Recipe("default", options={"resolution": 8}), 50, tmp_path / "a.h5")
    figure = preview.histograms(Recipe("default"), path)
    axis = next(a for a in figure.axes if a.get_title() == "scale")
    assert sum(p.get_height() for p in axis.patches) == 50
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["train", "valid", "test"]


def test_the_split_figure_shows_the_parts(monkeypatch):
    monkeypatch.setattr(preview, "NUM_POINTS", 200)
    figure = preview.splits(Recipe("default"), None)
    stratified = figure.axes[1]
    for axis in figure.axes:
        assert sum(len(c.get_offsets()) for c in axis.collections) == 200
    train, valid, test = (c.get_offsets()[:, 1] for c in stratified.collections)
    assert valid.max() < train.min()
    assert train.max() < test.min()


def test_mistakes_are_user_errors_and_leave_nothing(tmp_path):
    with pytest.raises(UserError, match="did you mean 'histograms'"):
        preview.write("histogram", tmp_path / "a.png", Recipe("default"))
    with pytest.raises(UserError, match="renders its own images; leave out"):
        preview.write("datasets", tmp_path / "a.png", Recipe("default"), tmp_path / "a.h5")
    with pytest.raises(UserError, match=r"a\.h5 does not exist"):
        preview.write("grid", tmp_path / "a.png", Recipe("default"), tmp_path / "a.h5")
    with pytest.raises(UserError, match="cannot be split in three"):
        preview.write("splits", tmp_path / "a.png", Recipe("plain"))
    assert os.listdir(tmp_path) == []
