"""Table 2 of Synbols: accuracies on test images unlike those of training, red and bold as the paper prints them.

Its i.i.d. column is table 1's "Synbols Default 100k": the runs of table 1 that are given to the same report fill it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxrepro.report.comparison import OURS, Comparison
from jaxrepro.report.merge import cell_of
from jaxrepro.report.papers import Paper, classifier_figures
from jaxrepro.report.papers.synbols_supervised import cost_records, value_of
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import FinishedRun

IID, OF_TABLE1 = "Default i.i.d.", "Synbols Default 100k"
CHAR = "Less Variations Stratified Char"
CHAR_OF_TABLE1 = "Less Variations 100k"
MUCH, LITTLE = 5.0, 0.5  # points below the i.i.d. accuracy: red, bold


def iid_records(runs: Sequence[FinishedRun], records: Sequence[Mapping], others: Sequence[FinishedRun]) -> list[dict]:
    """Returns the i.i.d. column from the runs of table 1 with the same preset and version of the data.

    A cell and seed that a run of table 2 measured itself stays.
    """
    same = [
        run
        for run in others
        if runs
        and run.experiment == "synbols_supervised"
        and (run.preset, run.version) == (runs[0].preset, runs[0].version)
    ]
    own = {cell_of(r) for r in records}
    found = [
        r | {"table": "table2", "column": IID, "note": "from the runs of table 1"}
        for run in same
        for r in run.records
        if (r["table"], r["column"], r["metric"]) == ("table1", OF_TABLE1, "accuracy")
    ]
    return [r for r in found if cell_of(r) not in own]


def derive(runs: Sequence[FinishedRun], records: Sequence[Mapping], others: Sequence[FinishedRun]) -> list[dict]:
    """Returns the i.i.d. column and the costs."""
    return iid_records(runs, records, others) + cost_records(runs)


def mark(comparison: Comparison, others: Sequence[Comparison]) -> Comparison:
    """Marks table 2: red more than five points below the same model's i.i.d. accuracy, bold less than half a point."""
    if (comparison.table, comparison.metric) != ("table2", "accuracy"):
        return comparison
    marks = {}
    for (row, column, label), number in comparison.numbers.items():
        name, colon, difference = column.partition(": ")  # a column of another task is compared with its like
        base = iid_of(comparison, others, row, name, colon + difference, label)
        if name == IID or number.value is None or base is None:
            continue
        if number.value < base - MUCH:
            marks[row, column, label] = "low"
        elif number.value > base - LITTLE:
            marks[row, column, label] = "bold"
    note = (
        f"▼ (red): more than {MUCH:g} points below the same model's {IID}; bold: less than {LITTLE:g} below, or above"
    )
    note += f"; for {CHAR} that is {CHAR_OF_TABLE1} of table 1"
    return dataclasses.replace(comparison, marks=marks, marks_note=note)


def iid_of(
    comparison: Comparison, others: Sequence[Comparison], row: str, column: str, task: str, label: str
) -> float | None:
    """Returns the i.i.d. accuracy that a cell is compared with, None where nobody measured it.

    Args:
      column: a published column. task: what the name of the cell's own column adds, "" where the task is the same.
    """
    if column != CHAR:
        found = comparison.number(row, IID + task, label)
        return found.value if found else None
    if label == OURS:
        return value_of(others, "table1", row, CHAR_OF_TABLE1 + task, OURS)
    cells = (p for p in load_reference("synbols_supervised") if (p.row, p.column) == (row, CHAR_OF_TABLE1))
    return next((p.value for p in cells if p.label == label), None)


PAPER = Paper(
    captions=classifier_figures.CAPTIONS,
    derive=derive,
    figures=classifier_figures.figures,
    figures_of_runs=classifier_figures.figures_of_runs,
    mark=mark,
)
