"""Our records beside the published ones: one comparison per table and metric, models against columns.

    for comparison in compare(run.records, load_reference("sesn")):
        print(comparison.title, comparison.text("CNN", "28x28", OURS))

Rows and columns follow the publication. Several seeds become mean ± sample standard deviation. A number of ours that
was measured on another task than the published one stands in a column of its own, whose name says what differs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxrepro.report.numbers import (
    NOT_FINITE,
    as_number,
    decimals_of,
    format_count,
    format_difference,
    format_number,
    format_printed,
    mean_and_std,
    printed_decimals,
)
from jaxrepro.report.reference import PublishedRecord, PublishedSource, differences
from jaxrepro.report.text import natural_order, readable, sentence

OURS = "ours"
NOT_RUN = "not run"  # the publication has the cell, none of the runs does
NOT_REPORTED = "not reported"  # the publication left the cell empty
NOT_APPLICABLE = "–"  # there is no such cell
DIVERGED = "diverged"
COUNT = "count"


@dataclass(frozen=True)
class Number:
    """One number of a table.

    Attributes:
      value: mean over seeds; None when no number was reported or it is not finite.
      std: sample standard deviation over seeds (ours) or the printed spread (published); None without one.
      num_seeds: of ours; None for published numbers.
      num_conditions: of ours, how many conditions are pooled with the seeds.
      num_values: of ours, how many numbers the mean is over.
      note: conditions and doubts.
      diverged: of ours, whether training ended in numbers that are not finite.
      same_task: of published ones, whether the publication says what it was measured on.
    """

    value: float | None
    std: float | None = None
    num_seeds: int | None = None
    num_conditions: int = 1
    num_values: int | None = None
    note: str = ""
    diverged: bool = False
    same_task: bool = False

    @property
    def pooled(self) -> str:
        """What the mean of pooled conditions is over, "" for seeds alone."""
        if self.num_conditions == 1:
            return ""
        if self.num_values == self.num_seeds * self.num_conditions:
            return f"{self.num_seeds} seed{'s' * (self.num_seeds > 1)} × {self.num_conditions} conditions"
        return f"{self.num_values} values of {self.num_seeds} seeds and {self.num_conditions} conditions"


@dataclass(frozen=True)
class Comparison:
    """One metric of one table of the paper.

    Attributes:
      labels: whose numbers there are: "ours", then the publications ("paper", "repository (v2)").
      rows, columns: in the order shown. others: columns of ours whose task is not the published one.
      numbers: (row, column, label) -> number; absent where there is none.
      marks: (row, column, label) -> "bold" or "low", as the paper prints them; marks_note says what they mean.
    """

    table: str
    metric: str
    unit: str | None
    labels: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    others: frozenset[str]
    numbers: Mapping[tuple[str, str, str], Number]
    marks: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    marks_note: str = ""

    @property
    def title(self) -> str:
        unit = f" ({self.unit})" if self.unit and self.unit != COUNT else ""
        return f"{sentence(self.table)}: {readable(self.metric)}{unit}"

    @property
    def is_joined(self) -> bool:
        """Whether a publication has this table and metric."""
        return len(self.labels) > 1

    def number(self, row: str, column: str, label: str) -> Number | None:
        return self.numbers.get((row, column, label))

    def text(self, row: str, column: str, label: str) -> str:
        """Returns a number as it is shown, or the word for why there is none; ours with its deviation."""
        number = self.number(row, column, label)
        if number is None:
            published = any((row, column, other) in self.numbers for other in self.labels)
            return NOT_RUN if label == OURS and (published or column in self.others) else NOT_APPLICABLE
        if number.value is None:
            return DIVERGED if number.diverged else NOT_REPORTED if label != OURS else NOT_FINITE
        if label != OURS:
            return format_printed(number.value, number.std, self.decimals(column, label))
        if self.unit == COUNT and not number.std:
            return format_count(number.value)
        return format_number(number.value, number.std, self.printed(column)) + self._deviation_text(row, column, number)

    def decimals(self, column: str, label: str) -> int:
        """Returns the decimals in which a publication printed a column."""
        found = [n for (_, c, s), n in self.numbers.items() if (c, s) == (column, label)]
        return printed_decimals(v for n in found for v in (n.value, n.std))

    def printed(self, column: str) -> int:
        """Returns the most decimals that a publication has in a column, or in the one that a column of ours extends."""
        return max((self.decimals(column.partition(": ")[0], label) for label in self.labels[1:]), default=0)

    def compared_with(self, row: str, column: str) -> str:
        """Returns the first publication of the same task that has a number in a cell, "" without one."""
        found = ((label, self.number(row, column, label)) for label in self.labels if label != OURS)
        return next((label for label, n in found if n and n.value is not None and n.same_task), "")

    def deviation(self, row: str, column: str) -> float | None:
        """Returns published minus ours, as the reproduction of Synbols gives it; None where that says nothing."""
        mine, label = self.number(row, column, OURS), self.compared_with(row, column)
        if self.unit == COUNT or not label or mine is None or mine.value is None:
            return None
        return self.number(row, column, label).value - mine.value

    def _deviation_text(self, row: str, column: str, mine: Number) -> str:
        deviation = self.deviation(row, column)
        if deviation is None:
            return ""
        decimals = decimals_of(mine.value, mine.std, self.printed(column))
        return f" ({format_difference(deviation, decimals)})"

    def notes(self) -> list[str]:
        """Returns what a reader of the table must know, then the notes of its numbers, each once."""
        cells = [(row, column) for row in self.rows for column in self.columns]
        ours = [n for (_, _, label), n in self.numbers.items() if label == OURS and n.num_seeds]
        seeds = sorted({n.num_seeds for n in ours if not n.pooled})
        counts = [f"{' or '.join(map(str, seeds))} seeds"] if any(n > 1 for n in seeds) else []
        found = []
        if counts := counts + sorted({n.pooled for n in ours if n.pooled}):
            found.append(f"ours: mean ± sample standard deviation over {' or '.join(counts)}")
        compared = {self.compared_with(*cell) for cell in cells if self.deviation(*cell) is not None}
        if compared:
            found.append(f"in parentheses: {' or '.join(s for s in self.labels if s in compared)} minus ours")
        if self.marks_note and self.marks:
            found.append(self.marks_note)
        return found + self._number_notes()

    def _number_notes(self) -> list[str]:
        where: dict[tuple[str, str], list[str]] = {}
        counts: dict[str, int] = {}
        for row in self.rows:
            for column in self.columns:
                for label in self.labels:
                    if number := self.number(row, column, label):
                        counts[label] = counts.get(label, 0) + 1
                        if number.note:
                            where.setdefault((label, number.note), []).append(f"{row}, {column}")
        notes = []
        for (label, note), cells in where.items():
            everywhere = len(cells) == counts[label]
            place = "" if everywhere else f" [{cells[0]}]" if len(cells) == 1 else f" [{len(cells)} cells]"
            notes.append(f"{label}{place}: {note}")
        return notes


def compare(
    records: Iterable[Mapping], published: Iterable[PublishedRecord], *, complete: bool = False
) -> list[Comparison]:
    """Sets our records beside published ones, by table and metric.

    Args:
      records: dicts with table, row, column, metric, value and, optionally, seed, unit, facts, note and diverged (a
        message); one per seed, or per seed and "condition" where several are pooled.
      published: of one experiment.
      complete: show the whole of every published table of which something was measured, else the rows and columns
        that we measured.
    """
    published = list(published)
    parts: dict[tuple[str, str], list[Mapping]] = {}
    for r in records:
        parts.setdefault((str(r["table"]), str(r["metric"])), []).append(r)
    tables = list(dict.fromkeys([p.table for p in published] + [table for table, _ in parts]))
    metrics = list(dict.fromkeys([p.metric for p in published] + [metric for _, metric in parts]))
    keys = sorted(parts, key=lambda key: (tables.index(key[0]), metrics.index(key[1])))
    rows, columns = [p.row for p in published], [p.column for p in published]
    found = []
    for key in keys:
        part = [p for p in published if (p.table, p.metric) == key]
        shown = _compare_part(*key, parts[key], part, complete)
        order = {"rows": _in_order(shown.rows, rows), "columns": _in_order(shown.columns, columns)}
        found.append(replace(shown, **order))
    return found


def _in_order(names: Sequence[str], published: Sequence[str]) -> tuple[str, ...]:
    """Returns names as the publications order them, others after them; a column of ours after the one it extends."""
    order = {name: i for i, name in enumerate(dict.fromkeys(published))}

    def rank(name: str) -> tuple:
        known = order.get(name.partition(": ")[0], len(order))
        return known, name not in order, natural_order(name)

    return tuple(sorted(names, key=rank))


def _compare_part(
    table: str, metric: str, records: Sequence[Mapping], published: Sequence[PublishedRecord], complete: bool
) -> Comparison:
    unit = next((u for u in [*(p.unit for p in published), *(r.get("unit") for r in records)] if u), None)
    columns = {p.column: [] for p in published}  # published column -> ours of another task
    ours: dict[tuple[str, str], list[Mapping]] = {}
    for r in records:
        column = column_of(r, published)
        if column != r["column"]:
            if column not in columns[r["column"]]:
                columns[r["column"]].append(column)
        elif column not in columns:
            columns[column] = []
        ours.setdefault((str(r["row"]), column), []).append(r)
    measured = {(row, c) for row, column in ours for c in columns if column in (c, *columns[c])}
    if not complete:
        published = [p for p in published if (p.row, p.column) in measured]
        columns = {c: others for c, others in columns.items() if any(column == c for _, column in measured)}
    numbers = {(p.row, p.column, p.label): published_number(p) for p in published}
    numbers |= {(*cell, OURS): our_number(found, unit) for cell, found in ours.items()}
    sources = [s.value for s in PublishedSource]
    labels = sorted({p.label for p in published}, key=lambda s: (sources.index(s.partition(" ")[0]), s))
    return Comparison(
        table,
        metric,
        unit,
        labels=(OURS, *labels),
        rows=tuple(dict.fromkeys([p.row for p in published] + [row for row, _ in ours])),
        columns=tuple(name for c in columns for name in (c, *columns[c])),
        others=frozenset(name for others in columns.values() for name in others),
        numbers=numbers,
    )


def column_of(record: Mapping, published: Sequence[PublishedRecord]) -> str:
    """Returns the column that a record of ours stands in: its own where no publication of the column has its task."""
    rivals = [p for p in published if p.column == record["column"]]
    if record.get("diverged"):
        return str(record["column"])
    found = [differences(p.facts, record.get("facts") or {}) for p in rivals]
    return str(record["column"]) + ("" if not found or [] in found else f": {', '.join(found[0])}")


def of_another_task(records: Iterable[Mapping], published: Sequence[PublishedRecord]) -> set[tuple[str, str]]:
    """Returns the cells (row, column) of ours, in one table and metric, whose task is not the published one.

    A figure shows all versions of the data at once: a publication that does not say its task makes no cell the same.
    """
    published = [p for p in published if p.facts]
    return {(r["row"], r["column"]) for r in records if column_of(r, published) != r["column"]}


def published_number(p: PublishedRecord) -> Number:
    return Number(p.value, p.std, note=p.note, same_task=bool(p.facts))


def our_number(records: Sequence[Mapping], unit: str | None) -> Number:
    """Returns the mean of one cell over seeds; a unit that is not the table's is named in the note."""
    by_seed = {(r.get("seed"), r.get("condition")): as_number(r["value"]) for r in records}
    counts = [len(set(names)) for names in zip(*by_seed, strict=True)]
    if diverged := next((r["diverged"] for r in records if r.get("diverged")), ""):
        return Number(None, None, *counts, len(by_seed), note=f"diverged: {diverged}", diverged=True)
    notes = list(dict.fromkeys(r["note"] for r in records if r.get("note")))
    own_unit = records[0].get("unit")
    if own_unit and unit and own_unit != unit:
        notes.append(f"ours is in {own_unit}, published in {unit}")
    mean, std = mean_and_std(list(by_seed.values()))
    finite = math.isfinite(mean)
    return Number(mean if finite else None, std if finite else None, *counts, len(by_seed), "; ".join(notes))
