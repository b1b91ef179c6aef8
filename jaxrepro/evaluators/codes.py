"""A look at codes: where characters lie on two principal axes, and which images have codes next to each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxrepro.evaluators.few_shot_pictures import readable
from jaxrepro.evaluators.pictures import image_rows
from jaxrepro.evaluators.samples import squared_distances
from jaxrepro.experiment import Evaluation, Evaluator, When
from jaxrepro.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_POINTS = 500  # of the map
NUM_QUERIES, NUM_NEIGHBOURS = 8, 9


def code_pictures(
    encode: Callable[[Any, jax.Array], jax.Array],
    arrays: Mapping[str, np.ndarray],
    names: Sequence[str],
    title: str,
    when: When = When(end=True),
) -> Evaluator:
    """Returns the evaluator that draws "code_map" and "neighbours" for the first seed.

    Args:
      encode: `(state, images uint8 [N, H, W, C]) -> codes float32 [N, D]`, jitted.
      arrays: "image" and "char", int32 [N].
      names: of the characters.
      title: of the pictures.
    """

    @jax.jit
    def nearest(codes):
        distances = squared_distances(codes[:NUM_QUERIES], codes)
        return jax.lax.top_k(-distances, min(NUM_NEIGHBOURS + 1, len(codes)))[1]

    def evaluate(state, arrays, context) -> Evaluation:
        if context.seed_index:
            return Evaluation()
        codes = encode(state, arrays["image"])
        codes, order = np.asarray(codes), np.asarray(nearest(codes))
        images, labels = np.asarray(arrays["image"]), np.asarray(arrays["char"])
        rows = [(readable(names[labels[i]]), images[order[i]]) for i in range(len(order))]
        return Evaluation(
            pictures={
                "code_map": draw_map(codes[:NUM_POINTS], labels[:NUM_POINTS], names, title),
                "neighbours": image_rows(rows, f"{title}: an image, and those with the nearest codes"),
            }
        )

    return Evaluator("codes", "valid", when, evaluate, dict(arrays))


def principal_axes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns coordinates [N, 2] of codes [N, D] on their principal axes, and the two shares of the variance.

    One code, or codes of one number, have a single axis; the other coordinate is 0.
    """
    centred = np.asarray(codes, np.float64) - codes.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points, shares = np.zeros((len(codes), 2)), np.zeros(2)
    num_axes = min(2, len(values))
    points[:, :num_axes] = left[:, :2] * values[:2]
    shares[:num_axes] = values[:2] ** 2 / max((values**2).sum(), 1e-30)
    return points, shares


def draw_map(codes: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str) -> "Figure":
    """Draws every code as its character, in a colour of its own, on the two principal axes.

    A character that the plotting font lacks is drawn as its number.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    points, shares = principal_axes(codes)
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    ax = figure.subplots()
    axes = [f"principal axis {i + 1} ({100 * share:.0f} % of the variance)" for i, share in enumerate(shares)]
    style.style_axes(ax, f"{title}: codes of validation images", *axes)
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(names)))
    for (x, y), label in zip(points, labels, strict=True):
        name = names[label] if len(readable(names[label])) == 1 else str(label)
        ax.text(x, y, name, color=colours[label], fontsize=8, ha="center", va="center", clip_on=True)
    low, high = points.min(0), points.max(0)
    margin = 0.04 * np.maximum(high - low, 1e-6)
    ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    return figure
