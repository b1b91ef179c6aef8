"""The order of training rows, streamed and resident, and batches for evaluation."""

import numpy as np
import pytest

from jaxrepro.data import make_source, padded_batches, table_from_arrays
from jaxrepro.data.batches import epochs_of_whole_batches, row_order
from jaxrepro.errors import UserError
from jaxrepro.experiment import streamed_rows, take_rows
from jaxrepro.rng import Purpose, generator


def toy_table(num_rows=50):
    values = np.random.default_rng(0).integers(0, 256, (num_rows, 4, 4, 3), dtype=np.uint8)
    return table_from_arrays("toy", {"image": values, "label": np.arange(num_rows, dtype=np.int32), "extra": values})


def resident_and_streamed(num_rows=50, batch_size=8):
    """Returns two sources over the same table that differ in where the rows are kept."""
    table = toy_table(num_rows)
    columns = ("image", "label")
    return (make_source(table, batch_size, columns=columns, resident_limit_mb=mb) for mb in (1, 0))


def test_the_order_is_that_of_concatenated_permutations_of_the_epochs():
    order = row_order(50, 8, shuffle=True)
    expected = np.concatenate([generator(3, Purpose.DATA, e).permutation(50) for e in range(5)])
    found = order(3, 0, 30)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found.reshape(-1), expected[:240])


def test_every_epoch_holds_every_row_once_though_batches_straddle_epochs():
    rows = row_order(50, 8, shuffle=True)(0, 0, 25).reshape(4, 50)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(50), (4, 1)))
    assert (rows[0] != rows[1]).any()


def test_a_batch_larger_than_the_table_spans_several_epochs():
    rows = row_order(5, 12, shuffle=True)(0, 0, 5).reshape(12, 5)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(5), (12, 1)))


@pytest.mark.parametrize("lengths", [[1] * 40, [7, 20, 13], [40]])
def test_blocks_of_any_length_give_the_same_steps(lengths):
    whole = row_order(50, 8, shuffle=True)(1, 0, 40)
    order, start, pieces = row_order(50, 8, shuffle=True), 0, []
    for length in lengths:
        pieces.append(order(1, start, length))
        start += length
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_seeds_give_different_orders_and_asking_again_the_same():
    order = row_order(50, 8, shuffle=True)
    first = order(0, 3, 2)
    assert (order(1, 3, 2) != first).any()
    np.testing.assert_array_equal(order(0, 3, 2), first)


def test_without_shuffling_rows_come_in_their_own_order_in_every_epoch():
    np.testing.assert_array_equal(row_order(5, 3, shuffle=False)(7, 0, 4).reshape(-1), np.arange(12) % 5)


def test_streamed_batches_equal_resident_ones():
    (resident, draw), (streamed, streamed_draw) = resident_and_streamed()
    assert draw is take_rows
    assert streamed_draw is streamed_rows
    assert streamed.arrays == {}
    for start, length in [(0, 4), (4, 9), (13, 1)]:
        rows = resident.block(5, start, length)
        batches = streamed.block(5, start, length)
        assert list(batches) == ["image", "label"]
        for name, values in batches.items():
            np.testing.assert_array_equal(values, resident.arrays[name][rows])
            assert values.dtype == resident.arrays[name].dtype


def test_a_stream_resumes_anywhere_and_may_be_asked_twice():
    (resident, _), (streamed, _) = resident_and_streamed()
    for start in (0, 30, 30, 2, 1000):
        rows = resident.block(0, start, 3)
        np.testing.assert_array_equal(streamed.block(0, start, 3)["label"], rows)


def test_streams_of_several_seeds_do_not_disturb_each_other():
    (resident, _), (streamed, _) = resident_and_streamed()
    for start in (0, 2, 4):
        for seed in range(20):
            np.testing.assert_array_equal(streamed.block(seed, start, 2)["label"], resident.block(seed, start, 2))


def test_only_the_named_columns_count_towards_the_limit_and_are_kept():
    table = toy_table(1000)  # image 48 kB, label 4 kB, extra 48 kB
    source, draw = make_source(table, 8, columns=("label",), resident_limit_mb=0.01)
    assert draw is take_rows
    assert list(source.arrays) == ["label"]
    assert make_source(table, 8, columns=("image",), resident_limit_mb=0.01)[1] is streamed_rows


def test_draw_takes_the_rows_of_a_resident_source():
    (resident, draw), _ = resident_and_streamed()
    rows = resident.block(0, 0, 1)[0]
    batch = draw(None, resident.arrays, rows, None)
    np.testing.assert_array_equal(batch["label"], rows)


def test_a_source_knows_its_length_of_an_epoch():
    (resident, _), (streamed, _) = resident_and_streamed()
    assert resident.steps_per_epoch == streamed.steps_per_epoch == 50 / 8


def test_an_error_while_reading_ahead_reaches_the_caller():
    from jaxrepro.data.dataset import Table

    def fail(rows):
        raise UserError("the file is damaged")

    table = toy_table()
    source, _ = make_source(Table("bad", 50, table.columns, fail), 8, columns=("image",), resident_limit_mb=0)
    with pytest.raises(UserError, match="the file is damaged"):
        source.block(0, 0, 1)


def test_an_unknown_column_and_an_empty_batch_are_user_errors():
    with pytest.raises(UserError, match="unknown column of toy 'lable'; did you mean 'label'"):
        make_source(toy_table(), 8, columns=("lable",), resident_limit_mb=1)
    with pytest.raises(UserError, match="the batch size is 0"):
        make_source(toy_table(), 0, columns=("label",), resident_limit_mb=1)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(10, 4), (8, 4), (3, 5), (1, 1)])
def test_padded_batches_hold_every_row_once_under_the_mask(num_rows, batch_size):
    rows, mask = padded_batches(num_rows, batch_size)
    assert rows.shape == mask.shape == (-(-num_rows // batch_size), batch_size)
    assert (rows.dtype, mask.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(rows[mask == 1], np.arange(num_rows))
    assert mask.sum() == num_rows


def test_an_epoch_holds_every_row_and_fills_its_last_batch_by_repetition():
    orders = {(s, e): np.random.default_rng([s, e]).permutation(20) for s in range(2) for e in range(3)}
    block = epochs_of_whole_batches(20, 8, lambda seed, epoch: orders[seed, epoch])
    rows = block(1, 0, 9)
    for epoch in range(3):
        of_epoch = rows[3 * epoch : 3 * epoch + 3]
        np.testing.assert_array_equal(of_epoch[:2].ravel(), orders[1, epoch][:16])
        np.testing.assert_array_equal(of_epoch[2], np.tile(orders[1, epoch][16:], 2))
    np.testing.assert_array_equal(block(1, 4, 3), rows[4:7])


def test_a_source_of_whole_epochs_counts_the_filled_up_rows():
    table = table_from_arrays("t", {"x": np.arange(20)})
    source, _ = make_source(table, 8, columns=("x",), resident_limit_mb=1, whole_epochs=True)
    assert source.steps_per_epoch == 3
    rows = source.block(0, 0, 6)
    assert set(rows[:3].ravel()) == set(rows[3:].ravel()) == set(range(20))
    assert len(set(rows[2])) == 4
    assert (rows[:2] != rows[3:5]).any()
