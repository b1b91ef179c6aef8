"""Figures that SESN's experiments share: equivariance error and test error against scale, a line per method."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.numbers import as_number, mean_and_std

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EQUIVARIANCE_TABLE, ERROR_TABLE = "equivariance error", "error by scale"  # the evaluators' names
OTHER_COLOURS = (style.AMBER, style.PURPLE, style.RED, style.CYAN, style.LIME, style.PINK, style.STONE)
CAPTIONS = {
    "equivariance": "How far feature maps are from following a change of scale, before pooling, on test images; 0 is "
    "perfect. Maps are zoomed on their own grid, so 0 is out of reach even in theory. Smooth filters alone lower the "
    "error: the rows “…, one scale” have the same filters at a single scale.",
    "error_by_scale": "Test error by the scale of the image.",
    "feature_maps": "The loudest channel of a stage for an image and for the same image rescaled. For a "
    "scale-equivariant network the fourth and the fifth picture agree.",
}

Curves = dict[str, dict[str, dict[float, list[float]]]]  # metric -> row -> scale -> one number per seed


def draw(records: Sequence[Mapping], colours: Mapping[str, str]) -> "dict[str, Figure | None]":
    """Returns "equivariance" and "error_by_scale", None where the records have none of it.

    Args:
      colours: of some of the rows.
    """
    return {"equivariance": draw_equivariance(records, colours), "error_by_scale": draw_errors(records, colours)}


def draw_equivariance(records: Sequence[Mapping], colours: Mapping[str, str]) -> "Figure | None":
    """Draws the equivariance error against the scale, a panel per stage and a line per method; None without any."""
    from matplotlib.figure import Figure

    found = curves(records, EQUIVARIANCE_TABLE)
    if not found:
        return None
    figure = Figure(figsize=(4.6 * len(found) + 0.4, 3.9), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for ax, (stage, by_row) in zip(panels, sorted(found.items()), strict=True):
        style.style_axes(ax, f"Equivariance error, {stage}", xlabel="scale of the image")
        _draw_lines(ax, by_row, colours)
        ax.set_yscale("log")
    panels[0].set_ylabel("|L F(f) − F(L f)|² / |L F(f)|²")
    panels[0].legend(frameon=False)
    return figure


def draw_errors(records: Sequence[Mapping], colours: Mapping[str, str]) -> "Figure | None":
    """Draws the test error against the scale of the image, a line per method; None without any."""
    from matplotlib.figure import Figure

    found = curves(records, ERROR_TABLE)
    if not found:
        return None
    figure = Figure(figsize=(5.6, 3.9), layout="constrained")
    ax = figure.subplots()
    style.style_axes(ax, "Test error by scale", xlabel="scale of the image", ylabel="test error (%)")
    _draw_lines(ax, found["error"], colours)
    ax.legend(frameon=False)
    return figure


def curves(records: Sequence[Mapping], table: str) -> Curves:
    """Returns the finite values of a table whose columns are "scale 0.6"."""
    found: Curves = {}
    for r in records:
        value = as_number(r["value"])
        if r["table"] == table and not math.isnan(value):
            scale = float(r["column"].removeprefix("scale "))
            found.setdefault(r["metric"], {}).setdefault(r["row"], {}).setdefault(scale, []).append(value)
    return found


def _draw_lines(ax: "Axes", by_row: Mapping[str, Mapping[float, list[float]]], colours: Mapping[str, str]) -> None:
    """One line per row, the mean over seeds; the band is one sample standard deviation."""
    every = style.colours_for(by_row, colours, OTHER_COLOURS)
    for row, by_scale in by_row.items():
        scales = sorted(by_scale)
        means, stds = zip(*(mean_and_std(by_scale[s]) for s in scales), strict=True)
        ax.plot(scales, means, marker="o", markersize=4, color=every[row], label=row)
        if any(stds):
            style.draw_band(ax, scales, means, [s or 0.0 for s in stds], every[row])
