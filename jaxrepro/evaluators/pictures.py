"""Pictures of images: rows of them with a label each."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def image_rows(rows: Sequence[tuple[str, np.ndarray]], title: str) -> Any:
    """Returns a matplotlib Figure with one labelled row per entry.

    Args:
      rows: (label, uint8 [n, H, W, 1 or 3]) pairs.
      title: above the picture.
    """
    from matplotlib.figure import Figure

    height, width = rows[0][1].shape[1:3]
    strips = [tile_row(images) for _, images in rows]
    columns = max(len(images) for _, images in rows)
    inches = 0.62
    figure = Figure(figsize=(columns * inches * width / height + 1.6, len(rows) * inches + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for (label, _), strip, ax in zip(rows, strips, axes, strict=True):
        ax.imshow(strip, interpolation="nearest")
        ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def tile_row(images: np.ndarray, gap: int = 2) -> np.ndarray:
    """Returns images uint8 [n, H, W, C] side by side on white as uint8 [H, n * (W + gap) - gap, 3]."""
    n, height, width, _ = images.shape
    row = np.full((height, n * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        row[:, i * (width + gap) : i * (width + gap) + width] = image
    return row
