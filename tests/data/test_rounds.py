"""The timetable of rounds and the order of their batches."""

import numpy as np
import pytest

from jaxrepro.data.rounds import Rounds

ROUNDS = Rounds(initial=10, queries=3, epochs=2, batch_size=4)  # 3, 4, 4 steps an epoch


def test_rounds_end_where_their_epochs_do():
    assert ROUNDS.ends(4) == (6, 14, 22, 32)
    assert [ROUNDS.end_of(r) for r in (-1, 0, 3)] == [0, 6, 32]
    assert [ROUNDS.round_at(step) for step in (0, 5, 6, 13, 14, 31, 32)] == [0, 0, 1, 1, 2, 3, 4]


def test_the_published_protocol_has_121_rounds():
    paper = Rounds(initial=2000, queries=100, epochs=10, batch_size=32)
    assert paper.num_labels(50) == 7000
    assert paper.num_labels(120) == 14_000
    assert paper.end_of(120) == sum(10 * -(-n // 32) for n in range(2000, 14_001, 100))


def test_every_epoch_holds_every_label_once_and_no_other():
    for round_ in range(3):
        start, per_epoch = ROUNDS.end_of(round_ - 1), ROUNDS.steps_per_epoch(round_)
        for epoch in range(2):
            rows = ROUNDS.block(7, start + epoch * per_epoch, per_epoch)
            labels = ROUNDS.num_labels(round_)
            assert sorted(rows[rows >= 0].tolist()) == list(range(labels))
            assert (rows[:-1] >= 0).all(), "only the last batch is small"
            assert (rows[-1] >= 0).sum() == labels - 4 * (per_epoch - 1)


@pytest.mark.parametrize("start", [0, 5, 6, 13])
def test_a_block_does_not_depend_on_where_it_begins(start):
    whole = ROUNDS.block(1, 0, 32)
    np.testing.assert_array_equal(ROUNDS.block(1, start, 9), whole[start : start + 9])
    assert not np.array_equal(ROUNDS.block(2, 0, 32), whole)
