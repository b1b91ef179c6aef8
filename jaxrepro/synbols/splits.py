"""Partitions of a dataset into train, valid and test.

    splits = standard_splits(columns)            # what files store; columns as of `attribute_columns`
    splits["stratified_scale"].member            # bool [N, 3], one True per row

    random                        rows shuffled
    stratified_char, _font        no character (font) stands in two parts; values shuffled
    stratified_char_sorted, …     the same in alphabetical order, as the released experiments had it
    stratified_scale, _rotation, _translation-x, _translation-y
                                  by size: the lowest 20 % are valid, the highest 20 % test
    compositional_char_font       part k holds the rows with part_char = part_font + k mod 3
    compositional_rotation_scale  the same with borders at 20 and 80 %, as in the paper's figure 2
    compositional_rotation_scale_60_80   with borders at 60 and 80 %, as the released experiments had it

Source: Synbols (Lacoste et al., 2020), section 3 and figure 2; `random`, `stratified_char`, `stratified_font` and
`compositional_char_font` are those that the original generator stores, with its seed 42, row for row. All depend on
the attributes only, not on the seed of the images.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrepro.errors import UserError, unknown

PARTS = ("train", "valid", "test")
RATIOS = (0.6, 0.2, 0.2)
SEED = 42
SMALLEST = 5  # rows of which each part gets at least one


class Split(NamedTuple):
    """A partition: member bool [N, 3], one True per row; parameters: how it was made, values that JSON can hold."""

    member: np.ndarray
    parameters: dict[str, Any]

    def rows(self) -> dict[str, np.ndarray]:
        """Returns part -> row numbers, ascending."""
        return {part: np.flatnonzero(self.member[:, i]) for i, part in enumerate(PARTS)}


def random_split(num_rows: int, ratios: Sequence[float] = RATIOS, seed: int = SEED) -> Split:
    """Returns an iid partition of rounded sizes, the residue in train.

    Raises:
      UserError: fewer than 5 rows, or ratios that do not add up to one.
    """
    if num_rows < SMALLEST:
        raise UserError(f"{num_rows} samples; three splits need at least {SMALLEST}")
    group = np.repeat(np.arange(3), _sizes(num_rows, ratios))
    np.random.RandomState(seed).shuffle(group)
    return Split(_member(group), {"method": "random", "ratios": list(ratios), "seed": seed})


def stratified_split(values: np.ndarray, name: str, ratios: Sequence[float] = RATIOS, seed: int | None = SEED) -> Split:
    """Returns a partition in which no value stands in two parts.

    Args:
      values: class numbers [N], numbered in the alphabetical order of what they stand for.
      name: of the attribute, for the parameters.
      ratios: shares of the distinct values, not of the rows.
      seed: of the values' order; None takes them in order: the first 20 % valid, then train, the last 20 % test.
    """
    parameters = {"method": "stratified", "attribute": name, "ratios": list(ratios)}
    if seed is None:
        return Split(_member(_SORTED[_class_groups(values, name, _sorted_ratios(ratios), None)]), parameters)
    return Split(_member(_class_groups(values, name, ratios, seed)), parameters | {"seed": seed})


def percentile_split(values: np.ndarray, name: str, ratios: Sequence[float] = RATIOS) -> Split:
    """Returns a partition by size: the lowest values valid, the highest test; a value on a border belongs above it."""
    group = _SORTED[_percentile_groups(values, name, _sorted_ratios(ratios))]
    return Split(_member(group), {"method": "percentile", "attribute": name, "ratios": list(ratios)})


def compositional_split(
    first: np.ndarray, second: np.ndarray, parameters: dict[str, Any], *, largest_first: bool = False
) -> Split:
    """Returns the partition by (first - second) mod 3: every value occurs in all parts, their combinations do not.

    For independent attributes part 0 is the largest, 44 % at ratios 0.6, 0.2, 0.2.

    Args:
      first, second: group numbers [N] in 0, 1, 2.
      parameters: how they were made.
      largest_first: order the parts by size, as the released experiments do.
    """
    member = _member((first - second) % 3)
    if largest_first:
        member = member[:, np.argsort(-member.sum(axis=0), kind="stable")]
    return Split(member, {"method": "compositional", **parameters})


def standard_split(name: str, columns: Mapping[str, np.ndarray]) -> Split:
    """Returns one of the splits of the module's text.

    Args:
      columns: label, font, scale, rotation, translation_x, translation_y, all [N].

    Raises:
      UserError: no such split, or this dataset does not have it: the attribute is constant, or there are too few
        samples or values for three parts.
    """
    if name not in STANDARD:
        raise unknown("split", name, STANDARD)
    split = STANDARD[name](columns)
    _check_parts(split.member.argmax(axis=1), f"the split {name}")
    return split


def standard_splits(columns: Mapping[str, np.ndarray]) -> dict[str, Split]:
    """Returns all of them that the dataset has; see `standard_split`."""
    made = {}
    for name in STANDARD:
        with contextlib.suppress(UserError):  # the dataset does not have this one
            made[name] = standard_split(name, columns)
    return made


_SORTED = np.array([1, 0, 2])  # groups in the order of values -> valid, train, test


def _sorted_ratios(ratios: Sequence[float]) -> tuple[float, ...]:
    return ratios[1], ratios[0], ratios[2]


def _member(group: np.ndarray) -> np.ndarray:
    """Returns part numbers [N] as bool [N, 3]."""
    return np.asarray(group)[:, None] == np.arange(3)


def _sizes(total: int, ratios: Sequence[float]) -> list[int]:
    """Returns rounded shares of a total, the residue added to the first."""
    if len(ratios) != 3 or min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-6:
        raise UserError(f"ratios are {tuple(ratios)}; they must be three shares that add up to 1")
    sizes = [round(ratio * total) for ratio in ratios]
    sizes[0] += total - sum(sizes)
    return sizes


def _class_groups(values: np.ndarray, name: str, ratios: Sequence[float], seed: int | None) -> np.ndarray:
    """Returns each row's group [N]: the distinct values, in order or shuffled, cut into runs."""
    classes, number = np.unique(values, return_inverse=True)
    order = np.arange(len(classes))
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    group = np.empty(len(classes), int)
    group[order] = np.repeat(np.arange(3), _sizes(len(classes), ratios))
    _check_parts(group, f"{name}, which has {len(classes)} values,")
    return group[number]


