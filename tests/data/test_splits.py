"""Parts of splits: the syntax of TFDS, for every source."""

import numpy as np
import pytest

from jaxrepro.data import read_split, table_from_arrays
from jaxrepro.data.splits import balanced_part
from jaxrepro.errors import UserError


def splits(**sizes):
    return {k: table_from_arrays(k, {"label": np.arange(n)}) for k, n in sizes.items()}


SPECS = ["train", "train[:20%]", "train[20%:]", "train[10%:90%]", "train[-15%:]", "train[:-500]", "train[1000:]",
         "train[-500:]", "train[5:7]", "train[:1_000]", "train[33%:67%]", "train[-30%:-10%]"]  # fmt: skip


@pytest.mark.parametrize("num_rows", [1001, 1999, 50_000])
@pytest.mark.parametrize("spec", SPECS)
def test_a_slice_holds_the_rows_that_tfds_would_give(spec, num_rows):
    import tensorflow_datasets as tfds

    info = tfds.core.SplitInfo(name="train", shard_lengths=[num_rows], num_bytes=0, filename_template=None)
    (expected,) = tfds.core.ReadInstruction.from_spec(spec).to_absolute({"train": info})
    rows = read_split(splits(train=num_rows), spec).arrays()["label"]
    assert (rows[0], rows[-1] + 1) == (expected.from_ or 0, expected.to or num_rows)
    assert len(rows) == rows[-1] + 1 - rows[0]


def test_complementary_percentages_share_no_row_and_lose_none():
    for num_rows in range(1, 200):
        both = [read_split(splits(a=num_rows + 10), s).num_rows for s in ("a[:37%]", "a[37%:]")]
        assert sum(both) == num_rows + 10


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("trian", "unknown split 'trian'; did you mean 'train'.; known: 'train' .100 rows., 'test' .10 rows."),
        ("train[20%", "bad split"),
        ("train[a:]", "'a' is neither a row number nor a percentage"),
        ("train[1.5:]", "'1.5' is neither"),
        ("train[:120%]", "120% is beyond the 100 rows"),
        ("train[:101]", "101 is beyond the 100 rows"),
        ("train[60:40]", "is empty: rows 60 to 40 of 100"),
        ("train[:0%]", "is empty"),
        ("", "bad split"),
        ("train[1:2:3]", "bad split"),
    ],
)
def test_a_bad_split_is_a_user_error_that_says_why(spec, message):
    with pytest.raises(UserError, match=message):
        read_split(splits(train=100, test=10), spec)


def test_a_missing_test_split_of_a_source_with_one_split_suggests_to_cut_it():
    with pytest.raises(UserError, match=r"only 'train' \(100 rows\).*config\.data\.test='train\[80%:\]'"):
        read_split(splits(train=100), "test")


def test_validation_is_another_name_of_valid():
    assert read_split(splits(train=10, valid=4), "validation[:50%]").num_rows == 2


def test_a_balanced_part_has_as_many_rows_of_every_class_as_it_can():
    labels = np.repeat([0, 1, 2], [50, 30, 4])
    table = table_from_arrays("t", {"label": labels, "row": np.arange(84)})
    part = balanced_part(table, "label", 28).arrays()  # ten of each of the three classes
    np.testing.assert_array_equal(np.bincount(part["label"]), [10, 10, 4])
    np.testing.assert_array_equal(part["label"], labels[part["row"]])
    assert len(set(part["row"])) == 24
    assert part["row"][9] > 9  # drawn at random, not the first ones
