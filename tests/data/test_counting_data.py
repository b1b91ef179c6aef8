"""The parts of counting: splits, overlaps, facts, and batches with replacement."""

import dataclasses

import numpy as np
import pytest

from jaxrepro.data import counting, table_from_arrays
from jaxrepro.data.counting import Overlap, counting_parts, with_replacement
from jaxrepro.errors import UserError

SPLITS = {"train": "train[:8]", "valid": "train[8:12]", "test": "valid"}


def tables(side=32, **changes):
    random = np.random.default_rng(0)
    points = random.random((20, side, side)) < 0.01
    arrays = {
        "image": random.integers(0, 256, (20, side, side, 3), np.uint8),
        "points": np.packbits(points, axis=-1),
        "overlap_score": np.where(np.arange(20) % 2, 0.0, 0.1).astype(np.float32),
        "letter_size": np.arange(20, dtype=np.float32),
        "label": np.zeros(20, np.int32),
    } | changes
    table = table_from_arrays("made-up", {k: a for k, a in arrays.items() if a is not None})
    table = dataclasses.replace(table, classes={"label": tuple("abc")}, note="only three letters")
    return {"train": table, "valid": table}


@pytest.fixture
def loaded(monkeypatch):
    def load(**changes):
        monkeypatch.setattr(counting, "load_dataset", lambda source, smoke_command: tables(**changes))

    load()
    return load


def test_parts_are_cut_first_and_then_filtered_by_overlap(loaded):
    parts, facts, notes = counting_parts("made-up?split=stratified_char", SPLITS, Overlap.NONE)
    assert notes == ("only three letters",)
    assert [len(part["image"]) for part in parts.values()] == [4, 2, 10]
    assert parts["train"]["letter_size"].tolist() == [1, 3, 5, 7]
    assert parts["valid"]["letter_size"].tolist() == [9, 11]
    assert parts["train"]["points"].dtype == bool
    assert parts["train"]["points"].shape == (4, 32, 32)
    named = {"image_side": 32, "partition": "stratified_char", "overlap": "none"}
    assert facts == {"num_images": 40, "num_train": 8, "num_classes": 3} | named
    some, *_ = counting_parts("made-up", SPLITS, Overlap.SOME)
    every, facts, _ = counting_parts("made-up", SPLITS, Overlap.ANY)
    assert (len(some["test"]["image"]), len(every["test"]["image"])) == (10, 20)
    assert facts["partition"] == "random"


def test_rows_are_drawn_uniformly_with_replacement_and_depend_on_seed_and_step_alone():
    block = with_replacement(num_rows=10, batch_size=4)
    rows = block(0, 0, 500)
    assert rows.shape == (500, 4)
    assert rows.dtype == np.int32
    assert np.bincount(rows.ravel(), minlength=10) / 2000 == pytest.approx(0.1, abs=0.03)
    assert any(len(set(row)) < 4 for row in rows.tolist())
    np.testing.assert_array_equal(block(0, 123, 2), rows[123:125])
    assert (block(1, 0, 500) != rows).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": None}, "made-up has no points to count; they are made from masks"),
        ({"points": np.zeros((20, 32, 4), np.uint8)}, "no image of made-up shows the counted letter"),
        ({"image": np.zeros((20, 24, 32, 3), np.uint8)}, "made-up are 24×32 pixels; they must be square"),
        ({"side": 16}, "made-up are 16×16 pixels; five poolings need 32×32"),
        ({"overlap_score": None}, "config.task.overlap is 'some', but made-up records no overlaps"),
        ({"overlap_score": np.zeros(20, np.float32)}, r"made-up\[0:8\] has no image with config.task.overlap='some'"),
    ],
)
def test_data_that_cannot_be_counted_is_refused_in_one_line(changes, message, loaded):
    loaded(**changes)
    with pytest.raises(UserError, match=message):
        counting_parts("made-up", SPLITS, Overlap.SOME)
