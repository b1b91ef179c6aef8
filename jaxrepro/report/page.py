"""report.html: one self-contained page per run, with numbers, curves, pictures and everything needed to repeat it.

    write_page("runs/yoto_cifar-smoke")              # a finished run
    write_page(workdir, results)                     # before results.json is written

The page needs nothing beside it: styles are inline and pictures are embedded.
"""

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jaxrepro.report import html, papers
from jaxrepro.report.comparison import Comparison, compare
from jaxrepro.report.curves import draw_curves
from jaxrepro.report.grids import grid_of
from jaxrepro.report.numbers import as_number, format_number
from jaxrepro.report.reference import load_reference
from jaxrepro.report.results import RunResults, Timing
from jaxrepro.report.runs import FinishedRun, read_curves, read_run
from jaxrepro.report.text import duration, readable
from jaxrepro.writers import save_picture, write_atomically

CURVES = "curves"
SPLIT_ORDER = {"test": 0, "valid": 1, "train": 3}


def write_page(folder: str | Path, results: RunResults | None = None) -> Path:
    """Writes figures/curves.png and report.html into a run folder, atomically.

    Args:
      folder: the run folder, with config.json, metrics.jsonl and figures/.
      results: what results.json will hold; by default the file is read.

    Returns:
      The path of report.html.

    Raises:
      UserError: `results` is None and the run is not finished.
    """
    run = read_run(folder, results)
    curves = draw_curves(read_curves(run.folder / "metrics.jsonl"))
    if curves is not None:
        save_picture(run.folder / "figures" / f"{CURVES}.png", curves)
    path = run.folder / "report.html"
    write_atomically(path, html.fill("run.html", **page_values(run)))
    return path


def page_values(run: FinishedRun) -> dict[str, Any]:
    """Returns what the page of a finished run shows, by the names of its template."""
    paper, results = papers.find(run.experiment), run.results
    plots = sorted(p for p in (run.folder / "figures").glob("*.png") if not p.name.startswith("."))
    spread = " Lines are means over seeds, bands one standard deviation." if len(results.seeds) > 1 else ""
    captions = paper.captions | {CURVES: f"Metrics over training steps, by split.{spread}"}
    comparisons = compare_run(run, paper)
    environment = results.environment
    versions = ", ".join(f"{k} {environment[k]}" for k in ("python", "jax", "flax") if environment.get(k))
    return {
        "title": f"{readable(run.experiment)} · {run.preset}",
        "heading": readable(run.experiment),
        "kicker": f"{results.name}, preset {run.preset}",
        "verdict": verdict(results),
        "command": run.command,
        "facts": {
            "date": date_of(results),
            "device": environment.get("device"),
            "versions": versions,
            "note": "; ".join(results.notes),
        },
        "metrics": metrics_values(results.metrics),
        "joined": [grid_of(c) for c in comparisons if c.is_joined],
        "measured": [grid_of(c) for c in comparisons if not c.is_joined],
        "pictures": html.read_pictures([p for p in plots if p.stem != CURVES], captions),
        "curves": html.read_pictures([p for p in plots if p.stem == CURVES], captions),
        "config": json.dumps(run.config, indent=2, ensure_ascii=False),
        "environment": {readable(k): str(v) for k, v in environment.items()},
        "timing": timing_values(results.timing),
        "fingerprint": results.config_fingerprint,
    }


def compare_run(run: FinishedRun, paper: papers.Paper) -> list[Comparison]:
    """Returns one run's records, and those that follow from it, beside the published numbers."""
    records = run.records + paper.derive([run], run.records, [])
    return compare(records, load_reference(run.experiment, run.version))


def verdict(results: RunResults) -> str:
    """Returns one sentence: how far the run went, with how many seeds, in what time."""
    seeds, timing = results.seeds, results.timing
    several = f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"
    text = "Finished" if results.final else "Evaluated, unfinished,"
    text += f" at step {results.step:,}, {several if len(seeds) > 1 else f'seed {seeds[0]}'}"
    if timing.seconds is None:
        return text + "."
    since = f"; its last {timing.steps:,} steps took" if timing.resumed_at_step else ", in"
    return f"{text}{since} {duration(timing.seconds)}."


def date_of(results: RunResults) -> str:
    """Returns "2 May 2026, 14:05" in the time zone of the run."""
    return datetime.fromisoformat(results.finished).strftime("%-d %B %Y, %H:%M") if results.finished else ""


def metrics_values(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns final metrics as a table: one row per quantity, one column per split, mean ± std over seeds."""
    rows: dict[str, dict[str, str]] = {}
    splits: dict[str, str] = {}
    for key, value in metrics.items():
        split, _, name = key.rpartition("/")
        splits.setdefault(split, readable(split) or "value")
        rows.setdefault(readable(name), {})[splits[split]] = metric_text(value)
    order = sorted(splits, key=lambda s: SPLIT_ORDER.get(s, 2))
    several = any(isinstance(v, Mapping) for v in metrics.values())
    notes = ["mean ± sample standard deviation over seeds"] if several else []
    return {"splits": [splits[s] for s in order], "rows": rows, "notes": notes}


def metric_text(value: Any) -> str:
    """Returns a final metric as text; it is a number, None or {"mean", "std", "values"}."""
    if isinstance(value, Mapping):
        return format_number(as_number(value["mean"]), as_number(value["std"]))
    return format_number(as_number(value))


def timing_values(timing: Timing) -> dict[str, str]:
    """Returns the times that are known, seconds also as a duration."""
    found = {}
    for name, value in dataclasses.asdict(timing).items():
        if value is None:
            continue
        text = format_number(value)
        if name.endswith("seconds") and value >= 60:
            text += f" ({duration(value)})"
        found[readable(name)] = text
    return found
