"""The figures of loss-conditional training (YOTO): the frontier (figure 1a) and the full-loss difference (figure 1b).

Records are dicts {"table": "figure 1a", "row": "YOTO 1x" | "fixed beta=64 1x", "column": "beta=64",
"metric": "kl" | "reconstruction", "value": nats per image, "seed": ...}; records of other tables are passed over.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "figure 1a"
_FIXED_ROW = re.compile(r"fixed beta=(\S+) (\S+)x")
_YOTO_ROW = re.compile(r"YOTO (\S+)x")
WIDTH_COLOURS = {1.0: style.BLUE, 2.0: style.AMBER, 4.0: style.GREEN}
OTHER_COLOURS = (style.PURPLE, style.RED, style.SLATE)


@dataclass(frozen=True)
class Model:
    """A row of figure 1a: its width and, for a model trained at one weight, that weight."""

    row: str
    width: float
    trained_beta: float | None


@dataclass(frozen=True)
class Point:
    """A model evaluated at one beta; one number per seed, nats per image."""

    beta: float
    kl: tuple[float, ...]
    reconstruction: tuple[float, ...]

    @property
    def mean(self) -> tuple[float, float]:
        """(KL, reconstruction loss)."""
        return mean_and_std(self.kl)[0], mean_and_std(self.reconstruction)[0]

    def full_loss(self, beta: float) -> list[float]:
        """reconstruction + beta * KL, per seed."""
        return [r + beta * k for r, k in zip(self.reconstruction, self.kl, strict=True)]


@dataclass(frozen=True)
class Difference:
    """One point of figure 1b: L_beta(model) - L_beta(fixed 1x trained at beta), nats per image.

    `std` is the standard deviation of a difference of two independent runs; 0 when both have one seed.
    """

    row: str
    beta: float
    value: float
    std: float

    @property
    def log2_beta(self) -> float:
        return math.log2(self.beta)


def pareto_frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the indices of the points that no other point beats in both coordinates (smaller is better).

    Args:
      points: [N] pairs, such as (KL, reconstruction loss). Points that are not finite are never on the frontier.

    Returns:
      Indices by increasing first and strictly decreasing second coordinate; of equal points the first index.
    """
    finite = [i for i, p in enumerate(points) if all(math.isfinite(v) for v in p)]
    frontier, best = [], math.inf
    for i in sorted(finite, key=lambda i: (points[i][0], points[i][1], i)):
        if points[i][1] < best:
            frontier.append(i)
            best = points[i][1]
    return frontier


def parse_model(row: str) -> Model | None:
    """Returns the model a row names, None for rows of other kinds."""
    if m := _FIXED_ROW.fullmatch(row):
        return Model(row, float(m[2]), float(m[1]))
    if m := _YOTO_ROW.fullmatch(row):
        return Model(row, float(m[1]), None)
    return None


def evaluated_points(records: Iterable[Mapping]) -> dict[Model, list[Point]]:
    """Returns the points of every model by increasing beta; a seed needs both losses, finite."""
    values: dict[tuple[Model, float], dict[object, dict[str, float]]] = {}
    for r in records:
        model = parse_model(str(r["row"]))
        column = str(r["column"])
        if r["table"] != TABLE or model is None or not column.startswith("beta="):
            continue
        by_seed = values.setdefault((model, float(column.removeprefix("beta="))), {})
        by_seed.setdefault(r.get("seed"), {})[r["metric"]] = as_number(r["value"])
    models: dict[Model, list[Point]] = {}
    for (model, beta), by_seed in sorted(values.items(), key=lambda item: item[0][1]):
        both = [(v.get("kl", math.nan), v.get("reconstruction", math.nan)) for v in by_seed.values()]
        pairs = [pair for pair in both if all(map(math.isfinite, pair))]
        if pairs:
            kl, reconstruction = zip(*pairs, strict=True)
            models.setdefault(model, []).append(Point(beta, kl, reconstruction))
    return dict(sorted(models.items(), key=lambda item: (item[0].width, item[0].trained_beta or 0.0)))


def own_point(model: Model, points: Sequence[Point]) -> Point:
    """Returns a fixed-weight model's point at its own beta; its KL and reconstruction are the same at every other."""
    return min(points, key=lambda p: abs(math.log2(p.beta / model.trained_beta)))


def full_loss_difference(records: Iterable[Mapping]) -> list[Difference]:
    """Returns the points of figure 1b: every YOTO model against the fixed 1x models, where one was trained at beta."""
    models = evaluated_points(records)
    baselines = {m.trained_beta: own_point(m, ps) for m, ps in models.items() if m.trained_beta and m.width == 1}
    differences = []
    for model, points in models.items():
        for p in points:
            if model.trained_beta is not None or p.beta not in baselines:
                continue
            mean, std = mean_and_std(p.full_loss(p.beta))
            base_mean, base_std = mean_and_std(baselines[p.beta].full_loss(p.beta))
            differences.append(Difference(model.row, p.beta, mean - base_mean, math.hypot(std or 0.0, base_std or 0.0)))
    return differences


