"""The figures of loss-conditional training (YOTO): the frontier (figure 1a) and the full-loss difference (figure 1b).

The reproduction drew both differently, from training losses and with beta = 1 for fixed models: `yoto_log`, and the
figure and the cells "as run" here. Records are those of `yoto_points`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.papers import Paper, present
from jaxrepro.report.papers.yoto_log import draw_training_frontier, log_records
from jaxrepro.report.papers.yoto_points import (
    Model,
    Point,
    evaluated_points,
    full_loss,
    full_loss_difference,
    full_losses,
    is_as_run,
    own_point,
    pareto_frontier,
)
from jaxrepro.report.runs import FinishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_COLOURS = {1.0: style.BLUE, 2.0: style.AMBER, 4.0: style.GREEN}
OTHER_COLOURS = (style.PURPLE, style.RED, style.SLATE)


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
    labelled = [i for i in range(len(points)) if i % every == 0 or i == len(points) - 1]
    for near in near_neighbours([means[i] for i in labelled]):
        first, last = (points[labelled[i]].beta for i in (near[0], near[-1]))
        text = f"{first:g}" if len(near) == 1 else f"{first:g}–{last:g}"
        _annotate(ax, text, *means[labelled[near[0]]], colour)


def near_neighbours(places: Sequence[tuple[float, float]], share: float = 0.05) -> list[list[int]]:
    """Returns runs of indices whose places lie within a share of both ranges of the run's first: they share a label."""
    ranges = [max(axis) - min(axis) for axis in zip(*places)]
    found: list[list[int]] = []
    for i, place in enumerate(places):
        first = places[found[-1][0]] if found else place
        if found and all(abs(a - b) <= share * r for a, b, r in zip(place, first, ranges)):
            found[-1].append(i)
        else:
            found.append([i])
    return found


def _annotate(ax, text: str, x: float, y: float, colour: str, *, below: bool = False) -> None:
    look = {"fontsize": 8, "color": colour, "textcoords": "offset points"}
    place = {"xytext": (-6, -6), "ha": "right", "va": "top"} if below else {"xytext": (5, 5)}
    ax.annotate(text, (x, y), **look | place)


def draw_full_loss_difference(records: Iterable[Mapping], *, as_run: bool = False) -> "Figure | None":
    """Draws figure 1b; None without a fixed 1x model and another one at a common beta. as_run: see `full_loss`."""
    from matplotlib.figure import Figure

    differences = full_loss_difference(records, as_run=as_run)
    if not differences:
        return None
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    ax = figure.subplots()
    which = "β·KL minus 1·KL, as the report drew it" if as_run else "a model minus the fixed-weight 1× model of its β"
    style.style_axes(ax, f"Full loss: {which}")
    ax.axhline(0.0, color=style.SLATE, linewidth=1.2, linestyle="--", zorder=1, label="fixed weight 1×")
    for row in dict.fromkeys(d.row for d in differences):
        x, y, spread = zip(*[(d.log2_beta, d.value, d.std) for d in differences if d.row == row])
        kind, _, width = row.removesuffix("x").partition(" ")
        fixed = kind == "fixed"
        look = {"color": colour_of(float(width)), "label": f"{'fixed weight' if fixed else kind} {width}×"}
        look |= {"linestyle": ":", "marker": "s"} if fixed else {"marker": "o"}
        ax.errorbar(x, y, yerr=spread, capsize=3, linewidth=1.8, **look)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("log₂ β")
    ax.set_ylabel("loss difference (nats per image)")
    ax.margins(0.08)
    ax.legend(frameon=False)
    return figure


def colour_of(width: float) -> str:
    return WIDTH_COLOURS.get(width, OTHER_COLOURS[int(width * 4) % len(OTHER_COLOURS)])


def derive(runs: Sequence[FinishedRun], records: Sequence[Mapping], others: Sequence[FinishedRun]) -> list[dict]:
    """Returns the cells of figure 1b, as run (where the preset is the report's) and with beta on both sides, and of
    the training logs.
    """
    del others
    found = []
    metrics = {"full_loss": True} if is_as_run(records) else {}
    for seed in dict.fromkeys(r.get("seed") for r in records):
        own = [r for r in records if r.get("seed") == seed]
        facts = next((r["facts"] for r in own if r.get("facts")), {})
        for (model, beta), point in full_losses(own).items():
            row = model.row if model.trained_beta is None else f"fixed {model.width:g}x"
            cell = {"table": "figure1b", "row": row, "column": f"beta={beta:g}", "unit": "nats"}
            for metric, as_run in (metrics | {"full_loss_at_beta": False}).items():
                (value,) = full_loss(model, point, as_run=as_run)
                found.append(cell | {"metric": metric, "value": value, "seed": seed, "facts": facts})
    return found + [r for run in runs for r in log_records(run)]


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: the frontier and the full-loss difference, that one also as
    the report drew it if the records are of its preset.
    """
    records = list(records)
    as_run = draw_full_loss_difference(records, as_run=True) if is_as_run(records) else None
    return present(
        frontier=draw_frontier(records),
        full_loss_difference=draw_full_loss_difference(records),
        full_loss_difference_as_run=as_run,
    )


def figures_of_runs(runs: Sequence[FinishedRun]) -> "dict[str, Figure]":
    """Returns figure 1a as the report drew it, from the runs' training logs."""
    return present(training_frontier=draw_training_frontier(runs))


PAPER = Paper(
    derive=derive,
    figures=figures,
    figures_of_runs=figures_of_runs,
    captions={
        "frontier": "Figure 1a. Every point is one loss weight β (the numbers); the line joins the points that no "
        "other point of the same model beats in both losses.",
        "full_loss_difference": "Figure 1b. Full loss at β of a model minus that of the fixed-weight 1× model trained "
        "at this β; below zero the model is better.",
        "full_loss_difference_as_run": "Figure 1b as the report drew it: the conditional models' KL has the weight β, "
        "the fixed-weight models' the weight 1, so that the difference holds (β − 1)·KL and grows with β by itself.",
        "training_frontier": "Figure 1a as the report drew it: points are the last training batches of the epochs, the "
        "line joins those that no other beats with larger values; its curve “fixed 4×” shows the 2× data.",
        "reconstructions": "Figure 2. Test images, then reconstructions of fixed-weight and conditional models by β.",
    },
)
