"""Attributes of images that a probe predicts, with their values from the columns of a table.

attributes = find_attributes(tables, ("char", "font", "rotation"))       # class counts come from the data
targets = targets_of(tables["train"].arrays(), attributes)               # {"char": int32 [N], "rotation": float32 [N]}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxrepro.data.dataset import Table
from jaxrepro.errors import check, unknown

COLUMNS = {"char": "label"}  # attribute -> column, where the name differs


@dataclass(frozen=True)
class Attribute:
    """name: as in results. column: of the data. num_classes: 0 for a number."""

    name: str
    column: str
    num_classes: int

    @property
    def score(self) -> str:
        """What a prediction is judged by: "accuracy" in percent, or "mae" in the attribute's unit."""
        return "accuracy" if self.num_classes else "mae"


def find_attributes(tables: Mapping[str, Table], names: Sequence[str]) -> tuple[Attribute, ...]:
    """Returns attributes by name, with as many classes as the data has: a float column is a number, a flag two classes.

    Args:
      tables: parts of one dataset.
      names: of columns, or "char" for the column "label".

    Raises:
      UserError: the data lacks an attribute, has images without one, or the same one in all of them.
    """
    first = next(iter(tables.values()))
    names_of = {column: name for name, column in COLUMNS.items()}
    known = [names_of.get(c, c) for c in first.columns if c != "image"]
    read, found = [table.arrays() for table in tables.values()], []
    for name in names:
        column = COLUMNS.get(name, name)
        if column not in first.columns or column == "image":
            raise unknown(f"attribute of {first.name} in config.probe.attributes:", name, known)
        shape, kind = first.columns[column].shape, np.dtype(first.columns[column].dtype).kind
        check(shape == (), f"{first.name}: a probe predicts one number or class an image; {name!r} is {shape}")
        values = np.concatenate([arrays[column] for arrays in read])
        absent = ~np.isfinite(values) if kind == "f" else values < 0
        count = int(absent.sum())
        check(count == 0, f"{first.name} has images without {name!r}, {count:,} of them; they cannot be probed")
        check(
            len(values) == 1 or bool((values != values[0]).any()),
            f"{first.name}: all images have the same {name!r}, {values[0]}, so that there is nothing to read; leave it "
            "out of config.probe.attributes",
        )
        if kind in "fb":
            num_classes = {"f": 0, "b": 2}[kind]
        else:
            num_classes = len(first.classes.get(column) or range(int(values.max()) + 1))
        found.append(Attribute(name, column, num_classes))
    return tuple(found)


def targets_of(arrays: Mapping[str, np.ndarray], attributes: Sequence[Attribute]) -> dict[str, np.ndarray]:
    """Returns {attribute: class int32 [N] or number float32 [N]} from columns [N]."""
    return {a.name: arrays[a.column].astype(np.int32 if a.num_classes else np.float32) for a in attributes}
