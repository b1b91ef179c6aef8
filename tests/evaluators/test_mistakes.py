"""Confusion matrices and pictures of mistakes."""

import numpy as np
import pytest

from jaxrepro.data import table_from_arrays
from jaxrepro.evaluators.mistakes import (
    GAP,
    MISTAKE_COLUMNS,
    confusion,
    draw_confusion,
    draw_mistakes,
    draw_most_confused,
    most_confused,
    most_wrong,
)
from jaxrepro.evaluators.split_scatter import draw_splits

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 2, 2, 1, 0, 2])


def test_the_matrix_counts_true_classes_in_rows_and_predictions_in_columns():
    np.testing.assert_array_equal(confusion(LABELS, PREDICTED, 3), [[1, 0, 2], [1, 1, 0], [0, 0, 1]])


def test_the_most_confused_pairs_are_shares_of_the_true_class_and_never_right_answers():
    assert most_confused(confusion(LABELS, PREDICTED, 3)) == [(0, 2, 2 / 3), (1, 0, 0.5)]


def test_a_class_without_images_is_no_division_by_zero():
    matrix = confusion(np.array([0]), np.array([0]), 3)
    assert most_confused(matrix) == []
    assert "no mistakes" in [t.get_text() for t in draw_confusion(matrix, "abc").axes[1].texts]


def test_mistakes_are_shown_from_the_most_confident_on_and_right_answers_never():
    images = np.zeros((6, 8, 8, 1), np.uint8)
    found = {"label": LABELS, "predicted": PREDICTED, "confidence": np.array([0.9, 0.3, 0.8, 0.99, 0.5, 0.7])}
    figure = draw_mistakes(images, found, ("a", "b", "c"))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["a → c\n80 %", "b → a\n50 %", "a → c\n30 %"]
    assert len(figure.axes) == MISTAKE_COLUMNS
    right = {**found, "predicted": LABELS}
    assert draw_mistakes(images, right, ("a", "b", "c")) is None


def test_every_split_has_its_points_in_every_panel_that_the_data_has():
    generator = np.random.default_rng(0)
    names = ("rotation", "scale", "label", "font")

    def table(n):
        return table_from_arrays("t", {k: generator.uniform(1, 2, n) for k in names})

    figure = draw_splits({"train": table(30), "valid": table(10), "test": table(20)})
    assert len(figure.axes) == 2
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [30, 10, 20]
    assert draw_splits({"train": table_from_arrays("t", {"label": np.zeros(3)})}) is None


def test_points_of_classes_spread_to_both_sides_and_not_along_a_diagonal():
    rows = {"label": np.zeros(400, np.int32), "font": np.zeros(400, np.int32)}
    figure = draw_splits({"train": table_from_arrays("train", rows)})
    x, y = figure.axes[0].collections[0].get_offsets().T
    assert np.ptp(x) > 0.5
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.2


def test_the_most_confused_classes_have_the_largest_shares_of_errors():
    matrix = confusion(LABELS, PREDICTED, 4)  # the last class has no images
    assert most_wrong(matrix) == [(0, pytest.approx(2 / 3)), (1, 0.5)]


def test_the_most_confused_classes_show_their_errors_with_the_wrong_names_and_nothing_else():
    found = {"label": LABELS, "predicted": PREDICTED, "confidence": np.array([0.9, 0.3, 0.8, 0.99, 0.5, 0.7])}
    figure = draw_most_confused(np.zeros((6, 8, 8, 1), np.uint8), found, ("a", "b", "c"))
    assert [ax.get_ylabel() for ax in figure.axes] == ["a\n67 % wrong", "b\n50 % wrong"]
    assert [[t.get_text() for t in ax.texts] for ax in figure.axes] == [["→ c", "→ c"], ["→ a"]]
    assert figure.axes[0].images[0].get_array().shape == (8, 2 * 8 + GAP, 3)
    right = {"label": LABELS, "predicted": LABELS, "confidence": np.ones(6)}
    assert draw_most_confused(np.zeros((6, 8, 8, 1), np.uint8), right, ("a", "b", "c")) is None
