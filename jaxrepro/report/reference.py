"""Published numbers: `reference/*.json`, one list of records per experiment, checked when read.

    load_reference("sesn")     # -> [PublishedRecord(table="table2", row="CNN", column="28x28", value=2.56, ...), ...]

A cell that a source leaves empty has the value None. What a column was measured on stands in `reference/tasks/*.json`:
facts such as the number of classes, for columns of one table and version. Ours stands in a published cell only if its
own facts agree.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

REFERENCE_DIR = Path(__file__).parent / "reference"
COUNTS = {
    "num_classes": "classes",
    "num_train": "training images",
    "num_valid": "validation images",
    "num_pool": "images in the pool",
    "num_test": "test images",
    "num_images": "images in all",
    "num_labels": "labels",
}
TOLERANCE = {name: 0.02 for name in COUNTS if name != "num_classes"}  # parts by percentiles, or balanced by class


class PublishedSource(StrEnum):
    """Who published a number, in the order shown: the paper, the authors beside their code, a reproduction report."""

    PAPER = "paper"
    REPOSITORY = "repository"
    REPRODUCTION = "reproduction"


@dataclass(frozen=True)
class PublishedRecord:
    """One published cell.

    Attributes:
      document: the paper ("synbols").
      experiment: the experiment that reproduces it ("synbols_counting").
      source: who published the number.
      version: version of the data it was measured on, where there are several ("v1").
      table, row, column, metric: the cell; the same words as in the records of our runs.
      unit: "percent", "nats", …; None for pure numbers.
      value: None where the source left the cell empty.
      std: the spread the source prints, None without one.
      note: conditions and doubts, "" without any.
      facts: of the task, {"num_classes": 26, "partition": "random", …}; empty where the source does not say.
    """

    document: str
    experiment: str
    source: PublishedSource
    version: str | None
    table: str
    row: str
    column: str
    metric: str
    unit: str | None
    value: float | None
    std: float | None
    note: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cell(self) -> tuple[str, str, str, str]:
        return self.table, self.row, self.column, self.metric

    @property
    def label(self) -> str:
        """The heading of its column: "paper", "repository (v2)"."""
        return f"{self.source} ({self.version})" if self.version else str(self.source)


def parse_record(fields_read: dict, tasks: Sequence[Mapping] = ()) -> PublishedRecord:
    """Returns the record that a JSON object describes, with the facts of its task.

    Raises:
      ValueError: a field is missing, unknown or of the wrong type; the message shows the object.
    """
    names = {f.name for f in fields(PublishedRecord)} - {"facts"}
    if set(fields_read) != names:
        raise ValueError(f"fields {sorted(names ^ set(fields_read))} are missing or unknown in {fields_read}")
    texts = ("document", "experiment", "table", "row", "column", "metric")
    if not all(isinstance(fields_read[k], str) and fields_read[k] for k in texts):
        raise ValueError(f"{', '.join(texts)} must be non-empty text in {fields_read}")
    for k in ("value", "std"):
        if isinstance(fields_read[k], bool) or not isinstance(fields_read[k], int | float | None):
            raise ValueError(f"{k} must be a number or null in {fields_read}")
    source, facts = PublishedSource(fields_read["source"]), facts_of(fields_read, tasks)
    return PublishedRecord(**fields_read | {"source": source}, facts=facts)


def load_reference(experiment: str | None = None, version: str = "") -> list[PublishedRecord]:
    """Returns the published records of an experiment, or all of them; [] for an experiment that has none.

    Args:
      experiment: its name.
      version: of the data; only what was measured on it. "" = all versions.
    """
    records = []
    for path in sorted(REFERENCE_DIR.glob("*.json")):
        tasks = read_tasks(REFERENCE_DIR / "tasks" / path.name)
        records += [parse_record(r, tasks) for r in json.loads(path.read_text(encoding="utf-8"))]
    records = [r for r in records if experiment is None or r.experiment == experiment]
    return [r for r in records if not version or r.version == version]


def read_tasks(path: Path) -> list[dict]:
    """Returns the tasks of an experiment, [{"version", "table", "columns", "metrics", "facts"}, …]; [] without any."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def facts_of(record: Mapping[str, Any], tasks: Sequence[Mapping]) -> dict[str, Any]:
    """Returns what the tasks say about a published record."""
    facts: dict[str, Any] = {}
    for task in tasks:
        same = all(record[k] == task[k] for k in ("version", "table"))
        if same and record["column"] in task["columns"] and record["metric"] in task["metrics"]:
            facts |= task["facts"]
    return facts


def differences(published: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Returns in words which facts of our task are not those of the published one; [] for the same task.

    A fact that the publication states and ours does not differs too: nobody knows that it is the same.
    """
    found = []
    for name, value in published.items():
        mine = ours.get(name)
        if name in COUNTS:
            if mine is None or abs(mine - value) > TOLERANCE.get(name, 0) * value:
                count = "an unknown number" if mine is None else f"{mine:,}"
                found.append(f"{count} instead of {value:,} {COUNTS[name]}")
        elif mine != value:
            found.append(f"{name.replace('_', ' ')} {mine or 'unknown'} instead of {value}")
    return found
