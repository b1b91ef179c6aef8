"""Errors of counts, cell by cell, and the pictures of a counter."""

from types import SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from contexts import at_end

from jaxrepro.evaluators import counting_pictures as pictures
from jaxrepro.evaluators.counting import cell_sums, counting_test, game
from jaxrepro.training.counting import Density, Task


def map_of(*points, side=128):
    found = np.zeros((1, side, side), np.float32)
    for row, column in points:
        found[0, row, column] += 1
    return found


def test_game_of_two_points_that_were_moved():
    true, predicted = map_of((5, 5), (70, 70)), map_of((5, 20), (100, 100))
    assert [float(game(predicted, true, level)[0]) for level in range(4)] == [0, 0, 2, 4]


def test_game_does_not_fall_with_the_level_and_begins_with_the_absolute_error():
    random = np.random.default_rng(0)
    predicted, true = random.random((5, 64, 64)), random.random((5, 64, 64)) < 0.01
    by_level = np.array([game(predicted, true, level) for level in range(4)])
    np.testing.assert_allclose(by_level[0], np.abs(predicted.sum((1, 2)) - true.sum((1, 2))))
    assert (np.diff(by_level, axis=0) >= -1e-9).all()


def test_pixels_beyond_the_last_whole_cell_belong_to_none():
    assert cell_sums(map_of((99, 99), (95, 0), side=100), 3).tolist() == [[[0] * 8] * 7 + [[1] + [0] * 7]]


def test_first_images_and_then_the_worst_are_shown_each_once():
    assert pictures.chosen(np.array([9.0, 0, 0, 1, 5, 5, 7])).tolist() == [0, 1, 2, 6, 4, 5]
    assert pictures.chosen(np.array([1.0, 2.0])).tolist() == [0, 1]


@pytest.mark.parametrize("blobs", [True, False])
def test_predictions_show_points_counts_and_what_was_seen(blobs):
    random = np.random.default_rng(0)
    images, points = random.integers(0, 256, (4, 32, 32, 3), np.uint8), random.random((4, 32, 32)) < 0.01
    maps = random.normal(size=(4, 32, 32)).astype(np.float32)
    seen = [m > 1 for m in maps] if blobs else list(maps)
    figure = pictures.draw_predictions(images, points, seen, maps, maps.sum((1, 2)), "made-up")
    titles = [ax.get_title() for ax in figure.axes]
    assert f"true: {points[0].sum()}" in titles
    assert sum(t.startswith("predicted: ") for t in titles) == 4


def test_errors_are_drawn_against_what_varies_only():
    errors, size = np.arange(10.0), np.linspace(3, 9, 10)
    size[2] = np.nan
    figure = pictures.draw_errors(errors, {"overlap": np.zeros(10), "letter_size": size}, "made-up")
    (panel,) = figure.axes
    assert panel.get_xlabel() == pictures.LABELS["letter_size"]
    assert len(panel.lines[0].get_xdata()) == 9
    assert pictures.draw_errors(errors, {"overlap": np.zeros(10)}, "made-up") is None


def test_images_of_one_value_are_in_one_share():
    """Most images of a set have no overlap at all: one point, not a column of them."""
    values = np.array([0.0] * 12 + [0.2, 0.2, 0.2, 0.3])
    line = pictures.draw_errors(np.arange(16.0), {"overlap": values}, "made-up").axes[0].lines[1]
    np.testing.assert_allclose(line.get_xdata(), [0, 0.225])
    np.testing.assert_allclose(line.get_ydata(), [5.5, 13.5])
    shares = pictures._shares(np.random.default_rng(0).permutation(80.0 * np.arange(80)))
    assert {len(s) for s in shares} <= {9, 10, 11}


def test_counts_are_drawn_beside_the_constant():
    true, counts = np.array([3, 4, 5]), np.array([2.7, 4.4, -1.0])
    scatter, bars = pictures.draw_counts(true, counts, 4.0, "made-up").axes
    assert scatter.get_xlabel() == "true count"
    assert [t.get_text() for t in bars.get_legend().get_texts()] == ["true", "predicted"]


def test_a_wild_count_makes_wide_bars_not_many():
    true, counts = np.array([3, 4, 5]), np.array([2.7, -90_000.3, 71_000.0])
    _, bars = pictures.draw_counts(true, counts, 4.0, "made-up").axes
    assert len(bars.patches) <= pictures.MOST_BARS + 2
    assert sum(p.get_height() for p in bars.patches[: pictures.MOST_BARS]) == 3


class Seen(nn.Module):
    """Sees the first two channels of an image as they are."""

    @nn.compact
    def __call__(self, images, train):
        return images[..., :2]


def test_one_image_is_a_test_whose_errors_nothing_explains():
    part = {
        "image": np.full((1, 32, 32, 3), 2, np.uint8),
        "points": map_of((3, 4), side=32) > 0,
        "overlap": np.zeros(1),
        "letter_size": np.full(1, 5.0),
    }
    task = Task(Seen(), Density(), lambda x: x.astype(jnp.float32) / 1024, optimizer=None, patience=1)
    evaluator = counting_test(task, "FCN8-D", "made-up", part, np.array([2, 3]), {})
    found = evaluator.fn(SimpleNamespace(best=SimpleNamespace(kept={})), {"image": part["image"]}, at_end())
    assert found.metrics["mae"] == pytest.approx(1)
    assert found.metrics["constant_mae"] == pytest.approx(1.5)
    assert set(found.pictures) == {"predictions", "counts"}
