"""What a dataset is: named splits, each a table of columns that can be read by row number.

    splits = load_dataset("mnist5k")            # in `jaxrepro.data`
    splits["train"].num_rows, splits["train"].take(np.arange(8))["image"].shape

A table that is already in memory holds its columns as arrays; one that is read from disk gives rows on demand. Images
are uint8 [N, H, W, C] under the name "image", labels int32 [N] under "label"; other columns keep their own names.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxrepro.errors import check


@dataclass(frozen=True)
class Column:
    """Shape and dtype of one row of a column, e.g. Column((32, 32, 3), np.uint8)."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Table:
    """One split of a dataset.

    Attributes:
      name: for messages, e.g. "tfds:cifar10 train".
      num_rows: N.
      columns: name -> Column.
      take: `int array [B] -> {name: array [B, ...]}`; any order, repeats allowed, deterministic, thread-safe.
      classes: of columns that hold class numbers, the name of every class, where the source knows them.
      note: in what the data falls short of what its name promises, or "".
    """

    name: str
    num_rows: int
    columns: Mapping[str, Column]
    take: Callable[[np.ndarray], dict[str, np.ndarray]]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes the whole table would take in memory."""
        return self.num_rows * sum(c.nbytes for c in self.columns.values())

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the whole table as arrays [N, ...]."""
        return self.take(np.arange(self.num_rows))


def table_from_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> Table:
    """Returns a table over arrays in memory (or memory-mapped); all must have the same length."""
    arrays = dict(arrays)
    num_rows = {len(a) for a in arrays.values()}
    if len(num_rows) != 1:
        raise ValueError(f"{name}: columns differ in length: { {k: len(a) for k, a in arrays.items()} }")
    columns = {k: Column(tuple(a.shape[1:]), a.dtype) for k, a in arrays.items()}
    return Table(name, num_rows.pop(), columns, lambda rows: {k: a[rows] for k, a in arrays.items()})


def check_colours(table: Table) -> None:
    """Raises UserError for images with a fourth channel, which a network would take for a colour."""
    channels = table.columns["image"].shape[-1]
    check(
        channels in (1, 3),
        f"{table.name} has images of {channels} channels; it must be 1 or 3: leave transparency out, as in "
        "image[..., :3]",
    )


def notes_of(tables: Iterable[Table]) -> tuple[str, ...]:
    """Returns the different notes of some tables."""
    return tuple(dict.fromkeys(table.note for table in tables if table.note))


def take_part(table: Table, rows: np.ndarray, name: str) -> Table:
    """Returns the given rows [M] of a table, in this order, as a table."""
    return Table(name, len(rows), table.columns, lambda i: table.take(rows[i]), table.classes, table.note)


def slice_table(table: Table, start: int, stop: int) -> Table:
    """Returns rows start … stop-1 of a table as a table."""
    return Table(
        f"{table.name}[{start}:{stop}]",
        stop - start,
        table.columns,
        lambda rows: table.take(np.asarray(rows) + start),
        table.classes,
        table.note,
    )
