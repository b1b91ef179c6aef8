"""Figures of SESN on STL-10: table 3 beside both publications, equivariance error, test error by scale."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.comparison import of_another_task
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present, scale_figures
from jaxrepro.report.reference import load_reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"SESN-A": style.CYAN, "SESN-B": style.BLUE, "SESN-C": style.GREEN, "WRN": style.SLATE}


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "table3" and those of `scale_figures`."""
    records = list(records)
    return present(table3=draw_table3(records), **scale_figures.draw(records, COLOURS))


def draw_table3(records: Sequence[Mapping]) -> "Figure | None":
    """Draws test errors by method beside both publications; None below two measured methods.

    Ours is hollow where its task is not the published one: other images, sizes or widths.
    """
    from matplotlib.figure import Figure

    published = [p for p in load_reference("sesn_stl10") if p.metric == "error" and p.value is not None]
    ours: dict[str, list[Mapping]] = {}
    for r in records:
        cell = (r["table"], r["column"], r["metric"])
        if cell == ("table3", "STL-10", "error") and not math.isnan(as_number(r["value"])):
            ours.setdefault(r["row"], []).append(r)
    if len(ours) < 2:
        return None
    others = {row for row, _ in of_another_task([r for found in ours.values() for r in found], published)}
    rows = list(dict.fromkeys([p.row for p in published] + list(ours)))
    figure = Figure(figsize=(7.2, 0.42 * len(rows) + 1.2), layout="constrained")
    ax = figure.subplots()
    style.style_axes(ax, "Table 3: STL-10", xlabel="test error (%)")
    for p in published:
        marker, colour = style.mark_of(p.label)
        ax.plot(p.value, rows.index(p.row) - 0.15, linestyle="", marker=marker, color=colour, label=p.label)
    marker, colour = style.mark_of("ours")
    for row, found in ours.items():
        mean, std = mean_and_std([r["value"] for r in found])
        look = {"marker": marker, "color": colour, "linestyle": "", "label": "ours"}
        look |= style.ANOTHER_TASK if row in others else {}
        ax.errorbar(mean, rows.index(row) + 0.15, xerr=std, **look)
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    style.add_legend(figure, [ax])
    return figure


PAPER = Paper(
    figures=figures,
    captions={
        "table3": "Test errors after the last epoch. The reproduction ran two methods; the others did not fit its GPU. "
        "Hollow dots are of another task than the published one (other images, sizes or widths).",
        **scale_figures.CAPTIONS,
        "error_by_scale": "Test error when every test image is zoomed by one factor before the test; black surrounds "
        "what is shrunk.",
    },
)
