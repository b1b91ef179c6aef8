"""Tables 1 and 2 of Synbols: accuracies beside all publications, deviations as the reproduction gives them, and costs.

Records are dicts {"table", "row", "column", "metric", "value", "seed"} as the runs wrote them. A column that ends in
"(12,000 images)" was trained on fewer images than the published one.
"""

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report.curves import add_legend, mean_over_seeds
from jaxrepro.report.reference import PublishedRecord, PublishedSource, load_reference
from jaxrepro.report.runs import Curve, Run, as_number, read_curves
from jaxrepro.report.tables import mean_and_std
from jaxrepro.report.yoto import TITLE, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENTS = ("synbols_supervised", "synbols_ood")
TABLES = ("table1", "table2")
ROWS = ("MLP", "Conv-4 Flat", "Conv-4 GAP", "ResNet-12", "ResNet-12+", "WRN-28-4", "WRN-28-4+")
# What the reproduction calls deviation is the authors' later number minus its own; ours is that of the data's version.
COMPARED = {"v1": PublishedSource.PAPER, "v2": PublishedSource.REPOSITORY}
MARKS = {
    "ours": ("o", "#2563eb"),
    "paper (v1)": ("D", "#475569"),
    "repository (v2)": ("s", "#d97706"),
    "reproduction (v2)": ("^", "#0f9d6e"),
}
PANELS_PER_ROW = 4
COLOURS = dict(zip(ROWS, ("#64748b", "#d97706", "#2563eb", "#0f9d6e", "#0f9d6e", "#9333ea", "#9333ea")))
CURVES = ("loss", "accuracy")  # of the validation set

Values = dict[tuple[str, str], list[float]]  # (column, row) -> one number per seed


def accuracies(records: Iterable[Mapping]) -> Values:
    """Returns our test accuracies in percent by cell of table 1 or 2."""
    found: Values = {}
    for r in records:
        value = as_number(r["value"])
        if r["table"] in TABLES and r["metric"] == "accuracy" and not math.isnan(value):
            found.setdefault((r["column"], r["row"]), []).append(value)
    return found


def deviation_records(run: Run, published: Sequence[PublishedRecord]) -> list[dict]:
    """Returns published minus ours in percentage points, for every cell of a run and its own version of the data."""
    source = COMPARED.get(run.version)
    printed = {p.cell: p.value for p in published if (p.source, p.version) == (source, run.version)}
    found = []
    for r in run.records:
        value = printed.get((r["table"], r["row"], r["column"], r["metric"]))
        if value is not None:
            table = f"deviation: {source} ({run.version}) minus ours"
            found.append({**r, "table": table, "value": value - as_number(r["value"]), "unit": "points"})
    return found


def cost_records(run: Run) -> list[dict]:
    """Returns time, energy and carbon dioxide of one seed of a run: an estimate.

    Energy is time × the power that the config states (`config.energy`), nothing is measured. The time of a run that was
    interrupted is that of its last process, scaled up to all steps. Compilation and evaluation count.
    """
    config, timing = run.config.get("config") or {}, run.results.get("timing") or {}
    seconds, steps, last = (as_number(v) for v in (timing.get("seconds"), timing.get("steps"), run.results.get("step")))
    cell = next(({k: r[k] for k in ("row", "column")} for r in run.records if r["metric"] == "accuracy"), None)
    if cell is None or "energy" not in config or not (seconds > 0 and steps > 0 and last > 0):
        return []
    stated, seeds = config["energy"], config["seeds"]
    hours = seconds * last / steps / len(seeds) / 3600
    kwh = hours * stated["watts"] / 1000
    table = f"cost of a run (estimate at {stated['watts']:g} W and {stated['grams_per_kwh']:g} g CO₂ per kWh)"
    costs = (("time", hours, "hours"), ("energy", kwh, "kWh"), ("CO₂", kwh * stated["grams_per_kwh"], "g"))
    return [
        {"table": table, **cell, "metric": metric, "value": value, "unit": unit, "seed": seed}
        for seed in seeds
        for metric, value, unit in costs
    ]