def draw_frontier(records: Iterable[Mapping]) -> "Figure | None":
    """Draws figure 1a; None when no record belongs to it."""
    from matplotlib.figure import Figure

    models = evaluated_points(records)
    if not models:
        return None
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    ax = figure.subplots()
    style.style_axes(ax, "KL against reconstruction on test images, one point per β")
    conditional = [m for m in models if m.trained_beta is None]
    for model in conditional:
        every = 1 if len(conditional) == 1 else 3 if model is conditional[0] else len(models[model])
        _draw_yoto(ax, model, models[model], every)
    for model, points in models.items():
        if model.trained_beta is not None:
            _draw_fixed(ax, model, own_point(model, points))
    ax.set_xlabel("KL (nats per image)")
    ax.set_ylabel("reconstruction loss (nats per image)")
    ax.margins(0.08)
    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    ax.legend(once.values(), once.keys(), frameon=False)
    return figure


def _draw_fixed(ax, model: Model, point: Point) -> None:
    """Draws a fixed-weight model as a square, labelled with the beta it was trained at."""
    (x, y), colour = point.mean, colour_of(model.width)
    square = {"marker": "s", "markersize": 8, "markerfacecolor": "white", "markeredgewidth": 1.8, "linestyle": ""}
    ax.plot(x, y, color=colour, label=f"fixed weight {model.width:g}×", zorder=4, **square)
    _annotate(ax, f"β={model.trained_beta:g}", x, y, colour, below=True)


def _draw_yoto(ax, model: Model, points: Sequence[Point], every: int) -> None:
    """Draws a model's points, the Pareto-optimal ones filled and joined, every `every`-th labelled with beta."""
    means = [p.mean for p in points]
    frontier = pareto_frontier(means)
    colour = colour_of(model.width)
    dots = {"color": colour, "marker": "o", "markersize": 5, "zorder": 3}
    ax.plot(*zip(*[means[i] for i in frontier]), linewidth=1.8, label=model.row.replace("x", "×"), **dots)
    beaten = [means[i] for i in range(len(means)) if i not in frontier]
    if beaten:
        ax.plot(*zip(*beaten), linestyle="", markerfacecolor="none", **dots)
    for i, (p, (x, y)) in enumerate(zip(points, means)):
        if i % every == 0 or i == len(points) - 1:
            _annotate(ax, f"{p.beta:g}", x, y, colour)


def _annotate(ax, text: str, x: float, y: float, colour: str, *, below: bool = False) -> None:
    look = {"fontsize": 8, "color": colour, "textcoords": "offset points"}
    place = {"xytext": (-6, -6), "ha": "right", "va": "top"} if below else {"xytext": (5, 5)}
    ax.annotate(text, (x, y), **look | place)


def draw_full_loss_difference(records: Iterable[Mapping]) -> "Figure | None":
    """Draws figure 1b; None without a YOTO model and a fixed 1x model at a common beta."""
    from matplotlib.figure import Figure

    differences = full_loss_difference(records)
    if not differences:
        return None
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    ax = figure.subplots()
    style.style_axes(ax, "Full loss: conditional model minus the fixed-weight model")
    ax.axhline(0.0, color=style.SLATE, linewidth=1.2, linestyle="--", zorder=1, label="fixed weight 1×")
    for row in dict.fromkeys(d.row for d in differences):
        x, y, spread = zip(*[(d.log2_beta, d.value, d.std) for d in differences if d.row == row])
        look = {"color": colour_of(parse_model(row).width), "label": row.replace("x", "×"), "linewidth": 1.8}
        ax.errorbar(x, y, yerr=spread, marker="o", capsize=3, **look)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("log₂ β")
    ax.set_ylabel("loss difference (nats per image)")
    ax.margins(0.08)
    ax.legend(frameon=False)
    return figure


def colour_of(width: float) -> str:
    return WIDTH_COLOURS.get(width, OTHER_COLOURS[int(width * 4) % len(OTHER_COLOURS)])


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "frontier" and "full_loss_difference"."""
    records = list(records)
    return present(frontier=draw_frontier(records), full_loss_difference=draw_full_loss_difference(records))


PAPER = Paper(
    figures=figures,
    captions={
        "frontier": "Figure 1a. Every point is one loss weight β (the numbers); the line joins the points that no "
        "other point of the same model beats in both losses.",
        "full_loss_difference": "Figure 1b. Full loss at β of the conditional models minus that of the fixed-weight 1× "
        "model trained at this β; below zero the conditional model is better.",
    },
)
