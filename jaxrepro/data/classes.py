"""Splits of a source with the column that a classifier predicts.

tables = labelled_splits("mnist5k", {"train": "train", "valid": "valid", "test": "test"}, "label")
names = class_names(tables, "label")
arrays = held_out(tables["test"], "label")
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrepro.data.dataset import Table
from jaxrepro.data.sources import load_dataset
from jaxrepro.data.splits import balanced_part, read_split
from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.languages import language_of


def labelled_splits(
    source: str, splits: Mapping[str, str], label: str, *, trim: Sequence[int] = (), smoke_command: str = ""
) -> dict[str, Table]:
    """Returns name -> table with at least "image" and the column `label`.

    Args:
      splits: name -> split in TFDS's slice syntax.
      trim: rows of every split that are kept, as many of every class; () = all.

    Raises:
      UserError: the data lacks the column.
    """
    loaded = load_dataset(source, smoke_command=smoke_command)
    tables = {name: read_split(loaded, split) for name, split in splits.items()}
    for table in tables.values():
        if label not in table.columns:
            raise unknown(f"column of {table.name} in config.task.label:", label, table.columns)
    sizes = dict(zip(tables, trim))
    return {k: balanced_part(t, label, sizes[k]) if k in sizes else t for k, t in tables.items()}


def held_out(table: Table, label: str, limit: int = 0) -> dict[str, np.ndarray]:
    """Returns a split for evaluation: "image" uint8 [N, H, W, C], "label" int32 [N]; `limit` rows, 0 = all."""
    arrays = table.take(np.arange(min(limit or table.num_rows, table.num_rows)))
    return {"image": arrays["image"], "label": arrays[label].astype(np.int32)}


def class_names(tables: Mapping[str, Table], label: str) -> tuple[str, ...]:
    """Returns the names of all classes of the data, numbers where it has no names.

    Raises:
      UserError: images without a class.
    """
    first = next(iter(tables.values()))
    if named := first.classes.get(label):
        return tuple(named)
    values = [table.arrays()[label] for table in tables.values()]
    if min(v.min() for v in values) < 0:
        raise UserError(f"{first.name} has images without a class (number -1); it cannot be classified")
    return tuple(str(i) for i in range(1 + max(int(v.max()) for v in values)))


def language_names(symbols: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Returns the language of the symbol of every image, text [M]; "?" where the data does not name its symbols.

    Args:
      symbols: names of the characters, () if unknown.
      labels: int [M], numbers into `symbols`.
    """
    if not len(symbols):
        return np.full(len(labels), "?")
    return np.array([language_of(symbol) for symbol in symbols])[labels]