def _percentile_groups(values: np.ndarray, name: str, ratios: Sequence[float]) -> np.ndarray:
    """Returns each row's group [N] by the cumulated ratios; a value on a border belongs to the later group."""
    if np.isnan(values).all():  # images without a symbol
        raise UserError(f"{name} cannot be split in three: no image has one")
    borders = np.nanpercentile(values, np.cumsum(ratios)[:2] * 100)
    group = np.searchsorted(borders, values, side="right")
    _check_parts(group, name)
    return group


def _check_parts(group: np.ndarray, what: str) -> None:
    sizes = np.bincount(group, minlength=3)
    if not sizes.all():
        raise UserError(f"{what} cannot be split in three: the parts have {', '.join(map(str, sizes))} members")


def _char_font(columns: Mapping[str, np.ndarray]) -> Split:
    groups = (
        _class_groups(columns[column], name, RATIOS, SEED) for column, name in (("label", "char"), ("font", "font"))
    )
    return compositional_split(*groups, {"attributes": ["char", "font"], "ratios": list(RATIOS), "seed": SEED})


def _rotation_scale(columns: Mapping[str, np.ndarray], ratios: Sequence[float], largest_first: bool) -> Split:
    groups = (_percentile_groups(columns[name], name, ratios) for name in ("rotation", "scale"))
    parameters = {"attributes": ["rotation", "scale"], "ratios": list(ratios)}
    return compositional_split(*groups, parameters, largest_first=largest_first)


STANDARD: dict[str, Callable[[Mapping[str, np.ndarray]], Split]] = {
    "random": lambda columns: random_split(len(columns["label"])),
    "stratified_char": lambda columns: stratified_split(columns["label"], "char"),
    "stratified_font": lambda columns: stratified_split(columns["font"], "font"),
    "stratified_char_sorted": lambda columns: stratified_split(columns["label"], "char", seed=None),
    "stratified_font_sorted": lambda columns: stratified_split(columns["font"], "font", seed=None),
    "stratified_scale": lambda columns: percentile_split(columns["scale"], "scale"),
    "stratified_rotation": lambda columns: percentile_split(columns["rotation"], "rotation"),
    "stratified_translation-x": lambda columns: percentile_split(columns["translation_x"], "translation-x"),
    "stratified_translation-y": lambda columns: percentile_split(columns["translation_y"], "translation-y"),
    "compositional_char_font": _char_font,
    "compositional_rotation_scale": lambda columns: _rotation_scale(columns, (0.2, 0.6, 0.2), False),
    "compositional_rotation_scale_60_80": lambda columns: _rotation_scale(columns, RATIOS, True),
}
