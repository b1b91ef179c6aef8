"""Parts of splits, written as TFDS writes them.

    read_split(splits, "train")             # all of it
    read_split(splits, "train[20%:]")       # also [:20%], [10%:90%], [1000:], [:1_000], [-500:]
    balanced_part(table, "label", 60_000)   # as many rows of every class
    ordered_by(table, ("label_shape",))     # rows in the order of columns

Percentages are rounded to the nearest row, as TFDS rounds them, so "train[:20%]" and "train[20%:]" never
overlap.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrepro.data.dataset import Table, slice_table, take_part
from jaxrepro.data.layout import SPLIT_NAMES
from jaxrepro.errors import UserError, did_you_mean, unknown

_SPLIT = re.compile(r"(?P<name>[\w.-]+)(?:\[(?P<start>[^:\]]*):(?P<stop>[^:\]]*)\])?")
_BOUND = re.compile(r"(?P<value>-?\d[\d_]*(?:\.\d+)?)(?P<percent>%?)")


def read_split(splits: Mapping[str, Table], spec: str) -> Table:
    """Returns the part of a dataset that `spec` names.

    Args:
      splits: what `load_dataset` returned.
      spec: a split's name, optionally with a slice in rows or percent: "train[:80%]".

    Raises:
      UserError: no such split, a malformed slice, or one that holds no row.
    """
    match = _SPLIT.fullmatch(spec.strip())
    if match is None:
        raise UserError(f"bad split {spec!r}; write it like 'train', 'train[:20%]', 'train[1000:]'")
    name = match["name"]
    name = name if name in splits else SPLIT_NAMES.get(name, name)  # "validation" is "valid"
    if name not in splits:
        raise _unknown_split(splits, name)
    table = splits[name]
    if match["start"] is None:
        return table
    start = _row(match["start"], table, spec, default=0)
    stop = _row(match["stop"], table, spec, default=table.num_rows)
    if start >= stop:
        raise UserError(f"split {spec!r} is empty: rows {start} to {stop} of {table.num_rows} in {table.name}")
    return slice_table(table, start, stop)


def _row(bound: str, table: Table, spec: str, *, default: int) -> int:
    """Returns the row number that one end of a slice stands for."""
    bound = bound.strip()
    if not bound:
        return default
    match = _BOUND.fullmatch(bound)
    if match is None or ("." in bound and not match["percent"]):
        raise UserError(f"bad split {spec!r}: {bound!r} is neither a row number nor a percentage; e.g. 'train[:20%]'")
    value = float(match["value"].replace("_", ""))
    limit = 100 if match["percent"] else table.num_rows
    if abs(value) > limit:
        raise UserError(f"bad split {spec!r}: {bound} is beyond the {table.num_rows} rows of {table.name}")
    row = round(value * table.num_rows / 100) if match["percent"] else int(value)
    return row + table.num_rows if value < 0 else row


def _unknown_split(splits: Mapping[str, Table], name: str) -> UserError:
    known = ", ".join(f"{k!r} ({t.num_rows} rows)" for k, t in splits.items())
    if len(splits) > 1:
        return UserError(f"unknown split {name!r}{did_you_mean(name, splits)}; known: {known}")
    only = next(iter(splits))
    return UserError(
        f"no split {name!r}: the source has only {known}; cut it in two, e.g. "
        f"config.data.train='{only}[:80%]' and config.data.{name}='{only}[80%:]'"
    )


def balanced_part(table: Table, column: str, num_rows: int, seed: int = 42) -> Table:
    """Returns ceil(num_rows / K) random rows of each of the K classes in a column, or all of a class that has fewer."""
    values = table.arrays()[column]
    classes = np.unique(values)
    most = -(-num_rows // len(classes))
    random = np.random.default_rng(seed)
    rows = [random.permutation(np.flatnonzero(values == c))[:most] for c in classes]
    return take_part(table, np.sort(np.concatenate(rows)), table.name)


def ordered_by(table: Table, columns: Sequence[str]) -> Table:
    """Returns the rows of a table in the order of its columns, the first one slowest; equal rows keep their order.

    TFDS shuffles what it writes: where a file of all combinations of factors was cut by row numbers, this brings its
    order back.

    Raises:
      UserError: no such column, or one that does not hold one number per row.
    """
    for name in columns:
        if name not in table.columns:
            raise unknown(f"column of {table.name}", name, table.columns)
        if table.columns[name].shape:
            raise UserError(f"column {name!r} of {table.name} holds no numbers but {list(table.columns[name].shape)}")
    rows = np.arange(table.num_rows)
    pieces = [table.take(rows[i : i + 4096]) for i in range(0, table.num_rows, 4096)]
    keys = [np.concatenate([piece[name] for piece in pieces]) for name in reversed(columns)]
    return take_part(table, np.lexsort(keys), table.name)
