"""Images with points to count, in the parts of the protocol, and batches drawn with replacement.

    parts, facts, notes = counting_parts("synbols:counting?points=a", {"train": "train[:9000]", …}, Overlap.NONE)
    parts["train"]["image"], parts["train"]["points"]          # uint8 [N, H, W, 3], bool [N, H, W]
    block = with_replacement(num_rows=9000, batch_size=1)       # of a `Source`

Source: Synbols (Lacoste et al., 2020), section 4 and the released benchmark code, which splits by the letter of the
first symbol, takes the first 10,000 images of a part, and then those whose letters overlap, or do not.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np

from jaxrepro.data.dataset import Table, notes_of
from jaxrepro.data.points import unpack_points
from jaxrepro.data.sources import load_dataset
from jaxrepro.data.splits import read_split
from jaxrepro.errors import UserError, check
from jaxrepro.rng import Purpose, generator

SMALLEST_SIDE = 32  # five poolings leave one pixel


class Overlap(StrEnum):
    """Which images are kept, by the share of pixels where the coverages of their letters add up to more than one."""

    ANY = "any"
    NONE = "none"
    SOME = "some"


def counting_parts(
    source: str, splits: Mapping[str, str], overlap: Overlap = Overlap.ANY, smoke_command: str = ""
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any], tuple[str, ...]]:
    """Returns (parts, facts of the task, notes on the data).

    A part is "image" uint8 [N, H, H, 3], "points" bool [N, H, H], "overlap" float32 [N], a share of the pixels, and
    "letter_size" float32 [N], in pixels.

    Args:
      splits: name of the part -> split in TFDS's slice syntax.
      smoke_command: to suggest where data cannot be had.

    Raises:
      UserError: the source has no points, no image with a point, small images or such that are not square; a part is
        empty.
    """
    loaded = load_dataset(source, smoke_command=smoke_command)
    chosen = {name: read_split(loaded, split) for name, split in splits.items()}
    parts = {name: _part(table, overlap, source) for name, table in chosen.items()}
    check(
        any(part["points"].any() for part in parts.values()),
        f"no image of {source} shows the counted letter; give points= a letter that it draws",
    )
    tables = list(loaded.values())
    labels = tables[0].classes.get("label")
    facts = {
        "num_images": sum(table.num_rows for table in tables),
        "num_train": chosen["train"].num_rows,  # before the choice by overlap, as the publication counts
        "num_classes": len(labels) if labels else len(np.unique(np.concatenate([t.arrays()["label"] for t in tables]))),
        "image_side": parts["train"]["image"].shape[1],
        "partition": (re.findall(r"[?&]split=(\w+)", source) or ["random"])[0],
        "overlap": str(overlap),
    }
    return parts, facts, notes_of(tables)


def _part(table: Table, overlap: Overlap, source: str) -> dict[str, np.ndarray]:
    if "points" not in table.columns:
        raise UserError(
            f"{source} has no points to count; they are made from masks: give a Synbols source with points=a, such as "
            "'synbols:counting?num_samples=20000&points=a' or 'hdf5:PATH?points=a'"
        )
    height, width = table.columns["image"].shape[:2]
    check(height == width, f"the images of {source} are {height}×{width} pixels; they must be square")
    check(
        height >= SMALLEST_SIDE,
        f"the images of {source} are {height}×{width} pixels; five poolings need {SMALLEST_SIDE}×{SMALLEST_SIDE}",
    )
    if overlap != Overlap.ANY and "overlap_score" not in table.columns:
        raise UserError(f"config.task.overlap is {str(overlap)!r}, but {source} records no overlaps; write 'any'")
    arrays = table.arrays()
    score = arrays.get("overlap_score", np.full(table.num_rows, np.nan, np.float32))
    kept = {Overlap.ANY: slice(None), Overlap.NONE: score == 0, Overlap.SOME: score > 0}[overlap]
    images = arrays["image"][kept]
    found = {
        "image": np.broadcast_to(images, (*images.shape[:3], 3)),
        "points": unpack_points(arrays["points"][kept], width),
        "overlap": score[kept],
        "letter_size": arrays["letter_size"][kept],
    }
    check(len(images) > 0, f"{table.name} has no image with config.task.overlap={str(overlap)!r}; take more")
    return found


def with_replacement(num_rows: int, batch_size: int) -> Callable[[int, int, int], np.ndarray]:
    """Returns `(seed, start, length) -> int32 [length, B]`: rows of every step, each drawn uniformly from all."""

    def block(seed: int, start: int, length: int) -> np.ndarray:
        steps = range(start, start + length)
        rows = [generator(int(seed), Purpose.DATA, i).integers(0, num_rows, batch_size, np.int32) for i in steps]
        return np.stack(rows)

    return block
