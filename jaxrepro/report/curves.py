"""Learning curves: one panel per metric, one line per split, mean and spread over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report.runs import Curve
from jaxrepro.report.tables import mean_and_std, readable
from jaxrepro.report.yoto import TITLE, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLIT_COLOURS = {"train": "#64748b", "valid": "#d97706", "test": "#2563eb"}
OTHER_COLOURS = ("#0f9d6e", "#9333ea", "#dc2626", "#0891b2")
NOT_CURVES = frozenset({"steps_per_second", "examples_per_second", "seconds", "epoch"})
MAX_PANELS = 24


def draw_curves(curves: Mapping[str, Mapping[str, Curve]]) -> "Figure | None":
    """Draws small multiples of `runs.read_curves`; None when there is nothing to draw.

    A panel has a logarithmic axis when its values are positive and span more than two decades. With several seeds the
    line is their mean and the band ± one sample standard deviation. What is not finite leaves a gap.
    """
    from matplotlib.figure import Figure

    names = [name for name in curves if name not in NOT_CURVES][:MAX_PANELS]
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
    add_legend(figure, panels[: len(names)])
    return figure


def _draw_panel(ax, name: str, by_split: Mapping[str, Curve]) -> None:
    style_axes(ax)
    ax.set_title(readable(name), **TITLE)
    ax.set_xlabel("step", fontsize=9)
    finite: list[float] = []
    for split, colour in colours_of(by_split).items():
        curve = by_split[split]
        means, stds = mean_over_seeds(curve)
        marker = "o" if len(curve.steps) <= 12 else None
        ax.plot(curve.steps, means, color=colour, linewidth=1.6, marker=marker, markersize=4, label=split)
        if len(curve.values) > 1:
            low, high = ([m + sign * s for m, s in zip(means, stds)] for sign in (-1, 1))
            ax.fill_between(curve.steps, low, high, color=colour, alpha=0.18, linewidth=0)
        finite += [v for v in means if math.isfinite(v)]
    if not finite:
        ax.text(0.5, 0.5, "no finite values", transform=ax.transAxes, ha="center", va="center", color="#64748b")
    elif min(finite) > 0 and max(finite) / min(finite) > 100:
        ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.locator_params(axis="x", nbins=6, integer=True)


def colours_of(by_split: Mapping[str, Curve]) -> dict[str, str]:
    """Returns a colour for every split: fixed ones for train, valid and test, then others in order."""
    others = iter(OTHER_COLOURS * (1 + len(by_split) // len(OTHER_COLOURS)))
    return {split: SPLIT_COLOURS.get(split) or next(others) for split in by_split}


def mean_over_seeds(curve: Curve) -> tuple[list[float], list[float]]:
    """Returns mean and sample standard deviation per step over the seeds that are finite there (nan without any)."""
    means, stds = [], []
    for values in zip(*curve.values):
        finite = [v for v in values if math.isfinite(v)]
        mean, std = mean_and_std(finite) if finite else (math.nan, None)
        means.append(mean)
        stds.append(std or 0.0)
    return means, stds


def add_legend(figure: "Figure", panels: Sequence) -> None:
    """One legend for all panels, above them."""
    entries = {}
    for ax in panels:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside upper right",
        ncols=len(entries),
        frameon=False,
        fontsize=10,
    )
