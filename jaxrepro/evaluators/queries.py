"""What active learning asked for, and how far its confidence can be trusted: pictures for one seed.

pictures = {"first_queries": draw_first_queries(images, rows, flags, "BALD: ..."), "query_share": draw_shares(...)}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrepro.report import style

GRID = 10  # rows and columns of the picture of the first queries
FRAME = (220, 38, 38)
LINE = {"linewidth": 1.6, "marker": "o", "markersize": 3}


def draw_first_queries(images: np.ndarray, rows: Sequence[int], flagged: np.ndarray | None) -> np.ndarray:
    """Returns a picture uint8 [H', W', 3] of the first hundred queries, ten in a row, flagged ones in a red frame.

    Args:
      images: of the pool, uint8 [N, H, W, 1 or 3].
      rows: of the pool, in the order of labelling.
      flagged: bool [N], or None.
    """
    height, width = images.shape[1:3]
    gap = max(2, height // 8)
    num_lines = -(-min(len(rows), GRID**2) // GRID)
    picture = np.full((num_lines * (height + gap) + gap, GRID * (width + gap) + gap, 3), 255, np.uint8)
    for i, row in enumerate(rows[: GRID**2]):
        top, left = (gap + place * (size + gap) for place, size in zip(divmod(i, GRID), (height, width)))
        if flagged is not None and flagged[row]:
            picture[top - gap // 2 : top + height + gap // 2, left - gap // 2 : left + width + gap // 2] = FRAME
        picture[top : top + height, left : left + width] = images[row]
    scale = max(1, 600 // (GRID * (height + gap) + gap))
    return picture.repeat(scale, 0).repeat(scale, 1)


def cumulative_share(flagged: np.ndarray, rows: np.ndarray, num_queries: int) -> np.ndarray:
    """Returns the share in percent of flagged images among the queries after every round, float [rounds]."""
    hits = np.cumsum(flagged[rows])[num_queries - 1 :: num_queries]
    return 100 * hits / (num_queries * (1 + np.arange(len(hits))))


def draw_lines(lines: Mapping[str, tuple[np.ndarray, np.ndarray]], ylabel: str, level: float | None = None) -> Any:
    """Returns a matplotlib Figure of values against labels, a line a method, with a grey level such as the average."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    for method, (x, y) in lines.items():
        ax.plot(x, y, color=style.ACQUISITION[method], label=method, **LINE)
    if level is not None:
        ax.axhline(level, color=style.GREY, linewidth=1, linestyle="--", label="in the pool")
    style.style_axes(ax, xlabel="labelled images", ylabel=ylabel)
    ax.legend(frameon=False)
    return figure


def draw_reliability(found: Mapping[str, tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]) -> Any:
    """Returns a matplotlib Figure: accuracy against confidence, a panel a method, before and after calibration.

    Args:
      found: method -> what `calibration.reliability` returned before, and after. The area of a dot is the share of
        its bin.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(found) + 0.6, 4), layout="constrained")
    for ax, (method, curves) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items()):
        ax.plot((0, 1), (0, 1), color=style.GREY, linewidth=1, linestyle="--")
        for name, bins, colour in zip(("before", "after"), curves, (style.RED, style.BLUE)):
            seen = bins["count"] > 0
            count = bins["count"][seen]
            x, y = bins["confidence"][seen] / count, bins["accuracy"][seen] / count
            error = np.abs(bins["accuracy"] - bins["confidence"]).sum() / bins["count"].sum()
            ax.plot(x, y, color=colour, linewidth=1, label=f"{name} calibration, error {error:.3f}")
            ax.scatter(x, y, s=8 + 300 * count / count.sum(), color=colour, alpha=0.5, linewidths=0)
        style.style_axes(ax, method, xlabel="confidence", ylabel="accuracy")
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.legend(frameon=False, loc="upper left", fontsize=8)
    return figure
