"""Partitions equal slow references written from the description of the original, and have the paper's sizes."""

import string

import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.synbols.splits import STANDARD, random_split, standard_split, standard_splits, stratified_split

N = 20_000


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    return {
        "label": rng.integers(0, 26, N).astype(np.int32),
        "font": rng.integers(0, 50, N).astype(np.int32),
        "scale": (0.6 * np.exp(0.2 * rng.standard_normal(N))).astype(np.float32),
        "rotation": (0.3 * rng.standard_normal(N)).astype(np.float32),
        "translation_x": rng.uniform(-0.9, 0.9, N).astype(np.float32),
        "translation_y": rng.uniform(-0.9, 0.9, N).astype(np.float32),
    }


def shuffled_values(values):
    """The original's: sorted distinct strings, shuffled with seed 42, cut by 60, 20 and 20 % of their number."""
    distinct = np.array(sorted(set(values)))
    np.random.RandomState(42).shuffle(distinct)
    valid = test = round(0.2 * len(distinct))
    train = len(distinct) - valid - test
    return [set(distinct[:train]), set(distinct[train : train + valid]), set(distinct[train + valid :])]


def test_every_row_is_in_one_part_of_every_split(columns):
    made = standard_splits(columns)
    assert set(made) == set(STANDARD)
    for name, split in made.items():
        assert split.member.shape == (N, 3), name
        assert split.member.dtype == bool, name
        assert (split.member.sum(axis=1) == 1).all(), name
        assert split.parameters["ratios"], name


@pytest.mark.parametrize(("num_rows", "sizes"), [(100_000, (60_000, 20_000, 20_000)), (7, (5, 1, 1)), (13, (7, 3, 3))])
def test_the_random_split_has_exact_sizes_with_the_residue_in_train(num_rows, sizes):
    assert tuple(random_split(num_rows).member.sum(axis=0)) == sizes


def test_the_random_split_is_a_shuffled_vector_of_labels():
    expected = np.repeat([0, 1, 2], [60, 20, 20])
    np.random.RandomState(42).shuffle(expected)
    np.testing.assert_array_equal(random_split(100).member.argmax(axis=1), expected)


def test_stratified_characters_are_those_of_the_original(columns):
    chars = np.array(list(string.ascii_lowercase))[columns["label"]]
    groups = shuffled_values(chars.tolist())
    member = standard_split("stratified_char", columns).member
    for part, group in zip(member.T, groups):
        assert set(chars[part]) == group
    assert [len(g) for g in groups] == [16, 5, 5]


@pytest.mark.parametrize(
    ("num_classes", "sizes"), [(26, (16, 5, 5)), (48, (29, 9, 10)), (888, (533, 177, 178)), (1120, (672, 224, 224))]
)
def test_sorted_classes_are_cut_as_in_the_released_experiments(num_classes, sizes):
    rows = stratified_split(np.arange(num_classes), "char", seed=None).rows()
    assert tuple(map(len, rows.values())) == sizes
    assert rows["valid"].max() < rows["train"].min()
    assert rows["train"].max() < rows["test"].min()


@pytest.mark.parametrize("column", ["scale", "rotation", "translation_x", "translation_y"])
def test_the_lowest_fifth_is_valid_and_the_highest_test(columns, column):
    rows = standard_split(f"stratified_{column.replace('_', '-')}", columns).rows()
    values = columns[column]
    assert len(rows["valid"]) == pytest.approx(0.2 * N, abs=2)
    assert len(rows["test"]) == pytest.approx(0.2 * N, abs=2)
    assert values[rows["valid"]].max() < values[rows["train"]].min()
    assert values[rows["train"]].max() < values[rows["test"]].min()


def test_a_value_on_a_border_belongs_to_the_group_above(columns):
    scale = np.repeat([0.0, 1.0, 2.0], [N // 10, N // 2, N - N // 10 - N // 2])  # the percentiles are 1 and 2
    rows = standard_split("stratified_scale", columns | {"scale": scale}).rows()
    assert [set(scale[r]) for r in rows.values()] == [{1.0}, {0.0}, {2.0}]


def test_compositional_parts_of_characters_and_fonts_follow_the_modular_rule(columns):
    chars, fonts = (
        np.array([next(k for k, g in enumerate(shuffled_values(v.tolist())) if x in g) for x in v])
        for v in (columns["label"][:500], columns["font"][:500])
    )
    few = {k: v[:500] for k, v in columns.items()}
    member = standard_split("compositional_char_font", few).member
    for k in range(3):
        np.testing.assert_array_equal(member[:, k], chars == (fonts + k) % 3)


@pytest.mark.parametrize("name", ["compositional_rotation_scale", "compositional_rotation_scale_60_80"])
def test_compositional_parts_have_the_published_shares_and_share_every_range(columns, name):
    split = standard_split(name, columns)
    np.testing.assert_allclose(split.member.mean(axis=0), (0.44, 0.28, 0.28), atol=0.02)
    for part in split.member.T:
        for values in (columns["rotation"], columns["scale"]):
            inside = values[part]
            assert (inside < np.percentile(values, 20)).any()
            assert (inside > np.percentile(values, 80)).any()


def test_the_released_experiments_train_on_the_largest_part_even_if_attributes_depend_on_each_other(columns):
    both = {"rotation": columns["rotation"], "scale": -columns["rotation"]}
    shares = standard_split("compositional_rotation_scale_60_80", columns | both).member.mean(axis=0)
    np.testing.assert_allclose(shares, (0.4, 0.4, 0.2), atol=0.01)  # train is the second by the modular rule


def test_train_holds_the_middle_of_both_attributes_as_in_figure_2(columns):
    rows = standard_split("compositional_rotation_scale", columns).rows()["train"]
    middle = np.ones(N, bool)
    for values in (columns["rotation"], columns["scale"]):
        low, high = np.percentile(values, [20, 80])
        middle &= (values > low) & (values < high)
    assert set(np.flatnonzero(middle)) <= set(rows)


def test_a_constant_attribute_gives_no_split_and_says_so(columns):
    constant = columns | {"scale": np.full(N, 0.5, np.float32)}
    assert {n for n in STANDARD if "scale" not in n} == set(standard_splits(constant))
    with pytest.raises(UserError, match="scale cannot be split in three"):
        standard_split("stratified_scale", constant)


def test_few_rows_have_no_random_split():
    few = {k: np.arange(4) for k in ("label", "font", "scale", "rotation", "translation_x", "translation_y")}
    assert "random" not in standard_splits(few)
    with pytest.raises(UserError, match="4 samples; three splits need at least 5"):
        random_split(4)


def test_unknown_splits_and_bad_ratios_are_user_errors(columns):
    with pytest.raises(UserError, match="did you mean 'stratified_scale'"):
        standard_split("stratified_scal", columns)
    with pytest.raises(UserError, match="add up to 1"):
        random_split(100, (0.6, 0.2, 0.1))
