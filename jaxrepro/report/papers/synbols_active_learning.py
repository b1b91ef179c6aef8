"""Figure 6 of Synbols: test NLL against the number of labels, a panel a column and task, a line a method.

The lines are read from the metrics of the runs, the cells of tables 3 and 7 are records like any other.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxrepro.report import style
from jaxrepro.report.papers import Paper, present
from jaxrepro.report.runs import Curve, FinishedRun, read_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTIONS = {
    "figure_6": "Figure 6. Negative log-likelihood of the test images against the labels that the network was trained "
    "on; mean and one standard deviation over seeds.",
    "test_nll": "Negative log-likelihood of the test images against the labels that the network was trained on.",
    "query_share": "How many of the images that a method asked for, from the first query on, have no symbol or, where "
    "the axis says so, one that a shape hides in part.",
    "reliability": "How often predictions of a confidence are right, on the test images, before and after calibration "
    "of the last network; the larger a dot, the more images.",
} | {
    f"first_queries_{name.lower().replace('-', '_').replace(' ', '_')}": f"The first hundred images that {name} had "
    "labelled, in rows; red: those without a symbol, or with a shape over it."
    for name in style.ACQUISITION
}
PANELS_PER_ROW = 3

Points = dict[int, list[float]]  # number of labels -> test NLL of every seed


def task_of(run: FinishedRun) -> dict[str, Any]:
    """Returns what a run was measured on, whatever the number of labels; {} where none of its records says it."""
    facts = next((r["facts"] for r in run.records if r.get("facts")), {})
    return {name: value for name, value in facts.items() if name != "num_labels"}


def panel_of(run: FinishedRun, runs: Sequence[FinishedRun]) -> str:
    """Returns the column of a run, and in what its task differs from that of others of the column: a panel each."""
    column, own = run.config["task"]["column"], task_of(run)
    others = [task_of(r) for r in runs if r.config["task"]["column"] == column]
    varied = [name for name in own if any(task.get(name) != own[name] for task in others)]
    return column + "".join(f"\n{name.replace('_', ' ')}: {own[name]}" for name in varied)


def points_of(runs: Sequence[FinishedRun]) -> dict[str, dict[str, Points]]:
    """Returns panel -> method -> points, over all runs that tested one."""
    found: dict[str, dict[str, Points]] = {}
    for run in runs:
        curves, panel = read_curves(run.folder / "metrics.jsonl"), panel_of(run, runs)
        for method in style.ACQUISITION:
            nll = curves.get(f"{method}/nll", {}).get("test", Curve([], []))
            labels = curves.get(f"{method}/labels", {}).get("test", Curve([], []))
            points = found.setdefault(panel, {}).setdefault(method, {})
            for values, counts in zip(nll.values, labels.values):
                for value, count in zip(values, counts):
                    if math.isfinite(value) and math.isfinite(count):
                        points.setdefault(int(count), []).append(value)
    lines = {panel: {m: p for m, p in methods.items() if p} for panel, methods in found.items()}
    return {panel: methods for panel, methods in lines.items() if methods}


def figures_of_runs(runs: Sequence[FinishedRun]) -> "dict[str, Figure]":
    """Returns {"figure_6": figure}, or {} without a test."""
    lines = points_of(runs)
    return present(figure_6=draw_figure_6(lines) if lines else None)


def draw_figure_6(lines: Mapping[str, Mapping[str, Points]]) -> "Figure":
    """Draws means over seeds with bands of one sample standard deviation."""
    from matplotlib.figure import Figure

    width = min(len(lines), PANELS_PER_ROW)
    height = -(-len(lines) // width)
    figure = Figure(figsize=(4.2 * width + 0.6, 3.4 * height + 0.5), layout="constrained")
    panels = figure.subplots(height, width, squeeze=False).ravel()
    for ax, (panel, methods) in zip(panels, lines.items()):
        style.style_axes(ax, panel, xlabel="labelled images", ylabel="test NLL (nats)")
        for method, points in methods.items():
            labels = sorted(points)
            longest = max(map(len, points.values()))
            padded = [points[n] + [math.nan] * (longest - len(points[n])) for n in labels]
            means, stds = Curve(labels, [list(v) for v in zip(*padded, strict=True)]).over_seeds()
            ax.plot(labels, means, color=style.ACQUISITION[method], linewidth=1.6, label=method)
            style.draw_band(ax, labels, means, stds, style.ACQUISITION[method])
    for ax in panels[len(lines) :]:
        ax.set_axis_off()
    style.add_legend(figure, panels)
    return figure


PAPER = Paper(captions=CAPTIONS, figures_of_runs=figures_of_runs)
