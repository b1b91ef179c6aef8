"""Table 5 of Synbols: errors of counts beside the published ones, and cell by cell over the size of cells.

Records are dicts {"table", "row", "column", "metric", "value", "seed"} as the runs wrote them; rows are methods and the
constant that they are compared with, columns "Crowded", with ", level 2" behind in the table of levels.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.comparison import of_another_task
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present
from jaxrepro.report.reference import load_reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE, BY_LEVEL = "table5", "GAME by level"
ROWS = ("FCN8-L", "FCN8-D")
CONSTANT = "constant"
COLUMNS = (
    "Fixed scale/Non-overlapping", "Fixed scale/Overlapping", "Variable scale/Non-overlapping",
    "Variable scale/Overlapping", "Crowded",
)  # fmt: skip
METRICS = {"mae": "MAE (letters)", "game": "GAME, level 3 (letters)"}
COLOURS = {"FCN8-L": style.BLUE, "FCN8-D": style.AMBER, CONSTANT: style.GREY}
LABELS = ("ours", "paper (v1)")
CAPTIONS = {
    "counting": "Table 5. Mean absolute error of the counts, and the grid average one on 8×8 cells; mean and one "
    "standard deviation over seeds. Dotted: the median count of training for every image. The paper does not say its "
    "grid.",
    "game_levels": "Grid average mean absolute error on 1, 4, 16 and 64 cells; that on one cell is the MAE.",
    "predictions": "Above, images with the points of their letters; below, the blobs outlined and their centres, or "
    "the predicted density. First images of the test, then those with the largest errors.",
    "counts": "Predicted against true counts of the test images, and histograms of both.",
    "errors": "Absolute errors of the test images against how much letters overlap, and against their size.",
}

Cells = dict[tuple[str, str], list[float]]  # (row, column) -> one number per seed


def cells_of(records: Iterable[Mapping], table: str, metric: str) -> Cells:
    """Returns the numbers of one of our tables."""
    found: Cells = {}
    for r in records:
        if (r["table"], r["metric"]) == (table, metric):
            found.setdefault((r["row"], r["column"]), []).append(as_number(r["value"]))
    return found


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "counting", "game_levels"."""
    records = list(records)
    published = [p for p in load_reference("synbols_counting") if p.table == TABLE]
    own = [r for r in records if r["table"] == TABLE and r["metric"] == "mae"]
    others = of_another_task(own, [p for p in published if p.metric == "mae"])
    ours = {metric: cells_of(records, TABLE, metric) for metric in METRICS}
    return present(counting=draw_table(ours, others), game_levels=draw_levels(cells_of(records, BY_LEVEL, "game")))


def draw_table(ours: Mapping[str, Cells], others: Collection[tuple[str, str]] = ()) -> "Figure | None":
    """Draws table 5, a panel per column and metric, ours beside the published; bars are one sample standard deviation.

    None without a cell of it. Cells of `others` are hollow and say that they are not the published task.
    """
    from matplotlib.figure import Figure

    columns = [c for c in COLUMNS if any(column == c for cells in ours.values() for _, column in cells)]
    if not columns:
        return None
    published = {(p.label, p.row, p.column, p.metric): p for p in load_reference("synbols_counting")}
    figure = Figure(figsize=(3.3 * len(columns) + 0.6, 4.0), layout="constrained")
    panels = figure.subplots(len(METRICS), len(columns), squeeze=False)
    for row_of_panels, (metric, words) in zip(panels, METRICS.items()):
        for ax, column in zip(row_of_panels, columns):
            style.style_axes(ax, column if metric == "mae" else "", xlabel=words)
            for y, row in enumerate(ROWS):
                for i, label in enumerate(LABELS):
                    printed, cell = published.get((label, row, column, metric)), (row, column)
                    if label == "ours" and cell in ours[metric]:
                        mean, std = mean_and_std(ours[metric][cell])
                    elif label != "ours" and printed:
                        mean, std = printed.value, printed.std
                    else:
                        continue
                    marker, colour = style.mark_of(label)
                    look = {"fmt": marker, "color": colour, "markersize": 5, "label": label}
                    look |= style.ANOTHER_TASK if label == "ours" and cell in others else {}
                    ax.errorbar(mean, y + 0.24 * (i - 0.5), xerr=std, **look)
            if constant := ours[metric].get((CONSTANT, column)):
                ax.axvline(mean_and_std(constant)[0], color=style.GREY, linestyle=":", label=CONSTANT)
            ax.set_yticks(range(len(ROWS)), ROWS if ax is row_of_panels[0] else [""] * len(ROWS))
            ax.set_ylim(len(ROWS) - 0.5, -0.5)
            ax.set_xlim(left=0)
    style.add_legend(figure, panels.ravel())
    return figure


def draw_levels(cells: Cells) -> "Figure | None":
    """Draws GAME over the number of cells, a panel per column, a line per method; None without any."""
    from matplotlib.figure import Figure

    lines: dict[str, dict[str, dict[int, float]]] = {}
    for (row, column), values in cells.items():
        if match := re.fullmatch(r"(.+), level (\d+)", column):
            lines.setdefault(match[1], {}).setdefault(row, {})[4 ** int(match[2])] = mean_and_std(values)[0]
    if not lines:
        return None
    figure = Figure(figsize=(3.3 * len(lines) + 0.6, 3.0), layout="constrained")
    panels = figure.subplots(1, len(lines), squeeze=False)[0]
    for ax, column in zip(panels, sorted(lines, key=lambda c: COLUMNS.index(c) if c in COLUMNS else len(COLUMNS))):
        style.style_axes(ax, column, xlabel="cells", ylabel="GAME (letters)" if ax is panels[0] else "")
        for row, values in lines[column].items():
            line = "o:" if row == CONSTANT else "o-"
            ax.plot(values.keys(), values.values(), line, color=COLOURS.get(row), markersize=4, label=row)
        ax.set_xscale("log", base=4)
        numbers = sorted(next(iter(lines[column].values())))
        ax.set_xticks(numbers, labels=map(str, numbers))
        ax.set_ylim(bottom=0)
    style.add_legend(figure, panels)
    return figure


PAPER = Paper(captions=CAPTIONS, figures=figures)
