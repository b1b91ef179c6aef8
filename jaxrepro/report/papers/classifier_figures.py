"""Figures of Synbols' tables 1 and 2: accuracies beside all publications, and learning curves of several runs."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.comparison import of_another_task
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import present
from jaxrepro.report.reference import PublishedRecord, load_reference
from jaxrepro.report.runs import Curve, FinishedRun, read_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENTS = ("synbols_supervised", "synbols_ood")
TABLES = ("table1", "table2")
ROWS = ("MLP", "Conv-4 Flat", "Conv-4 GAP", "ResNet-12", "ResNet-12+", "WRN-28-4", "WRN-28-4+")
COLOURS = dict(
    zip(ROWS, (style.GREY, style.AMBER, style.BLUE, style.GREEN, style.GREEN, style.PURPLE, style.PURPLE), strict=True)
)
LABELS = ("ours", "paper (v1)", "repository (v2)", "reproduction (v2)")
PANELS_PER_ROW = 4
CURVES = {
    ("train", "loss"): "training loss (nats)",
    ("valid", "loss"): "validation loss (nats)",
    ("valid", "accuracy"): "validation accuracy (%)",
}


def is_accuracy(record: Mapping) -> bool:
    return record["table"] in TABLES and record["metric"] == "accuracy"


def title_of(column: str) -> str:
    """Returns the name of a column on lines that are no wider than a panel."""
    return "\n".join(textwrap.wrap(column.replace("_", " "), 28))


def published_accuracies() -> list[PublishedRecord]:
    """Returns the numbers of tables 1 and 2 that the figure shows, of both versions of the data."""
    records = [p for experiment in EXPERIMENTS for p in load_reference(experiment)]
    return [p for p in records if p.value is not None and p.metric == "accuracy" and p.label in LABELS]


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "accuracies"."""
    return present(accuracies=draw_accuracies(list(records)))


