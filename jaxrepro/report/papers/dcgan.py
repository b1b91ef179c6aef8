"""The figure of DCGAN's modifications: mean and lowest losses of all seeds of the sweep beside the report's.

Records are dicts {"table": "table2", "row": "LR = 0.0001", "column": "generator" | "discriminator",
"metric": "loss_mean" | "loss_lowest", "value": nats, "seed": ...}; records of other tables are passed over.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present
from jaxrepro.report.reference import load_reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "table2"
METRICS = {"loss_mean": "mean over training (nats)", "loss_lowest": "lowest (nats)"}
COLUMNS = ("discriminator", "generator")
FLOOR = 1e-4  # of the axis; what is smaller stands at its edge


def losses_of(records: Iterable[Mapping], metric: str) -> dict[str, dict[str, list[float]]]:
    """Returns {row: {column: a number per seed}} of a metric of table 2; a diverged run has nan."""
    found: dict[str, dict[str, list[float]]] = {}
    for r in records:
        if r["table"] == TABLE and r["metric"] == metric:
            found.setdefault(r["row"], {}).setdefault(r["column"], []).append(as_number(r["value"]))
    return found


def in_table_order(rows: Iterable[str], published: Iterable[str]) -> list[str]:
    """Returns rows as the published table has them, the baseline, which it lacks, before and others after them."""
    order = {row: i for i, row in enumerate(published)}
    return sorted(rows, key=lambda row: (row != "Baseline", order.get(row, len(order))))


def draw_modifications(records: Iterable[Mapping]) -> "Figure | None":
    """Draws mean and lowest losses of both networks per modification; None with fewer than two rows of table 2.

    Ours is a small mark per seed and a large one for their mean.
    """
    from matplotlib.figure import Figure

    records, published = list(records), [vars(r) for r in load_reference("dcgan")]
    rows = in_table_order(losses_of(records, "loss_mean"), losses_of(published, "loss_mean"))
    if len(rows) < 2:
        return None
    figure = Figure(figsize=(12.0, 0.34 * len(rows) + 1.6), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    cells = [(column, metric) for column in COLUMNS for metric in METRICS]
    for ax, (column, metric) in zip(panels, cells, strict=True):
        style.style_axes(ax, column, xlabel=METRICS[metric])
        _draw_ours(ax, rows, column, losses_of(records, metric))
        _draw_published(ax, rows, column, losses_of(published, metric))
        ax.set(xscale="log", xlim=(FLOOR * 0.8, 200))
    panels[0].set_yticks(range(len(rows)), rows, fontsize=9)
    panels[0].invert_yaxis()
    style.add_legend(figure, panels)
    return figure


def _draw_ours(ax, rows: Sequence[str], column: str, losses: Mapping[str, Mapping[str, list[float]]]) -> None:
    marker, colour = style.mark_of("ours")
    for y, row in enumerate(rows):
        values = losses.get(row, {}).get(column, [])
        if any(map(math.isnan, values)):
            ax.text(FLOOR * 1.3, y, "diverged", color=colour, fontsize=8, va="center")
            continue
        if len(values) > 1:
            ax.plot([max(v, FLOOR) for v in values], [y] * len(values), marker, color=colour, markersize=3, alpha=0.5)
        if values:
            label = f"ours, mean of {len(values)} seeds" if len(values) > 1 else "ours"
            ax.plot([max(mean_and_std(values)[0], FLOOR)], [y], marker, color=colour, markersize=6, label=label)


def _draw_published(ax, rows: Sequence[str], column: str, losses: Mapping[str, Mapping[str, list[float]]]) -> None:
    marker, colour = style.mark_of("reproduction")
    points = [(max(v, FLOOR), y) for y, row in enumerate(rows) for v in losses.get(row, {}).get(column, [])]
    if points:
        ax.plot(*zip(*points), marker, color=colour, markersize=6, alpha=0.9, label="reproduction")


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "modifications"."""
    return present(modifications=draw_modifications(list(records)))


PAPER = Paper(
    figures=figures,
    captions={
        "modifications": "Table 2. Mean and lowest losses over training, baseline and single modifications in the "
        "table's order, small marks for seeds; values below the axis stand at its left edge. The report has no "
        "baseline and states neither data nor epochs.",
        "numbered_samples": "Samples to pick exemplars from, by number, for vector arithmetic by hand "
        "(config.eval.arithmetic.indices).",
        "latent_walks": "Nine equal steps from one latent to another, five times.",
        "arithmetic": "Rows a, b, c: the samples whose latents are averaged. Last row: a − b + c, then nine neighbours "
        "of it (uniform noise of 0.25).",
        "nearest_training_images": "Samples above the three training images nearest to them, and how much of the "
        "training set was searched: does the model copy?",
        "filters_trained": "Guided backpropagation from the strongest response of six features, trained discriminator.",
        "filters_random": "The same with untrained weights.",
    },
)
