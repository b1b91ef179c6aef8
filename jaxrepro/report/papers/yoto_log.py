"""The training logs of YOTO's reproduction: the losses of every epoch's last batch, of which it drew its figure 1a.

Runs log them where `config.log_last_batches` is set, as "last_batch_kl" or "fixed_beta_16/last_batch_kl".
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.runs import Curve, FinishedRun, read_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "training log"
LAST = 20  # epochs
METRICS = {"kl": "kl", "reconstruction": "reconstruction", "loss": "full_loss"}  # ours -> of the table
COLOURS = {1: style.BLUE, 2: style.AMBER, 4: style.GREEN}


def members(run: FinishedRun) -> dict[str, str]:
    """Returns the prefix of every model's metrics -> its row, "YOTO 1x" or "fixed beta=16 1x"."""
    beta, width = run.config.get("beta") or {}, (run.config.get("model") or {}).get("width", 1)
    fixed = beta.get("fixed", 0)
    rows = {"": f"fixed beta={fixed:g} {width}x" if fixed else f"YOTO {width}x"}
    betas = () if fixed else beta.get("baselines", ())
    return rows | {f"fixed_beta_{b:g}/": f"fixed beta={b:g} {width}x" for b in betas}


def last_batches(run: FinishedRun) -> dict[str, dict[str, list[list[float]]]]:
    """Returns row -> {"kl", "reconstruction", "full_loss"} -> per seed one number per epoch; {} without such a log."""
    curves = read_curves(run.folder / "metrics.jsonl")
    found = {}
    for prefix, row in members(run).items():
        own = {ours: curves.get(f"{prefix}last_batch_{ours}", {}).get("train") for ours in METRICS}
        if all(own.values()):
            found[row] = {METRICS[ours]: finite(curve) for ours, curve in own.items()}
    return found


def finite(curve: Curve) -> list[list[float]]:
    """Returns the numbers of every seed; a line of the log in which no epoch ended has none."""
    return [[v for v in values if math.isfinite(v)] for values in curve.values]


def log_records(run: FinishedRun) -> list[dict]:
    """Returns the means over the last batches of the last epochs, as records."""
    if run.results is None:
        return []
    facts = next((r["facts"] for r in run.results.records if r.get("facts")), {})
    found = []
    for row, metrics in last_batches(run).items():
        for metric, of_seeds in metrics.items():
            for seed, values in zip(run.results.seeds, of_seeds):
                if len(values) >= LAST:
                    cell = {"table": TABLE, "row": row, "column": f"last {LAST} epochs", "metric": metric}
                    mean = math.fsum(values[-LAST:]) / LAST
                    found.append(cell | {"value": mean, "unit": "nats", "seed": seed, "facts": facts})
    return found


def largest_on_both(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the report's "frontier": by falling first coordinate, every point whose second is not below the last."""
    order = sorted(range(len(points)), key=lambda i: points[i], reverse=True)
    chosen = order[:1]
    for i in order[1:]:
        if points[i][1] >= points[chosen[-1]][1]:
            chosen.append(i)
    return chosen


def points_of(metrics: Mapping[str, list[list[float]]]) -> list[tuple[float, float]]:
    """Returns (KL, reconstruction) of the epochs of the first seed."""
    return list(zip(metrics["kl"][0], metrics["reconstruction"][0], strict=True))


def draw_training_frontier(runs: Sequence[FinishedRun]) -> "Figure | None":
    """Draws figure 1a as the report did: YOTO and the fixed weight 1; None without such logs."""
    from matplotlib.figure import Figure

    found = {row: metrics for run in runs for row, metrics in last_batches(run).items() if metrics["kl"][0]}
    shown = {}
    for width in (1, 2, 4):
        fixed = f"fixed beta=1 {2 if width == 4 else width}x"  # its 4x curve is that of the 2x data
        if fixed in found and (width != 4 or "YOTO 4x" in found):
            shown[f"fixed weight 1, {width}×" + " (of the 2× data)" * (width == 4)] = (found[fixed], width, "s", ":")
        if f"YOTO {width}x" in found:
            shown[f"YOTO {width}×"] = (found[f"YOTO {width}x"], width, "o", "-")
    if not shown:
        return None
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    ax = figure.subplots()
    style.style_axes(ax, "Last training batch of every epoch, and the largest values on both axes")
    for label, (metrics, width, marker, line) in shown.items():
        points = points_of(metrics)
        chosen = [points[i] for i in largest_on_both(points)]
        ax.plot(*zip(*[p[::-1] for p in points]), marker, color=COLOURS[width], markersize=3, alpha=0.3)
        joined = [p[::-1] for p in chosen]
        ax.plot(*zip(*joined), linestyle=line, marker=marker, markersize=5, color=COLOURS[width], label=label)
    ax.set_xlabel("reconstruction loss (nats per image)")
    ax.set_ylabel("KL (nats per latent)")
    ax.margins(0.08)
    ax.legend(frameon=False)
    return figure
