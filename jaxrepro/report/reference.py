"""Published numbers: `reference/*.json`, one list of records per experiment, checked when read.

    load_reference("sesn")     # -> [PublishedRecord(table="table2", row="CNN", column="28x28", value=2.56, ...), ...]

A cell that a source leaves empty has the value None.
"""

import json
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

REFERENCE_DIR = Path(__file__).parent / "reference"


class PublishedSource(StrEnum):
    """Who published a number: the paper, a reproduction report, or the authors beside their code."""

    PAPER = "paper"
    REPRODUCTION = "reproduction"
    REPOSITORY = "repository"


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

    @property
    def cell(self) -> tuple[str, str, str, str]:
        return self.table, self.row, self.column, self.metric

    @property
    def label(self) -> str:
        """The heading of its column: "paper", "repository (v2)"."""
        return f"{self.source} ({self.version})" if self.version else str(self.source)


def parse_record(fields_read: dict) -> PublishedRecord:
    """Returns the record that a JSON object describes.

    Raises:
      ValueError: a field is missing, unknown or of the wrong type; the message shows the object.
    """
    names = {f.name for f in fields(PublishedRecord)}
    if set(fields_read) != names:
        raise ValueError(f"fields {sorted(names ^ set(fields_read))} are missing or unknown in {fields_read}")
    texts = ("document", "experiment", "table", "row", "column", "metric")
    if not all(isinstance(fields_read[k], str) and fields_read[k] for k in texts):
        raise ValueError(f"{', '.join(texts)} must be non-empty text in {fields_read}")
    for k in ("value", "std"):
        if isinstance(fields_read[k], bool) or not isinstance(fields_read[k], int | float | None):
            raise ValueError(f"{k} must be a number or null in {fields_read}")
    return PublishedRecord(**fields_read | {"source": PublishedSource(fields_read["source"])})


def load_reference(experiment: str | None = None, version: str = "") -> list[PublishedRecord]:
    """Returns the published records of an experiment, or all of them; [] for an experiment that has none.

    Args:
      experiment: its name.
      version: of the data; only what was measured on it. "" = all versions.
    """
    records = []
    for path in sorted(REFERENCE_DIR.glob("*.json")):
        records += [parse_record(r) for r in json.loads(path.read_text(encoding="utf-8"))]
    records = [r for r in records if experiment is None or r.experiment == experiment]
    return [r for r in records if not version or r.version == version]