def derived(runs: Sequence[Run], records: Sequence[Mapping]) -> list[dict]:
    """Returns deviations from the published cells, and costs."""
    del records
    found = []
    for run in runs:
        found += deviation_records(run, load_reference(run.experiment)) + cost_records(run)
    return found


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "accuracies"."""
    figure = draw_accuracies(list(records))
    return {} if figure is None else {"accuracies": figure}


def figures_of_runs(runs: Sequence[Run]) -> "dict[str, Figure]":
    """Returns {"learning_curves": figure 1 of the reproduction} of two runs or more, {} of less."""
    lines: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        cell = next((r for r in run.records if r["table"] in TABLES and r["metric"] == "accuracy"), None)
        if cell is not None:
            lines.setdefault(cell["column"], {}).setdefault(cell["row"], []).append(run)
    return {"learning_curves": draw_learning_curves(lines)} if sum(map(len, lines.values())) > 1 else {}


def validation_curve(runs: Sequence[Run], metric: str) -> tuple[list[float], list[float], list[float]]:
    """Returns (thousands of training images seen, means, deviations) over all seeds of runs of one cell."""
    points: dict[float, list[float]] = {}
    for run in runs:
        batch_size = run.config["config"]["train"]["batch_size"]
        curve = read_curves(run.run_dir / "metrics.jsonl").get(metric, {}).get("valid", Curve([], []))
        for i, step in enumerate(curve.steps):
            points.setdefault(step * batch_size / 1000, []).extend(values[i] for values in curve.values)
    seen = sorted(points)
    length = max(map(len, points.values()), default=0)
    padded = [points[x] + [math.nan] * (length - len(points[x])) for x in seen]
    return seen, *mean_over_seeds(Curve([], [list(v) for v in zip(*padded)]))


def draw_learning_curves(lines: Mapping[str, Mapping[str, Sequence[Run]]]) -> "Figure":
    """Draws validation loss and accuracy over training: a pair of panels per column, a line per model.

    A line is the mean over seeds, its band ± one sample standard deviation. "+" is dashed.
    """
    from matplotlib.figure import Figure

    width = min(len(lines), PANELS_PER_ROW)
    height = -(-len(lines) // width)
    figure = Figure(figsize=(3.4 * width + 0.8, 4.8 * height + 0.5), layout="constrained")
    panels = figure.subplots(2 * height, width, squeeze=False)
    for ax in panels.ravel():
        ax.set_axis_off()
    for i, (column, models) in enumerate(lines.items()):
        for j, metric in enumerate(CURVES):
            ax = panels[2 * (i // width) + j, i % width]
            ax.set_axis_on()
            style_axes(ax)
            ax.set_ylabel({"loss": "validation loss (nats)", "accuracy": "validation accuracy (%)"}[metric], fontsize=9)
            for row in sorted(models, key=ROWS.index):
                seen, means, stds = validation_curve(models[row], metric)
                style = "--" if row.endswith("+") else "-"
                ax.plot(seen, means, style, color=COLOURS[row], linewidth=1.5, label=row)
                low, high = ([m + sign * s for m, s in zip(means, stds)] for sign in (-1, 1))
                ax.fill_between(seen, low, high, color=COLOURS[row], alpha=0.18, linewidth=0)
        panels[2 * (i // width), i % width].set_title(title_of(column), **TITLE)
        panels[2 * (i // width) + 1, i % width].set_xlabel("training images seen (thousands)", fontsize=9)
    add_legend(figure, panels.ravel())
    return figure


def published_column(column: str) -> str:
    """Returns the published column that one of ours is a smaller version of: "MNIST (600 images)" -> "MNIST"."""
    return re.sub(r" \([\d,]+ images\)$", "", column)


def title_of(column: str) -> str:
    """Returns the name of a column on lines that are no wider than a panel."""
    return "\n".join(textwrap.wrap(column.replace("_", " "), 28))


def draw_accuracies(records: Sequence[Mapping]) -> "Figure | None":
    """Draws accuracies by model, a panel per measured column, beside all publications.

    None without a published column or three cells of ours.

    Ours is hollow where it was trained on fewer images; bars are one sample standard deviation.
    """
    from matplotlib.figure import Figure

    ours = accuracies(records)
    published = {
        (p.label, p.column, p.row): p
        for experiment in EXPERIMENTS
        for p in load_reference(experiment)
        if p.value is not None and p.label in MARKS
    }
    columns = list(dict.fromkeys(column for column, _ in ours))
    order = {p.column: i for i, p in enumerate(published.values())}
    if len(ours) < 3 and not any(published_column(column) in order for column in columns):
        return None
    columns.sort(key=lambda c: order.get(published_column(c), len(order)))
    shown = set(ours) | {(c, row) for c in columns for _, other, row in published if other == published_column(c)}
    rows = [r for r in ROWS if any(row == r for _, row in shown)]
    width = min(len(columns), PANELS_PER_ROW)
    height = -(-len(columns) // width)
    figure = Figure(figsize=(3.1 * width + 1.6, 0.36 * len(rows) * height + 1.1 * height + 0.6), layout="constrained")
    panels = figure.subplots(height, width, sharey=True, squeeze=False).ravel()
    for ax, column in zip(panels, columns):
        style_axes(ax)
        ax.set_title(title_of(column), **TITLE)
        ax.set_xlabel("test accuracy (%)", fontsize=9)
        for y, row in enumerate(rows):
            for i, label in enumerate(MARKS):
                printed = published.get((label, published_column(column), row))
                values = ours.get((column, row), []) if label == "ours" else [printed.value] if printed else []
                spread = printed.std if printed else None
                _mark(ax, label, values, spread, y + 0.2 * (i - 1.5), hollow=column != published_column(column))
    for ax in panels[len(columns) :]:
        ax.set_axis_off()
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    add_legend(figure, panels.ravel())
    return figure


def _mark(ax, label: str, values: Sequence[float], printed_std: float | None, y: float, *, hollow: bool) -> None:
    """Draws a mean and its deviation, over `values` or the one that was printed."""
    if not values:
        return
    marker, colour = MARKS[label]
    mean, std = mean_and_std(values)
    face = "white" if hollow and label == "ours" else colour
    spread = std if label == "ours" else printed_std
    ax.errorbar(mean, y, xerr=spread, fmt=marker, color=colour, markerfacecolor=face, markersize=5, label=label)