def draw_accuracies(records: Sequence[Mapping]) -> "Figure | None":
    """Draws accuracies by model, a panel per measured column, beside all publications.

    None without a published column or three cells of ours. Ours is hollow where its task is not the published one,
    bars are one sample standard deviation.
    """
    from matplotlib.figure import Figure

    published = published_accuracies()
    ours: dict[tuple[str, str], list[Mapping]] = {}
    for r in filter(is_accuracy, records):
        if not math.isnan(as_number(r["value"])):
            ours.setdefault((r["column"], r["row"]), []).append(r)
    order = list(dict.fromkeys(p.column for p in published))
    columns = list(dict.fromkeys(column for column, _ in ours))
    if len(ours) < 3 and not set(columns) & set(order):
        return None
    columns.sort(key=lambda c: order.index(c) if c in order else len(order))
    rows = [r for r in ROWS if any((c, r) in ours for c in columns) or any(_of(published, c, r) for c in columns)]
    width = min(len(columns), PANELS_PER_ROW)
    height = -(-len(columns) // width)
    figure = Figure(figsize=(3.1 * width + 1.6, 0.36 * len(rows) * height + 1.1 * height + 0.6), layout="constrained")
    panels = figure.subplots(height, width, sharey=True, squeeze=False).ravel()
    for ax, column in zip(panels, columns, strict=False):
        style.style_axes(ax, title_of(column), xlabel="test accuracy (%)")
        for y, row in enumerate(rows):
            for p in _of(published, column, row):
                _mark(ax, p.label, [p.value], p.std, y)
            found = ours.get((column, row), [])
            hollow = any(of_another_task([r], [p for p in published if p.table == r["table"]]) for r in found)
            _mark(ax, "ours", [r["value"] for r in found], None, y, hollow=hollow)
    for ax in panels[len(columns) :]:
        ax.set_axis_off()
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    style.add_legend(figure, panels)
    return figure


def _of(published: Sequence[PublishedRecord], column: str, row: str) -> list[PublishedRecord]:
    return [p for p in published if (p.column, p.row) == (column, row)]


def _mark(
    ax, label: str, values: Sequence[float], printed_std: float | None, y: float, *, hollow: bool = False
) -> None:
    """Draws a mean and its deviation: the one that was printed, else that over `values`."""
    if not values:
        return
    marker, colour = style.mark_of(label)
    mean, std = mean_and_std(values)
    look = {"fmt": marker, "color": colour, "markersize": 5, "label": label} | (style.ANOTHER_TASK if hollow else {})
    ax.errorbar(mean, y + 0.2 * (LABELS.index(label) - 1.5), xerr=printed_std or std, **look)


def figures_of_runs(runs: Sequence[FinishedRun]) -> "dict[str, Figure]":
    """Returns {"learning_curves": figure 1 of the reproduction} of two runs or more, {} of less."""
    lines: dict[str, dict[str, list[FinishedRun]]] = {}
    for run in runs:
        cell = next(filter(is_accuracy, run.records), None)
        if cell is not None:
            lines.setdefault(cell["column"], {}).setdefault(cell["row"], []).append(run)
    return {"learning_curves": draw_learning_curves(lines)} if sum(map(len, lines.values())) > 1 else {}


def curve_of(
    runs: Sequence[FinishedRun], logs: Mapping[Path, Mapping], split: str, metric: str
) -> tuple[list[float], list[float], list[float]]:
    """Returns (thousands of training images seen, means, deviations) over all seeds of runs of one cell."""
    points: dict[float, list[float]] = {}
    for run in runs:
        batch_size = run.config["train"]["batch_size"]
        curve = logs[run.folder].get(metric, {}).get(split, Curve([], []))
        for i, step in enumerate(curve.steps):
            points.setdefault(step * batch_size / 1000, []).extend(values[i] for values in curve.values)
    seen = sorted(points)
    length = max(map(len, points.values()), default=0)
    padded = [points[x] + [math.nan] * (length - len(points[x])) for x in seen]
    return seen, *Curve([], [list(v) for v in zip(*padded, strict=True)]).over_seeds()


def read_logs(runs: Sequence[FinishedRun]) -> dict[Path, dict[str, dict[str, Curve]]]:
    """Returns run folder -> its curves."""
    return {run.folder: read_curves(run.folder / "metrics.jsonl") for run in runs}


def draw_learning_curves(lines: Mapping[str, Mapping[str, Sequence[FinishedRun]]]) -> "Figure":
    """Draws losses and accuracy over training: a panel for each in every column, a line per model.

    A line is the mean over seeds, its band ± one sample standard deviation. "+" is dashed.
    """
    from matplotlib.figure import Figure

    width = min(len(lines), PANELS_PER_ROW)
    height = -(-len(lines) // width)
    num = len(CURVES)
    logs = read_logs([run for models in lines.values() for found in models.values() for run in found])
    figure = Figure(figsize=(3.4 * width + 0.8, 2.4 * num * height + 0.5), layout="constrained")
    panels = figure.subplots(num * height, width, squeeze=False)
    for ax in panels.ravel():
        ax.set_axis_off()
    for i, (column, models) in enumerate(lines.items()):
        block = panels[num * (i // width) :, i % width]
        for ax, ((split, metric), name) in zip(block, CURVES.items(), strict=False):
            ax.set_axis_on()
            style.style_axes(ax, ylabel=name)
            for row in sorted(models, key=ROWS.index):
                seen, means, stds = curve_of(models[row], logs, split, metric)
                dash = "--" if row.endswith("+") else "-"
                ax.plot(seen, means, dash, color=COLOURS[row], linewidth=1.5, label=row)
                style.draw_band(ax, seen, means, stds, COLOURS[row])
        style.style_axes(block[0], title_of(column))
        style.style_axes(block[num - 1], xlabel="training images seen (thousands)")
    style.add_legend(figure, panels.ravel())
    return figure


CAPTIONS = {
    "accuracies": "Test accuracies by model and data set, mean and one standard deviation over seeds; ours is hollow "
    "where its task is not the published one (other classes, images or partition). Paper: 26 letters (v1). The "
    "authors' later table, which the reproduction re-ran: 48 symbols (v2).",
    "learning_curves": "Figure 1 of the reproduction. Loss on the training and on the validation set, and accuracy on "
    "the latter; mean and one standard deviation over seeds. Training ends with the fourth fall of the learning rate.",
    "confusion": "How often images of a class (rows) get another label (columns), and the most frequent mistakes.",
    "most_confused": "Figure 4. The ten classes with the largest share of errors, and of each the wrong labels that "
    "the network was most sure of.",
    "mistakes": "Wrong labels with the greatest probability.",
    "split": "Which images are train, valid and test. Letters are numbered in the order of the alphabet, fonts in that "
    "of their names.",
}
