"""Figures and derived cells of SESN: table 2 beside both publications, table 4, and the equivariance error.

Records are dicts {"table", "row", "column", "metric", "value", "seed"} as the runs wrote them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.comparison import column_of, of_another_task
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present, scale_figures
from jaxrepro.report.reference import PublishedRecord, PublishedSource, load_reference
from jaxrepro.report.runs import FinishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("28x28", "28x28+", "56x56", "56x56+")
POOLED_TABLE = "table2 pooled"
COLOURS = {"SESN Scalar": style.BLUE, "SESN Vector": style.GREEN, "CNN": style.SLATE}

Values = dict[tuple[str, str], list[float]]  # (row, column) -> one number per seed


def errors(records: Iterable[Mapping]) -> dict[tuple[str, str], list[Mapping]]:
    """Returns our records of test errors in percent by cell of table 2, those that are finite."""
    found: dict[tuple[str, str], list[Mapping]] = {}
    for r in records:
        if (r["table"], r["metric"]) == ("table2", "error") and not math.isnan(as_number(r["value"])):
            found.setdefault((r["row"], r["column"]), []).append(r)
    return found


def partner(row: str, column: str) -> str:
    """Returns the column of the runs that the reproduction seems to pool with a cell's own runs.

    A method without augmentation is pooled with the same settings under augmentation. For the baselines that is the
    column with "+"; SESN has settings of its own for either column, and the other half lies in no cell of the table.
    """
    if not row.startswith("SESN"):
        return column.removesuffix("+") if column.endswith("+") else column + "+"
    return f"{column} settings, {'without' if column.endswith('+') else 'with'} zoom"


def pooled_records(records: Iterable[Mapping]) -> list[dict]:
    """Returns our cells as the reproduction's table 2 seems to count: runs without and with augmentation together.

    That it pools them is inferred: over its 20 plain cells its means lie 0.01 from the average of the paper's cells
    without and with "+", and 0.17 below the former alone; its deviations fit too.
    """
    found, pooled = errors(records), []
    for (row, column), own in found.items():
        others = found.get((row, partner(row, column)), [])
        if column in COLUMNS and others and (row.startswith("SESN") or not column.endswith("+")):
            pooled += [
                {k: r[k] for k in ("row", "metric", "value", "unit", "seed", "facts") if k in r}
                | {"table": POOLED_TABLE, "column": column, "condition": r["column"]}
                for r in own + others
            ]
    return pooled


def published_errors() -> list[PublishedRecord]:
    return [p for p in load_reference("sesn") if (p.table, p.metric) == ("table2", "error")]


def in_columns_of_their_task(pooled: Sequence[Mapping]) -> list[dict]:
    """Returns pooled cells in the columns that table 2 has for their task: nobody published this table itself."""
    published = published_errors()
    return [{**r, "column": column_of(r, published)} for r in pooled]


def time_records(run: FinishedRun) -> list[dict]:
    """Returns the cell of table 4 that a run measured: seconds per epoch of one realisation, with its validation.

    A run with several methods, or one too short to be timed, gives none.
    """
    measured = next((r for r in run.records if (r["table"], r["metric"]) == ("table2", "error")), None)
    rate = run.results.timing.steps_per_second if run.results else None
    config = run.config
    if not rate or measured is None or config["model"]["beside"]:
        return []
    steps = math.ceil(config["realisation"]["num_train"] / config["train"]["batch_size"])
    cell = measured | {"table": "table4", "metric": "seconds_per_epoch", "unit": "s"}
    device = run.results.environment.get("device", "an unknown device")
    return [cell | {"value": steps / rate / len(run.results.seeds), "note": f"measured on {device}"}]


def derive(runs: Sequence[FinishedRun], records: Sequence[Mapping], others: Sequence[FinishedRun]) -> list[dict]:
    """Returns the cells that follow from runs and their records: table 4, and table 2 pooled."""
    del others
    return [r for run in runs for r in time_records(run)] + in_columns_of_their_task(pooled_records(records))


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "table2" and those of `scale_figures`."""
    records = list(records)
    return present(table2=draw_table2(records), **scale_figures.draw(records, COLOURS))


def draw_table2(records: Sequence[Mapping]) -> "Figure | None":
    """Draws test errors by method and column beside both publications; None below three measured cells.

    Ours is hollow where its task is not the published one, and is not pooled there.
    """
    from matplotlib.figure import Figure

    measured = {cell: found for cell, found in errors(records).items() if cell[1] in COLUMNS}
    if len(measured) < 3:
        return None
    reference = published_errors()
    ours: Values = {cell: [r["value"] for r in found] for cell, found in measured.items()}
    others = of_another_task([r for found in measured.values() for r in found], reference)
    pooled: Values = {}
    for r in pooled_records(records):
        if not of_another_task([r], reference):
            pooled.setdefault((r["row"], r["column"]), []).append(r["value"])
    published = {(p.source, p.row, p.column): p for p in load_reference("sesn") if p.table == "table2"}
    rows = list(dict.fromkeys(p.row for p in published.values()))
    paper = {(row, c): [published[PublishedSource.PAPER, row, c].value] for row in rows for c in COLUMNS}
    figure = Figure(figsize=(13.5, 5.2), layout="constrained")
    panels = figure.subplots(1, len(COLUMNS), sharey=True)
    for ax, column in zip(panels, COLUMNS, strict=True):
        style.style_axes(ax, column.replace("x", "×"), xlabel="test error (%)")
        for y, row in enumerate(rows):
            printed = published[PublishedSource.PAPER, row, column]
            _mark(ax, "paper", paper[row, column], y - 0.24, printed.std)
            both = paper[row, column] + paper.get((row, partner(row, column)), [])
            if len(both) == 2 and not column.endswith("+"):
                _mark(ax, "paper, mean without and with zoom", [sum(both) / 2], y - 0.08, marker="|", markersize=8)
            reproduction = published.get((PublishedSource.REPRODUCTION, row, column))
            if reproduction is not None and reproduction.value is not None:
                _mark(ax, "reproduction", [reproduction.value], y - 0.08, reproduction.std)
            hollow = {"marker": "s", "markerfacecolor": "white"}
            _mark(ax, "ours, without and with zoom", pooled.get((row, column), []), y + 0.08, **hollow)
            look = {"label": "ours"} | (style.ANOTHER_TASK if (row, column) in others else {})
            _mark(ax, values=ours.get((row, column), []), y=y + 0.24, **look)
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].invert_yaxis()
    style.add_legend(figure, panels)
    return figure


def _mark(ax, label: str, values: Sequence[float], y: float, printed_std: float | None = None, **options) -> None:
    """Draws a mean and its deviation: the one that was printed, else that over `values`."""
    if not values:
        return
    marker, colour = style.mark_of(label)
    mean, std = mean_and_std(values)
    look = {"marker": marker, "color": colour, "markersize": 5, "linestyle": "", "elinewidth": 1.2, "label": label}
    ax.errorbar(mean, y, xerr=printed_std or std, **look | options)


PAPER = Paper(
    derive=derive,
    figures=figures,
    captions={
        "table2": "Test errors by method and column. The reproduction most likely pools runs without and with scaling "
        "augmentation: its numbers are to be compared with the squares and the bars, not with the dots. Hollow "
        "dots are of another task than the published one (other images or classes).",
        **scale_figures.CAPTIONS,
    },
)
