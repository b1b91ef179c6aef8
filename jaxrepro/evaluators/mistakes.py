"""What a classifier gets wrong: the confusion matrix, and the test images it is most wrongly sure of.

matrix = confusion(labels, predicted, num_classes)
pictures = {"confusion": draw_confusion(matrix, names), "mistakes": draw_mistakes(images, found, names)}
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrepro.evaluators.pictures import tile_row
from jaxrepro.report import style

MOST_NAMED = 64  # classes whose names fit beside a matrix
MOST_PAIRS = 8
MISTAKE_ROWS, MISTAKE_COLUMNS = 4, 8
MOST_CONFUSED = 10  # classes, as in figure 4 of Synbols
GAP = 4  # pixels between images of a row


def confusion(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns counts int [K, K]: rows are true classes, columns predicted ones."""
    flat = np.bincount(labels.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def most_confused(matrix: np.ndarray, most: int = MOST_PAIRS) -> list[tuple[int, int, float]]:
    """Returns the pairs (true, predicted, share of the true class) with the largest shares, wrong ones only."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, shares.shape), strict=True)
    return [(int(t), int(p), float(shares[t, p])) for t, p in pairs if shares[t, p] > 0]


def draw_confusion(matrix: np.ndarray, names: Sequence[str], title: str = "Confusion matrix, test") -> Any:
    """Returns a matplotlib Figure of the matrix as shares of the true classes, with its most frequent mistakes.

    Args:
      matrix: int [K, K] of `confusion`.
      names: of the classes [K].
    """
    from matplotlib.figure import Figure

    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(9.2, 6.4), layout="constrained")
    ax, beside = figure.subplots(1, 2, width_ratios=(4.4, 1))
    drawn = ax.imshow(shares, cmap="magma_r", vmin=0, vmax=max(0.05, float(shares.max())), interpolation="nearest")
    ax.set(xlabel="predicted", ylabel="true")
    ax.set_title(title, **style.TITLE)
    if len(names) <= MOST_NAMED:
        size = 9 if len(names) <= 30 else 6
        turned = 90 if max(map(len, names)) > 2 else 0
        ax.set_xticks(range(len(names)), names, fontsize=size, rotation=turned)
        ax.set_yticks(range(len(names)), names, fontsize=size)
    figure.colorbar(drawn, ax=ax, shrink=0.8, label="share of the true class")
    lines = [f"{names[t]} → {names[p]}   {100 * share:.0f} %" for t, p, share in most_confused(matrix)]
    beside.set_axis_off()
    beside.set_title("true → predicted", loc="left", fontsize=9)
    beside.text(0, 0.98, "\n".join(lines) or "no mistakes", va="top", fontsize=9, linespacing=1.8)
    return figure


def draw_mistakes(images: np.ndarray, found: Mapping[str, np.ndarray], names: Sequence[str]) -> Any:
    """Returns a matplotlib Figure of the wrong images with the largest probabilities, or None where none is wrong.

    Args:
      images: uint8 [N, H, W, 1 or 3].
      found: "label", "predicted" int [N] and "confidence" float [N], the probability of the prediction.
      names: of the classes.
    """
    from matplotlib.figure import Figure

    wrong = np.flatnonzero(found["label"] != found["predicted"])
    wrong = wrong[np.argsort(-found["confidence"][wrong], kind="stable")][: MISTAKE_ROWS * MISTAKE_COLUMNS]
    if not len(wrong):
        return None
    num_rows = -(-len(wrong) // MISTAKE_COLUMNS)
    figure = Figure(figsize=(1.18 * MISTAKE_COLUMNS, 1.58 * num_rows + 0.4), layout="constrained")
    axes = figure.subplots(num_rows, MISTAKE_COLUMNS, squeeze=False).ravel()
    for ax, i in zip(axes, wrong):
        words = (_short(names[found[k][i]]) for k in ("label", "predicted"))
        shown = images[i] if images.shape[-1] == 3 else np.repeat(images[i], 3, axis=-1)
        ax.imshow(shown, interpolation="nearest")
        ax.set_title(f"{' → '.join(words)}\n{100 * found['confidence'][i]:.0f} %", fontsize=8)
    for ax in axes:
        ax.set_axis_off()
    figure.suptitle("Mistakes made with the greatest confidence: true → predicted", fontsize=11)
    return figure


def most_wrong(matrix: np.ndarray, most: int = MOST_CONFUSED) -> list[tuple[int, float]]:
    """Returns the classes with the largest shares of errors, (class, share), those without errors left out."""
    shares = 1 - np.diag(matrix) / np.maximum(matrix.sum(1), 1)
    shares[matrix.sum(1) == 0] = 0  # classes without an image
    order = np.argsort(-shares, kind="stable")[:most]
    return [(int(k), float(shares[k])) for k in order if shares[k] > 0]


def draw_most_confused(images: np.ndarray, found: Mapping[str, np.ndarray], names: Sequence[str]) -> Any:
    """Returns a matplotlib Figure: a row per most confused class, with the errors the network was most sure of.

    Args:
      images: uint8 [N, H, W, 1 or 3].
      found: "label", "predicted" int [N] and "confidence" float [N].
      names: of the classes.

    Source: Lacoste et al., "Synbols", figure 4. None where no image is wrong.
    """
    from matplotlib.figure import Figure

    classes = most_wrong(confusion(found["label"], found["predicted"], len(names)))
    if not classes:
        return None
    height, width = images.shape[1:3]
    figure = Figure(figsize=(0.98 * MISTAKE_COLUMNS + 1.6, 1.2 * len(classes) * height / width + 0.5))
    figure.set_layout_engine("constrained")
    for ax, (label, share) in zip(figure.subplots(len(classes), squeeze=False)[:, 0], classes, strict=True):
        wrong = np.flatnonzero((found["label"] == label) & (found["predicted"] != label))
        wrong = wrong[np.argsort(-found["confidence"][wrong], kind="stable")][:MISTAKE_COLUMNS]
        # One strip a class: a panel an image takes four times as long to lay out.
        ax.imshow(tile_row(images[wrong], GAP), interpolation="nearest")
        for place, i in enumerate(wrong):
            middle = place * (width + GAP) + width / 2
            ax.text(middle, -1.5, f"→ {_short(names[found['predicted'][i]])}", ha="center", va="bottom", fontsize=8)
        ax.set(xticks=[], yticks=[], xlim=(-0.5, MISTAKE_COLUMNS * (width + GAP)))
        ax.spines[:].set_visible(False)
        words = f"{textwrap.fill(names[label], 14)}\n{100 * share:.0f} % wrong"
        ax.set_ylabel(words, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle("Errors of the most confused classes", fontsize=11)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 7 else f"{name[:6]}…"
