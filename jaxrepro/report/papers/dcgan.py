"""The figure of DCGAN's modifications: mean and lowest losses of all runs of the sweep beside the report's.

Records are dicts {"table": "table2", "row": "LR = 0.0001", "column": "generator" | "discriminator",
"metric": "loss_mean" | "loss_lowest", "value": nats, "seed": ...}; records of other tables are passed over.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present
from jaxrepro.report.reference import load_reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "table2"
METRIC = "loss_mean"
COLUMNS = ("discriminator", "generator")
SOURCES = ("ours", "reproduction")
FLOOR = 1e-4  # of the axis; what is smaller stands at its edge


def losses_of(records: Iterable[Mapping]) -> dict[str, dict[str, float]]:
    """Returns {row: {column: mean loss over seeds}}, rows in the records' order; a diverged run has nan."""
    found: dict[str, dict[str, list[float]]] = {}
    for r in records:
        if r["table"] == TABLE and r["metric"] == METRIC:
            found.setdefault(r["row"], {}).setdefault(r["column"], []).append(as_number(r["value"]))
    return {row: {c: mean_and_std(v)[0] for c, v in columns.items()} for row, columns in found.items()}


def draw_modifications(records: Iterable[Mapping]) -> "Figure | None":
    """Draws the mean losses of both networks per modification; None with fewer than two rows of table 2."""
    from matplotlib.figure import Figure

    ours = losses_of(records)
    if len(ours) < 2:
        return None
    published = losses_of([vars(r) for r in load_reference("dcgan")])
    figure = Figure(figsize=(9.0, 0.34 * len(ours) + 1.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, column in zip(panels, COLUMNS, strict=True):
        style.style_axes(ax, column, xlabel="mean loss over training (nats)")
        for label, table in zip(SOURCES, (ours, published), strict=True):
            marker, colour = style.mark_of(label)
            values = [max(table.get(row, {}).get(column, float("nan")), FLOOR) for row in ours]
            ax.plot(values, range(len(ours)), marker, color=colour, label=label, markersize=6, alpha=0.9)
        for y, row in enumerate(ours):
            if math.isnan(ours[row].get(column, 0.0)):
                ax.text(FLOOR * 1.3, y, "diverged", color=style.BLUE, fontsize=8, va="center")
        ax.set(xscale="log", xlim=(FLOOR * 0.8, 200))
    ax.set_yticks(range(len(ours)), list(ours), fontsize=9)
    ax.invert_yaxis()
    style.add_legend(figure, panels)
    return figure


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "modifications"."""
    return present(modifications=draw_modifications(list(records)))


PAPER = Paper(
    figures=figures,
    captions={
        "modifications": "Table 2. Mean losses over training, baseline and single modifications; values below the axis "
        "stand at its left edge. The report has no baseline and states neither data nor epochs.",
        "numbered_samples": "Samples to pick exemplars from, by number, for vector arithmetic by hand "
        "(config.eval.arithmetic.indices).",
        "latent_walks": "Nine equal steps from one latent to another, five times.",
        "arithmetic": "Rows a, b, c: the samples whose latents are averaged. Last row: a − b + c, then nine neighbours "
        "of it (uniform noise of 0.25).",
        "nearest_training_images": "Samples above the three training images nearest to them: does the model copy?",
        "filters_trained": "Guided backpropagation from the strongest response of six features, trained discriminator.",
        "filters_random": "The same with untrained weights.",
    },
)
