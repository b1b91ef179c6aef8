"""The look of every figure: one palette, axes without a box, one legend above the panels.

Imports nothing of the project, so that evaluators draw in the same style.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, AMBER, GREEN, PURPLE, RED, CYAN = "#2563eb", "#d97706", "#0f9d6e", "#9333ea", "#dc2626", "#0891b2"
LIME, PINK, STONE, SLATE, GREY, LIGHT = "#65a30d", "#be185d", "#78716c", "#475569", "#64748b", "#e2e8f0"

SPLITS = {"train": GREY, "valid": AMBER, "test": BLUE}
# Who measured a number: marker and colour. Column labels of the tables begin with these words.
SOURCES = {"ours": ("o", BLUE), "paper": ("D", SLATE), "repository": ("s", AMBER), "reproduction": ("^", GREEN)}
# How a number of ours looks whose task is not the published one.
ANOTHER_TASK = {"markerfacecolor": "white", "label": "ours, another task"}
# Methods of active learning.
ACQUISITION = {
    "BALD": BLUE,
    "P-Entropy": RED,
    "Random": GREY,
    "BALD Calibrated": CYAN,
    "Entropy Calibrated": AMBER,
}
TITLE = {"loc": "left", "fontsize": 11, "fontweight": "bold"}
BAND = {"alpha": 0.18, "linewidth": 0}


def mark_of(label: str) -> tuple[str, str]:
    """Returns (marker, colour) of a source: "repository (v2)" has those of the repository."""
    return SOURCES[re.match(r"\w+", label)[0]]


def colours_for(names: Iterable[str], fixed: Mapping[str, str], others: Sequence[str]) -> dict[str, str]:
    """Returns a colour for every name: the fixed one where it has one, else the others in turn."""
    rest: dict[str, str] = {}
    for name in names:
        if name not in fixed and name not in rest:
            rest[name] = others[len(rest) % len(others)]
    return dict(fixed) | rest


def style_axes(ax: "Axes", title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """No box, a light grid, a left-aligned bold title."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color=LIGHT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=9)
    if title:
        ax.set_title(title, **TITLE)
    if xlabel:
        ax.set_xlabel(xlabel, fontsize=9)
    if ylabel:
        ax.set_ylabel(ylabel, fontsize=9)


def draw_band(ax: "Axes", x: Sequence[float], means: Sequence[float], stds: Sequence[float], colour: str) -> None:
    """Shades one standard deviation around a line."""
    low, high = ([m + sign * s for m, s in zip(means, stds, strict=True)] for sign in (-1, 1))
    ax.fill_between(x, low, high, color=colour, **BAND)


def add_legend(figure: "Figure", panels: Iterable["Axes"], **options) -> None:
    """One legend for all panels, above them; every label once."""
    entries: dict[str, object] = {}
    for ax in panels:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    style = {"loc": "outside upper right", "ncols": len(entries), "frameon": False, "fontsize": 10}
    figure.legend(entries.values(), entries.keys(), **style | options)
