"""Pictures of few-shot episodes: what was seen and answered, where vectors lie, which classes are mixed up."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrepro.data.episodes import ClassTable
from jaxrepro.report import style

MOST_ROWS = 8
MOST_QUERIES = 10
EXAMPLES = 4  # images of each class of a pair
READABLE = (range(0x530), range(0x1E00, 0x2000))  # Latin, Greek and Cyrillic letters, which the plotting font has
LONGEST_NAME = 18
COLOURS = (style.BLUE, style.AMBER, style.GREEN, style.PURPLE, style.RED, style.CYAN, style.GREY, style.PINK)


def draw_episode(images: np.ndarray, predicted: np.ndarray, shots: int, title: str) -> Any:
    """Returns a matplotlib Figure: a row per class, the support in front, queries with the class they were given.

    Args:
      images: uint8 [N, shots + Q, H, W, 1 or 3].
      predicted: int [N, Q].
    """
    from matplotlib.figure import Figure

    ways, num_queries = min(len(images), MOST_ROWS), min(predicted.shape[1], MOST_QUERIES)
    num_shots = min(shots, MOST_QUERIES)
    columns = num_shots + num_queries
    figure = Figure(figsize=(0.62 * columns + 1.0, 0.78 * ways + 0.7), layout="constrained")
    axes = figure.subplots(ways, columns, squeeze=False)
    for n in range(ways):
        for i in range(columns):
            query = i - num_shots
            _show(axes[n, i], images[n, i if query < 0 else shots + query])
            if query >= 0:
                right = predicted[n, query] == n
                colour = style.GREEN if right else style.RED
                axes[n, i].set_title("✓" if right else f"→ {predicted[n, query] + 1}", fontsize=8, color=colour, pad=2)
        axes[n, 0].set_ylabel(f"class {n + 1}", fontsize=8)
    axes[0, 0].set_title("support", fontsize=8, loc="left", pad=2)
    figure.suptitle(f"{title}. Queries: right, or the class they were taken for", fontsize=10, ha="left", x=0.01)
    return figure


def draw_vectors(vectors: np.ndarray, images: np.ndarray, shots: int, title: str) -> Any:
    """Returns a matplotlib Figure of an episode's vectors on their two principal axes.

    Args:
      vectors: float [N, shots + Q, D], features, or logits of MAML.
      images: uint8 [N, shots + Q, H, W, 1 or 3].
    """
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    flat = vectors.reshape(-1, vectors.shape[-1])
    centred = flat - flat.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane = (centred @ axes[:2].T).reshape(*vectors.shape[:2], -1)
    if plane.shape[-1] < 2:
        return None
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    ax = figure.subplots()
    for n, points in enumerate(plane):
        colour = COLOURS[n % len(COLOURS)]
        query = points[shots:]
        ax.scatter(*query.T, s=26, color=colour, alpha=0.75, linewidths=0, label=f"class {n + 1}")
        ax.scatter(*points[:shots].T, s=26, facecolors="none", edgecolors=colour, linewidths=1.2)
        mean = points[:shots].mean(0)
        ax.scatter(*mean, s=150, color=colour, marker="*", edgecolors="white", linewidths=0.8, zorder=3)
        zoom = 22 / images.shape[2]
        ax.add_artist(
            AnnotationBbox(OffsetImage(_rgb(images[n, 0]), zoom=zoom), mean, xybox=(16, 16), xycoords="data",
                           boxcoords="offset points", frameon=True, pad=0.1, bboxprops={"edgecolor": colour})
        )  # fmt: skip
    style.style_axes(
        ax, f"{title}\nqueries •, support ○, its mean ★", xlabel="first principal axis", ylabel="second principal axis"
    )
    ax.legend(frameon=False, fontsize=8)
    return figure


def draw_hardest(table: ClassTable, pairs: Sequence[tuple[int, int, float]], title: str) -> Any:
    """Returns a matplotlib Figure of pairs of classes with examples and the share of queries that were mixed up.

    None without any.

    Args:
      pairs: (class, class, share) of `evaluators.few_shot.hardest_pairs`.
    """
    from matplotlib.figure import Figure

    if not pairs:
        return None
    figure = Figure(figsize=(0.62 * 2 * EXAMPLES + 3.4, 0.72 * len(pairs) + 0.6), layout="constrained")
    axes = figure.subplots(len(pairs), 2 * EXAMPLES + 1, squeeze=False)
    for row, (a, b, share) in zip(axes, pairs):
        for ax in row:
            ax.set_axis_off()
        for i, c in enumerate((a, b)):
            members = table.arrays["members"][c, : table.arrays["counts"][c]][:EXAMPLES]
            for ax, image in zip(row[1 + i * EXAMPLES :], table.arrays["image"][members]):
                _show(ax, image)
        words = f"{readable(table.names[a])}\n{readable(table.names[b])}\n{100 * share:.0f} %"
        row[0].text(1.0, 0.5, words, ha="right", va="center", fontsize=8, transform=row[0].transAxes)
    figure.suptitle(f"{title}. Pairs mixed up most, share of their queries", fontsize=10, ha="left", x=0.01)
    return figure


def readable(name: str) -> str:
    """Returns a class name that any plotting font can write: letters of other scripts become "U+0E01"."""
    if all(any(ord(c) in letters for letters in READABLE) for c in name):
        return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return "+".join(f"U+{ord(c):04X}" for c in name)


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)


def _show(ax: Any, image: np.ndarray) -> None:
    ax.imshow(_rgb(image), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
