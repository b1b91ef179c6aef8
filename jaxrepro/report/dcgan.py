"""The figure of DCGAN's modifications: mean and lowest losses of all runs of the sweep beside the report's.

Records are dicts {"table": "table2", "row": "LR = 0.0001", "column": "generator" | "discriminator",
"metric": "loss_mean" | "loss_lowest", "value": nats, "seed": ...}; records of other tables are passed over.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import as_number
from jaxrepro.report.tables import mean_and_std

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "table2"
METRIC = "loss_mean"
COLUMNS = ("discriminator", "generator")
MARKS = {"ours": ("o", "#2563eb"), "the report": ("D", "#d97706")}
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
    for ax, column in zip(figure.subplots(1, 2, sharey=True), COLUMNS):
        for label, table in (("ours", ours), ("the report", published)):
            marker, colour = MARKS[label]
            values = [max(table.get(row, {}).get(column, float("nan")), FLOOR) for row in ours]
            ax.plot(values, range(len(ours)), marker, color=colour, label=label, markersize=6, alpha=0.9)
        for y, row in enumerate(ours):
            if ours[row].get(column, 0.0) != ours[row].get(column, 0.0):
                ax.text(FLOOR * 1.3, y, "diverged", color=MARKS["ours"][1], fontsize=8, va="center")
        ax.set(xscale="log", xlim=(FLOOR * 0.8, 200), xlabel="mean loss over training (nats)")
        ax.set_title(column, loc="left", fontsize=11, fontweight="bold")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#e2e8f0", linewidth=0.8)
        ax.set_axisbelow(True)
    ax.set_yticks(range(len(ours)), list(ours), fontsize=9)
    ax.invert_yaxis()
    ax.legend(frameon=False, fontsize=9)
    return figure


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "modifications"."""
    figure = draw_modifications(list(records))
    return {} if figure is None else {"modifications": figure}
