"""Learning curves: one panel per metric, one line per split, mean and spread over seeds."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.runs import Curve
from jaxrepro.report.text import readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OTHER_COLOURS = (style.GREEN, style.PURPLE, style.RED, style.CYAN)
NOT_CURVES = frozenset({"steps_per_second", "examples_per_second", "seconds", "epoch"})
MAX_PANELS = 24


def draw_curves(curves: Mapping[str, Mapping[str, Curve]]) -> "Figure | None":
    """Draws small multiples of `runs.read_curves`; None when there is nothing to draw.

    Metrics that are measured once are no curves and stand in the table of final metrics, unless there are no others.
    A panel has a logarithmic axis when its values are positive and span more than two decades. With several seeds the
    line is their mean and the band ± one sample standard deviation. What is not finite leaves a gap.
    """
    from matplotlib.figure import Figure

    names = [name for name in curves if name not in NOT_CURVES]
    names = ([n for n in names if any(len(c.steps) > 1 for c in curves[n].values())] or names)[:MAX_PANELS]
    if not names:
        return None
    names.sort(key=lambda name: name != "loss")
    num_columns = min(2, len(names))
    num_rows = math.ceil(len(names) / num_columns)
    figure = Figure(figsize=(4.9 * num_columns + 0.2 * (num_columns == 1), 2.9 * num_rows + 0.45), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.08)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for ax, name in zip(panels, names):
        _draw_panel(ax, name, curves[name])
    steps = [s for name in names for curve in curves[name].values() for s in curve.steps]
    margin = 0.02 * (max(steps) - min(steps)) or 1
    for ax in panels[: len(names)]:
        ax.set_xlim(min(steps) - margin, max(steps) + margin)
    for ax in panels[len(names) :]:
        ax.set_axis_off()
    style.add_legend(figure, panels[: len(names)])
    return figure


def _draw_panel(ax, name: str, by_split: Mapping[str, Curve]) -> None:
    style.style_axes(ax, readable(name), xlabel="step")
    finite: list[float] = []
    colours = style.colours_for(by_split, style.SPLITS, OTHER_COLOURS)
    for split, curve in by_split.items():
        colour = colours[split]
        means, stds = curve.over_seeds()
        marker = "o" if len(curve.steps) <= 12 else None
        ax.plot(curve.steps, means, color=colour, linewidth=1.6, marker=marker, markersize=4, label=split)
        if len(curve.values) > 1:
            style.draw_band(ax, curve.steps, means, stds, colour)
        finite += [v for v in means if math.isfinite(v)]
    if not finite:
        ax.text(0.5, 0.5, "no finite values", transform=ax.transAxes, ha="center", va="center", color=style.GREY)
    elif min(finite) > 0 and max(finite) / min(finite) > 100:
        ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.locator_params(axis="x", nbins=6, integer=True)
