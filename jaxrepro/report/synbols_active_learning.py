"""Figure 6 of Synbols: test NLL against the number of labels, a panel a column and a line a method.

The lines are read from the metrics of the runs, the cells of tables 3 and 7 are records like any other.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report.curves import add_legend, mean_over_seeds
from jaxrepro.report.runs import Curve, Run, read_curves
from jaxrepro.report.yoto import TITLE, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "BALD": "#2563eb",
    "P-Entropy": "#dc2626",
    "Random": "#64748b",
    "BALD Calibrated": "#0891b2",
    "Entropy Calibrated": "#d97706",
}
PANELS_PER_ROW = 3

Points = dict[int, list[float]]  # number of labels -> test NLL of every seed


def points_of(runs: Sequence[Run]) -> dict[str, dict[str, Points]]:
    """Returns column -> method -> points, over all runs that tested one."""
    found: dict[str, dict[str, Points]] = {}
    for run in runs:
        curves = read_curves(run.run_dir / "metrics.jsonl")
        column = str(((run.config.get("config") or {}).get("task") or {}).get("column", "?"))
        for method in COLOURS:
            nll = curves.get(f"{method}/nll", {}).get("test", Curve([], []))
            labels = curves.get(f"{method}/labels", {}).get("test", Curve([], []))
            points = found.setdefault(column, {}).setdefault(method, {})
            for values, counts in zip(nll.values, labels.values):
                for value, count in zip(values, counts):
                    if math.isfinite(value) and math.isfinite(count):
                        points.setdefault(int(count), []).append(value)
    lines = {column: {m: p for m, p in methods.items() if p} for column, methods in found.items()}
    return {column: methods for column, methods in lines.items() if methods}


def figures_of_runs(runs: Sequence[Run]) -> "dict[str, Figure]":
    """Returns {"figure_6": figure}, or {} without a test."""
    lines = points_of(runs)
    return {"figure_6": draw_figure_6(lines)} if lines else {}


def draw_figure_6(lines: Mapping[str, Mapping[str, Points]]) -> "Figure":
    """Draws means over seeds with bands of one sample standard deviation."""
    from matplotlib.figure import Figure

    width = min(len(lines), PANELS_PER_ROW)
    height = -(-len(lines) // width)
    figure = Figure(figsize=(4.2 * width + 0.6, 3.4 * height + 0.5), layout="constrained")
    panels = figure.subplots(height, width, squeeze=False).ravel()
    for ax, (column, methods) in zip(panels, lines.items()):
        style_axes(ax)
        ax.set_title(column, **TITLE)
        ax.set_xlabel("labelled images", fontsize=9)
        ax.set_ylabel("test NLL (nats)", fontsize=9)
        for method, points in methods.items():
            labels = sorted(points)
            longest = max(map(len, points.values()))
            padded = [points[n] + [math.nan] * (longest - len(points[n])) for n in labels]
            means, stds = mean_over_seeds(Curve(labels, [list(v) for v in zip(*padded)]))
            ax.plot(labels, means, color=COLOURS[method], linewidth=1.6, label=method)
            low, high = ([m + sign * s for m, s in zip(means, stds)] for sign in (-1, 1))
            ax.fill_between(labels, low, high, color=COLOURS[method], alpha=0.18, linewidth=0)
    for ax in panels[len(lines) :]:
        ax.set_axis_off()
    add_legend(figure, panels)
    return figure
