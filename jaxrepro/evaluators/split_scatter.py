"""Where the images of train, valid and test lie in the attributes of a Synbols dataset."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrepro.data import Table
from jaxrepro.report import style

MOST_POINTS = 1500  # of a split
PANELS = (("rotation", "scale"), ("translation_x", "translation_y"), ("label", "font"))
WORDS = {"rotation": "rotation (rad)", "label": "character (number)", "font": "font (number)"}


def draw_splits(tables: Mapping[str, Table]) -> Any:
    """Returns a matplotlib Figure with a point per image, or None for data without these attributes.

    Args:
      tables: split -> table; columns as of `jaxrepro.synbols.columns`.
    """
    from matplotlib.figure import Figure

    panels = [p for p in PANELS if all(name in t.columns for name in p for t in tables.values())]
    if not panels:
        return None
    figure = Figure(figsize=(4.3 * len(panels), 4.2), layout="constrained")
    chosen = {name: _some_rows(table) for name, table in tables.items()}
    for ax, (x, y) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        style.style_axes(ax, xlabel=WORDS.get(x, x.replace("_", " ")), ylabel=WORDS.get(y, y.replace("_", " ")))
        for name, rows in chosen.items():
            points = [_spread(rows[axis], seed) for seed, axis in enumerate((x, y))]
            ax.scatter(*points, s=4, alpha=0.6, linewidths=0, color=style.SPLITS.get(name), label=name)
    style.add_legend(figure, [ax], markerscale=4)
    return figure


def _some_rows(table: Table) -> dict[str, np.ndarray]:
    order = np.random.default_rng(0).permutation(table.num_rows)
    return table.take(np.sort(order[:MOST_POINTS]))


def _spread(values: np.ndarray, seed: int) -> np.ndarray:
    """Returns class numbers moved by a random part of their distance, so that points do not hide each other.

    The axes of a panel need two seeds: with one, every class would be a diagonal stroke.
    """
    if not np.issubdtype(values.dtype, np.integer):
        return values
    return values + np.random.default_rng(seed).uniform(-0.35, 0.35, values.shape)
