"""Pictures of a counter: what it sees beside the truth, its counts against the true ones, where it errs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrepro.report import style

SHOWN = 3  # images as they come, and as many with the largest errors
NUM_BINS = 8
MOST_BARS = 200  # of a histogram; a wild density counts thousands
LABELS = {"overlap": "pixels where letters overlap (%)", "letter_size": "mean size of the counted letters (pixels)"}


def chosen(errors: np.ndarray) -> np.ndarray:
    """Returns rows of images to show, int [≤ 2 SHOWN]: the first ones, then those with the largest errors."""
    worst = np.argsort(-errors, kind="stable")
    first = np.arange(min(SHOWN, len(errors)))
    return np.concatenate([first, worst[~np.isin(worst, first)][:SHOWN]])


def draw_predictions(
    images: np.ndarray, points: np.ndarray, seen: Sequence[np.ndarray], maps: np.ndarray, counts: np.ndarray, title: str
) -> Any:
    """Returns a matplotlib Figure: images with their points above, what was seen below, counts in the titles.

    Args:
      images: uint8 [n, H, W, 3]. points: bool [n, H, W].
      seen: foreground bool [H, W] of each, outlined, its blobs' centres marked; or densities float [H, W].
      maps: float [n, H, W] that add up to the counts.
      counts: float [n], predicted.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.1 * len(images) + 0.3, 5.0), layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for i, (above, below) in enumerate(axes.T):
        above.imshow(images[i], interpolation="nearest")
        _mark(above, points[i])
        above.set_title(f"true: {points[i].sum()}", fontsize=9, pad=3)
        if seen[i].dtype == bool:
            below.imshow(images[i] // 2 + 64, interpolation="nearest")
            if seen[i].any() and not seen[i].all():
                below.contour(seen[i], levels=[0.5], colors=[style.AMBER], linewidths=1.2)
            _mark(below, maps[i] > 0)
        else:
            limit = max(1e-3, float(np.quantile(np.abs(maps), 0.999)))
            image = below.imshow(maps[i], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        below.set_title(f"predicted: {counts[i]:.{0 if seen[i].dtype == bool else 1}f}", fontsize=9, pad=3)
        for ax in (above, below):
            ax.set(xticks=[], yticks=[])
    if seen[0].dtype != bool:
        figure.colorbar(image, ax=axes[1], shrink=0.8, label="letters per pixel")
    figure.suptitle(f"{title}. The first images, then the largest errors", fontsize=10, ha="left", x=0.01)
    return figure


def draw_counts(true: np.ndarray, counts: np.ndarray, constant: float, title: str) -> Any:
    """Returns a matplotlib Figure: predicted against true counts of images [N], and histograms of both."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    scatter, bars = figure.subplots(1, 2)
    spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(true))  # so that equal counts can be told apart
    scatter.plot(true + spread, counts, ".", color=style.BLUE, alpha=0.35, markersize=5, markeredgewidth=0)
    ends = [min(true.min(), counts.min()), max(true.max(), counts.max())]
    scatter.plot(ends, ends, color=style.GREY, linewidth=1, label="right")
    scatter.axhline(constant, color=style.AMBER, linestyle=":", label=f"constant {constant:g}")
    style.style_axes(scatter, title, "true count", "predicted count")
    scatter.legend(frameon=False, fontsize=8)
    low, high = np.floor(ends[0]), np.ceil(ends[1])
    width = max(1, -(-(high - low + 1) // MOST_BARS))
    bins = np.arange(low - 0.5, high + 0.5 + width, width)
    bars.hist(true, bins, color=style.GREY, alpha=0.45, label="true")
    bars.hist(counts, bins, histtype="step", color=style.BLUE, linewidth=1.5, label="predicted")
    style.style_axes(bars, "Histogram of counts", "count", "images")
    bars.legend(frameon=False, fontsize=8)
    return figure


def draw_errors(errors: np.ndarray, against: Mapping[str, np.ndarray], title: str) -> Any:
    """Returns a matplotlib Figure of absolute errors [N], a panel for each property [N], with means of shares.

    None where no property varies.
    """
    from matplotlib.figure import Figure

    finite = {k: np.isfinite(v) for k, v in against.items()}
    varying = {k: v for k, v in against.items() if finite[k].any() and np.ptp(v[finite[k]]) > 0}
    if not varying:
        return None
    figure = Figure(figsize=(4.8 * len(varying), 3.6), layout="constrained")
    panels = figure.subplots(1, len(varying), squeeze=False)[0]
    for i, (ax, (name, values)) in enumerate(zip(panels, varying.items())):
        x, y = values[finite[name]], errors[finite[name]]
        ax.plot(x, y, ".", color=style.BLUE, alpha=0.25, markersize=5, markeredgewidth=0)
        parts = _shares(x)
        ax.plot(
            [x[p].mean() for p in parts], [y[p].mean() for p in parts], "o-", color=style.AMBER, label="mean of a share"
        )
        style.style_axes(ax, title if i == 0 else "", LABELS[name], "absolute error" if i == 0 else "")
        ax.legend(frameon=False, fontsize=8)
    return figure


def _shares(x: np.ndarray) -> list[np.ndarray]:
    """Returns rows of about equal shares in rising order of x [N], which varies; equal values are in one share."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, NUM_BINS + 1), method="lower"))
    place = np.minimum(np.searchsorted(edges, x, side="right"), len(edges) - 1)
    return [np.flatnonzero(place == i) for i in np.unique(place)]


def _mark(ax: Any, points: np.ndarray) -> None:
    rows, columns = np.nonzero(points)
    ax.plot(columns, rows, "o", markersize=4, color=style.RED, markeredgecolor="white", markeredgewidth=0.7)
