"""Figures and derived cells of SESN: table 2 beside both publications, table 4, and the equivariance error.

Records are dicts {"table", "row", "column", "metric", "value", "seed"} as the runs wrote them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report.curves import add_legend
from jaxrepro.report.reference import PublishedSource, load_reference
from jaxrepro.report.runs import Run, as_number
from jaxrepro.report.tables import mean_and_std
from jaxrepro.report.yoto import TITLE, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("28x28", "28x28+", "56x56", "56x56+")
POOLED_TABLE = "table2 pooled"
EQUIVARIANCE_TABLE = "equivariance error"
COLOURS = {"SESN Scalar": "#2563eb", "SESN Vector": "#0f9d6e", "CNN": "#475569"}
OTHER_COLOURS = ("#d97706", "#9333ea", "#dc2626", "#0891b2", "#65a30d", "#be185d", "#78716c")
OURS, PAPER, REPRODUCTION = "#2563eb", "#475569", "#d97706"

Values = dict[tuple[str, str], list[float]]  # (row, column) -> one number per seed


def errors(records: Iterable[Mapping]) -> Values:
    """Returns our test errors in percent by cell of table 2."""
    found: Values = {}
    for r in records:
        value = as_number(r["value"])
        if (r["table"], r["metric"]) == ("table2", "error") and not math.isnan(value):
            found.setdefault((r["row"], r["column"]), []).append(value)
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
    for (row, column), values in found.items():
        others = found.get((row, partner(row, column)), [])
        if column in COLUMNS and others and (row.startswith("SESN") or not column.endswith("+")):
            pooled += [
                {"table": POOLED_TABLE, "row": row, "column": column, "metric": "error", "unit": "percent"}
                | {"value": value, "seed": i}
                for i, value in enumerate(values + others)
            ]
    return pooled


def time_records(run: Run) -> list[dict]:
    """Returns the cell of table 4 that a run measured: seconds per epoch of one realisation, with its validation.

    A run with several methods, or one too short to be timed, gives none.
    """
    config = run.config.get("config") or {}
    rate = as_number((run.results.get("timing") or {}).get("steps_per_second"))
    column = next((r["column"] for r in run.records if (r["table"], r["metric"]) == ("table2", "error")), None)
    if math.isnan(rate) or column is None or config["model"]["beside"]:
        return []
    steps = math.ceil(config["realisation"]["num_train"] / config["train"]["batch_size"])
    cell = {"table": "table4", "row": config["model"]["method"], "column": column, "metric": "seconds_per_epoch"}
    value = steps / rate / len(config["seeds"])
    return [cell | {"value": value, "unit": "s", "seed": config["seeds"][0]}]


def derived(runs: Sequence[Run], records: Sequence[Mapping]) -> list[dict]:
    """Returns the cells that follow from runs and their records: table 4, and table 2 pooled."""
    return [r for run in runs for r in time_records(run)] + pooled_records(records)


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "table2" and "equivariance"."""
    records = list(records)
    drawn = {"table2": draw_table2(records), "equivariance": draw_equivariance(records)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def draw_table2(records: Sequence[Mapping]) -> "Figure | None":
    """Draws test errors by method and column beside both publications; None below three measured cells."""
    from matplotlib.figure import Figure

    ours = {cell: values for cell, values in errors(records).items() if cell[1] in COLUMNS}
    if len(ours) < 3:
        return None
    pooled: Values = {}
    for r in pooled_records(records):
        pooled.setdefault((r["row"], r["column"]), []).append(r["value"])
    published = {(p.source, p.row, p.column): p for p in load_reference("sesn") if p.table == "table2"}
    rows = list(dict.fromkeys(p.row for p in published.values()))
    paper = {(row, c): [published[PublishedSource.PAPER, row, c].value] for row in rows for c in COLUMNS}
    figure = Figure(figsize=(13.5, 5.2), layout="constrained")
    panels = figure.subplots(1, len(COLUMNS), sharey=True)
    for ax, column in zip(panels, COLUMNS, strict=True):
        style_axes(ax)
        ax.set_title(column.replace("x", "×"), **TITLE)
        ax.set_xlabel("test error (%)", fontsize=9)
        for y, row in enumerate(rows):
            _mark(ax, paper[row, column], y - 0.24, PAPER, "o", "paper", published[PublishedSource.PAPER, row, column])
            both = paper[row, column] + paper.get((row, partner(row, column)), [])
            if len(both) == 2 and not column.endswith("+"):
                _mark(ax, [sum(both) / 2], y - 0.08, PAPER, "|", "paper, mean without and with zoom")
            reproduction = published.get((PublishedSource.REPRODUCTION, row, column))
            if reproduction is not None and reproduction.value is not None:
                _mark(ax, [reproduction.value], y - 0.08, REPRODUCTION, "D", "reproduction", reproduction)
            _mark(ax, pooled.get((row, column), []), y + 0.08, OURS, "s", "ours, without and with zoom", hollow=True)
            _mark(ax, ours.get((row, column), []), y + 0.24, OURS, "o", "ours")
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].invert_yaxis()
    add_legend(figure, panels)
    return figure


def _mark(ax, values: Sequence[float], y: float, colour: str, marker: str, label: str, printed=None, hollow=False):
    """Draws a mean and its deviation: over `values`, or the one that was printed."""
    if not values:
        return
    mean, std = mean_and_std(values)
    std = printed.std if printed is not None else std
    style = {"color": colour, "markerfacecolor": "white" if hollow else colour, "markersize": 8 if marker == "|" else 5}
    ax.errorbar(mean, y, xerr=std, fmt=marker, elinewidth=1.2, label=label, **style)


def draw_equivariance(records: Sequence[Mapping]) -> "Figure | None":
    """Draws the equivariance error against the scale, a panel per stage and a line per method; None without any.

    The line is the mean over seeds, the band one sample standard deviation.
    """
    from matplotlib.figure import Figure

    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for r in records:
        value = as_number(r["value"])
        if r["table"] == EQUIVARIANCE_TABLE and not math.isnan(value):
            scale = float(r["column"].removeprefix("scale "))
            found.setdefault(r["metric"], {}).setdefault(r["row"], {}).setdefault(scale, []).append(value)
    if not found:
        return None
    rows = list(dict.fromkeys(row for by_row in found.values() for row in by_row))
    others = [row for row in rows if row not in COLOURS]
    colours = COLOURS | {row: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, row in enumerate(others)}
    figure = Figure(figsize=(4.6 * len(found) + 0.4, 3.9), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for ax, (stage, by_row) in zip(panels, sorted(found.items()), strict=True):
        style_axes(ax)
        ax.set_title(f"Equivariance error, {stage}", **TITLE)
        ax.set_xlabel("scale of the image")
        for row, by_scale in by_row.items():
            scales = sorted(by_scale)
            means, stds = zip(*(mean_and_std(by_scale[s]) for s in scales), strict=True)
            ax.plot(scales, means, marker="o", markersize=4, color=colours[row], label=row)
            if any(stds):
                low, high = ([m + sign * (s or 0) for m, s in zip(means, stds, strict=True)] for sign in (-1, 1))
                ax.fill_between(scales, low, high, color=colours[row], alpha=0.18, linewidth=0)
        ax.set_yscale("log")
    panels[0].set_ylabel("|L F(f) − F(L f)|² / |L F(f)|²")
    panels[0].legend(frameon=False)
    return figure
