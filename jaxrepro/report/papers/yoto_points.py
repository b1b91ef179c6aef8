"""The points of YOTO's figures: what every model reaches at every beta, the frontier, the full-loss difference.

Records are dicts {"table": "figure 1a", "row": "YOTO 1x" | "fixed beta=64 1x", "column": "beta=64",
"metric": "kl" | "reconstruction", "value": nats per image, "seed": ...}; records of other tables are passed over.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxrepro.report.numbers import as_number, mean_and_std

TABLE = "figure 1a"
AS_RUN = "mean over latents, squared head"  # the fact "kl" of records of the report's preset
_FIXED_ROW = re.compile(r"fixed beta=(\S+) (\S+)x")
_YOTO_ROW = re.compile(r"YOTO (\S+)x")


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
    """One point of figure 1b: the full loss of a model at beta minus that of the fixed 1x model trained at beta.

    `value` is in nats per image. `std` is the standard deviation of a difference of two independent runs; 0 when both
    have one seed.
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


def is_as_run(records: Iterable[Mapping]) -> bool:
    """Returns whether records are of the report's preset, with its slips."""
    return any((r.get("facts") or {}).get("kl") == AS_RUN for r in records if r["table"] == TABLE)


def full_loss(model: Model, point: Point, *, as_run: bool = False) -> list[float]:
    """Returns the full loss at the point's beta, per seed.

    as_run: with the report's notebooks, which set beta = 1 for the fixed models of every beta and use beta for YOTO.
    """
    return point.full_loss(1.0 if as_run and model.trained_beta else point.beta)


def full_losses(records: Iterable[Mapping]) -> dict[tuple[Model, float], Point]:
    """Returns the points of figure 1b: a fixed model at its own beta, YOTO where a fixed model was trained."""
    models = evaluated_points(records)
    trained = {m.trained_beta for m in models if m.trained_beta}
    found = {}
    for model, points in models.items():
        if model.trained_beta:
            own = own_point(model, points)
            found[model, model.trained_beta] = Point(model.trained_beta, own.kl, own.reconstruction)
        else:
            found |= {(model, p.beta): p for p in points if p.beta in trained}
    return found


def full_loss_difference(records: Iterable[Mapping], *, as_run: bool = False) -> list[Difference]:
    """Returns figure 1b: YOTO, and fixed models of other widths, against the fixed 1x models.

    as_run: see `full_loss`; else beta stands on both sides.
    """
    losses = {
        (model, beta): mean_and_std(full_loss(model, point, as_run=as_run))
        for (model, beta), point in full_losses(records).items()
    }
    baselines = {beta: found for (m, beta), found in losses.items() if m.trained_beta and m.width == 1}
    differences = []
    for (model, beta), (mean, std) in losses.items():
        if beta in baselines and not (model.trained_beta and model.width == 1):
            base_mean, base_std = baselines[beta]
            row = model.row if model.trained_beta is None else f"fixed {model.width:g}x"
            differences.append(Difference(row, beta, mean - base_mean, math.hypot(std or 0.0, base_std or 0.0)))
    return differences
