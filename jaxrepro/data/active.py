"""The parts of a dataset in active learning: pool, calibration, validation and test, and faults put into them.

    parts, num_classes, notes = active_parts(config.data.source, official_test=False)
    parts["pool"]["image"], parts["pool"]["missing"]

A fixed permutation gives 70 % to the pool and 10 % to each of the others, as the released code of Synbols (Lacoste et
al., 2020) has it; with `official_test` the source's own test set stays the test (CIFAR-10), and the training set gives
70, 10 and 10 %. Faults are drawn from fixed seeds, so all methods and runs see the same data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from jaxrepro.data.classes import class_names
from jaxrepro.data.dataset import check_colours, notes_of
from jaxrepro.data.sources import load_dataset
from jaxrepro.data.splits import read_split
from jaxrepro.errors import UserError, check
from jaxrepro.rng import generator

PARTS = ("pool", "calibration", "valid", "test")
SHARES = (0.7, 0.1, 0.1, 0.1)
SPLIT_SEED = 42
VISIBLE = 2  # coverage of 255 up to which a pixel does not count as the symbol's

Part = dict[str, np.ndarray]


class Flag(StrEnum):
    """What is counted among the queries: images without a symbol, or with one behind a shape."""

    NONE = "none"
    MISSING = "missing"
    OCCLUDED = "occluded"


@dataclass(frozen=True)
class FaultConfig:
    """Faults of the data; 0 = none.

    Attributes:
      label_share: probability that an image of any part has a false label.
      permuted: the labels of those images are permuted among themselves (released code), not drawn anew (paper).
      pixel_std: of normal noise on images of the pool, on the scale 0 … 1, clipped.
      pixel_share: probability that an image of the pool has it.
      blank_share: probability that an image of any part shows nothing but the colour of its corner; it counts as one
        without a symbol. For data that has no images without one.
    """

    label_share: float = 0.0
    permuted: bool = False
    pixel_std: float = 0.0
    pixel_share: float = 0.5
    blank_share: float = 0.0

    @property
    def text(self) -> str:
        """In words, for the facts of a record; "none" for clean data."""
        found = []
        if self.label_share:
            how = "permuted" if self.permuted else "drawn anew"
            found.append(f"labels of {100 * self.label_share:g} % of the images {how}")
        if self.pixel_std and self.pixel_share:
            found.append(f"noise of {self.pixel_std:g} on {100 * self.pixel_share:g} % of the pool")
        if self.blank_share:
            found.append(f"{100 * self.blank_share:g} % of the images blank")
        return " and ".join(found) or "none"

    def __post_init__(self):
        for name in ("label_share", "pixel_share", "blank_share"):
            check(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        check(self.pixel_std >= 0, f"pixel_std is {self.pixel_std}; it must be 0 or more")


def active_parts(
    source: str,
    *,
    train: str = "train",
    test: str = "test",
    official_test: bool,
    flag: Flag = Flag.NONE,
    faults: FaultConfig = FaultConfig(),
    smoke: str = "",
) -> tuple[dict[str, Part], int, tuple[str, ...]]:
    """Returns (parts, number of classes, notes on the data).

    A part is "image" uint8 [N, H, W, C], "label" int32 [N] and, where asked for, the flag bool [N].

    Args:
      official_test: the split `test` is the test and `train` gives the other parts; else all splits are one set.
      flag: needs the masks of the source.
      smoke: command to suggest where data cannot be downloaded.

    Raises:
      UserError: the source cannot be read, is too small, or lacks labels, masks or a test set; parts of it are asked
        for that are not used.
    """
    tables = load_dataset(source, smoke_command=smoke)
    whole = (train, test) == ("train", "test")
    check(
        official_test or whole,
        f"config.data.train is {train!r} and config.data.test {test!r}, but pool and test are shares of the whole "
        "source; write 'train' and 'test', or config.task.official_test=True",
    )
    check_colours(next(iter(tables.values())))
    chosen = [read_split(tables, train)] if official_test else list(tables.values())
    blanked = bool(faults.blank_share) and flag == Flag.MISSING
    flagged = Flag.NONE if blanked and "mask" not in chosen[0].columns else flag
    rows = [_columns(table.arrays(), flagged, source) for table in chosen]
    whole = {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}
    parts = split_by_shares(whole, PARTS[:3] if official_test else PARTS)
    if official_test:
        parts["test"] = _columns(read_split(tables, test).arrays(), flagged, source)
    num_classes = len(class_names(tables, "label"))
    for i, part in enumerate(parts.values()):
        part["label"] = with_false_labels(part["label"], num_classes, faults, i)
        part["image"], blank = with_blanks(part["image"], faults, i)
        if blanked:
            part[flag] = blank | part.get(flag, False)
    parts["pool"]["image"] = with_pixel_noise(parts["pool"]["image"], faults)
    return parts, num_classes, notes_of(tables.values())


def split_by_shares(rows: Mapping[str, np.ndarray], names: tuple[str, ...]) -> dict[str, Part]:
    """Returns disjoint random parts of `rows`, by the shares of the protocol, the same in every run.

    Raises:
      UserError: a part would be empty.
    """
    num_rows = len(rows["label"])
    order = np.random.default_rng(SPLIT_SEED).permutation(num_rows)
    bounds = np.round(np.cumsum((0, *SHARES[: len(names)])) * num_rows).astype(int)
    if min(np.diff(bounds)) < 1:
        raise UserError(f"{num_rows} images are too few for {', '.join(names)}; 10 or more are needed")
    return {n: {k: a[np.sort(order[i:j])] for k, a in rows.items()} for n, i, j in zip(names, bounds, bounds[1:])}


def _columns(arrays: Part, flag: Flag, source: str) -> Part:
    if "label" not in arrays:
        raise UserError(f"{source} has no labels; active learning needs a source with a column 'label'")
    found = {"image": arrays["image"], "label": arrays["label"].astype(np.int32)}
    if flag != Flag.NONE:
        if "mask" not in arrays or (flag == Flag.OCCLUDED and arrays["mask"].shape[3:] != (2,)):
            kind = "masks of the letter and of the shapes over it" if flag == Flag.OCCLUDED else "masks"
            raise UserError(f"config.task.flag is {str(flag)!r}, but {source} has no {kind}; add masks=true to it")
        found[flag] = {Flag.MISSING: is_missing, Flag.OCCLUDED: is_occluded}[flag](arrays["mask"])
    return found


def is_missing(masks: np.ndarray) -> np.ndarray:
    """Returns whether no pixel shows a symbol, bool [N], of coverages uint8 [N, H, W, …]."""
    return ~(masks > VISIBLE).any(axis=tuple(range(1, masks.ndim)))


def is_occluded(masks: np.ndarray) -> np.ndarray:
    """Returns whether a shape hides a pixel of the symbol, bool [N].

    Args:
      masks: uint8 [N, H, W, 2]: the symbol's coverage, and the numbers of the shapes in front of it.
    """
    return ((masks[..., 0] > VISIBLE) & (masks[..., 1] > 0)).any(axis=(1, 2))


def with_false_labels(labels: np.ndarray, num_classes: int, faults: FaultConfig, part: int) -> np.ndarray:
    """Returns labels int32 [N] with noise; a label that is drawn anew may be the true one by chance."""
    random = generator(SPLIT_SEED, "label noise", part)
    hit = np.flatnonzero(random.random(len(labels)) < faults.label_share)
    new = random.permutation(labels[hit]) if faults.permuted else random.integers(0, num_classes, len(hit))
    labels = labels.copy()
    labels[hit] = new
    return labels


def with_blanks(images: np.ndarray, faults: FaultConfig, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (images uint8 [N, H, W, C] of which a share is blank, bool [N], which)."""
    blank = generator(SPLIT_SEED, "blank", part).random(len(images)) < faults.blank_share
    if blank.any():
        images = np.where(blank[:, None, None, None], images[:, :1, :1], images)
    return images, blank


def with_pixel_noise(images: np.ndarray, faults: FaultConfig) -> np.ndarray:
    """Returns images uint8 [N, H, W, C], a share of them with normal noise."""
    if not faults.pixel_std:
        return images
    random = generator(SPLIT_SEED, "pixel noise")
    images = images.copy()
    for i in np.flatnonzero(random.random(len(images)) < faults.pixel_share):
        noise = 255 * faults.pixel_std * random.standard_normal(images[i].shape, np.float32)
        images[i] = np.clip(np.rint(images[i] + noise), 0, 255).astype(np.uint8)
    return images
