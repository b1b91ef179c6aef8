"""Comparisons as they are read: Markdown, JSON, and the cells that the HTML templates print."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxrepro.report.comparison import OURS, Comparison
from jaxrepro.report.text import markdown


@dataclass(frozen=True)
class Shown:
    """One cell of a printed table: its text, its classes of style ("ours", "absent", "bold", "low") and a tooltip."""

    text: str
    classes: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Grid:
    """A printed table: the first `num_labels` columns name the line, the others are numbers.

    A line whose first label is that of the line above belongs to the same group.
    """

    title: str
    heads: list[str]
    num_labels: int
    lines: list[tuple[list[str], list[Shown]]]
    notes: list[str]


def grid_of(comparison: Comparison) -> Grid:
    """Lays a comparison out: models against columns with a line per source, or against sources for a single column.

    What another task differs in would be a head wider than its numbers: heads say "28x28 (1)", and a note what (1) is.
    """
    c = comparison
    if len(c.columns) == 1:
        column = c.columns[0]
        lines = [([row], [_shown(c, row, column, label) for label in c.labels]) for row in c.rows]
        return Grid(f"{c.title}, {column}", ["", *c.labels], 1, lines, c.notes())
    if not c.is_joined:
        lines = [([row], [_shown(c, row, column, OURS) for column in c.columns]) for row in c.rows]
        return Grid(c.title, ["", *c.columns], 1, lines, c.notes())
    heads, tasks = _heads(c)
    lines = [
        ([row, label], [_shown(c, row, column, label) for column in c.columns])
        for row in c.rows
        for label in c.labels
        if label == OURS or any(c.number(row, column, label) for column in c.columns)
    ]
    return Grid(c.title, ["", "", *heads], 2, lines, [*tasks, *c.notes()])


def _heads(c: Comparison) -> tuple[list[str], list[str]]:
    """Returns the heads of the columns, and a note for each difference of our tasks from the published ones."""
    marks: dict[str, str] = {}
    heads = []
    for column in c.columns:
        name, _, difference = column.partition(": ") if column in c.others else (column, "", "")
        if difference:
            mark = marks.setdefault(difference, f"({len(marks) + 1})")
        heads.append(f"{name} {mark}" if difference else name)
    return heads, [f"{mark}: {difference}" for difference, mark in marks.items()]


def _shown(c: Comparison, row: str, column: str, label: str) -> Shown:
    number = c.number(row, column, label)
    absent = number is None or number.value is None
    mark = c.marks.get((row, column, label))
    flags = {"ours": label == OURS and c.is_joined, "absent": absent, mark: mark is not None}
    return Shown(c.text(row, column, label), tuple(k for k, v in flags.items() if v), number.note if number else "")


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """Returns one Markdown table per comparison, with the notes of its numbers below."""
    return "\n\n".join(_markdown_part(grid_of(c)) for c in comparisons) + "\n"


def _markdown_part(grid: Grid) -> str:
    rule = "|" + "---|" * grid.num_labels + "---:|" * (len(grid.heads) - grid.num_labels)
    lines, previous = [f"### {markdown(grid.title)}", "", _markdown_line(map(markdown, grid.heads)), rule], None
    for labels, cells in grid.lines:
        first = "" if labels[0] == previous else labels[0]
        lines.append(_markdown_line([*map(markdown, [first, *labels[1:]]), *map(_markdown_text, cells)]))
        previous = labels[0]
    return "\n".join(lines + ([""] + [f"- {markdown(n)}" for n in grid.notes] if grid.notes else []))


def _markdown_text(cell: Shown) -> str:
    if "bold" in cell.classes:
        return f"**{markdown(cell.text)}**"
    return markdown(cell.text) + " ▼" * ("low" in cell.classes)


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def to_json(comparisons: Sequence[Comparison]) -> list[dict]:
    """Returns one JSON object per cell: {"table", "row", "column", "metric", "unit", <source>: number or a word, …}."""
    return [
        {"table": c.table, "row": row, "column": column, "metric": c.metric, "unit": c.unit}
        | {label: _json_number(c, row, column, label) for label in c.labels}
        for c in comparisons
        for row in c.rows
        for column in c.columns
    ]


def _json_number(c: Comparison, row: str, column: str, label: str) -> dict | str:
    number = c.number(row, column, label)
    if number is None:
        return c.text(row, column, label)
    return {"value": number.value, "std": number.std, "num_seeds": number.num_seeds, "note": number.note}
