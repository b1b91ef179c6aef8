"""Several runs of one experiment become one set of records; a run that diverged fills its cells with that word."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from jaxrepro.errors import UserError, unknown
from jaxrepro.report.numbers import as_number
from jaxrepro.report.reference import PublishedRecord
from jaxrepro.report.runs import FinishedRun

# What does not decide how a cell is measured: which seeds, which of the cells, how the run is logged and watched.
NO_SETTINGS = (
    *("seeds", "name", "row", "model.method", "model.beside", "method.name", "active.methods"),
    *("log", "checkpoint", "parallel", "eval", "energy", "data.resident_limit_mb"),
)


def cell_of(record: Mapping) -> tuple:
    """Returns what names the cell and seed that a record fills."""
    return (*(record[k] for k in ("table", "row", "column", "metric")), record.get("seed"))


def merge_runs(runs: Sequence[FinishedRun], select: str | None = None) -> list[dict]:
    """Returns the records of several runs of one experiment; see `select_runs`."""
    return [r for run in select_runs(runs, select) for r in run.records]


def select_runs(runs: Sequence[FinishedRun], select: str | None = None) -> list[FinishedRun]:
    """Returns the runs of one experiment that fill its cells, each with the records that do; a run without is dropped.

    Args:
      runs: finished runs.
      select: "METRIC:min" or "METRIC:max": of the settings that give one cell, such as those of a search over learning
        rates, the one whose final METRIC is best, mean over its runs; of its runs of one seed the best.

    Raises:
      UserError: presets or versions of the data differ, the same cell and seed comes from two runs with two values or a
        cell from runs of different settings and `select` is None, or a run lacks METRIC.
    """
    for what in ("preset", "version"):
        if len({getattr(run, what) for run in runs}) > 1:
            names = "; ".join(f"{run.folder} has {getattr(run, what)}" for run in runs[:4])
            raise UserError(
                f"{what}s of {runs[0].experiment} differ ({names}); report the runs of one {what} at a time"
            )
    chosen: dict[tuple, tuple[FinishedRun, dict]] = {}
    for rivals in of_one_setting(runs, select):
        for run, r in rivals:
            key = cell_of(r)
            rival = chosen.get(key)
            if rival is not None and rival[0] is not run:
                if all(rival[1].get(k) == r.get(k) for k in ("value", "unit", "facts")):
                    continue  # what several runs measure alike, such as the baseline of their common data
                if select is None:
                    raise UserError(
                        f"{rival[0].folder} and {run.folder} both give {', '.join(key[:4])} for seed {key[4]}; "
                        "leave one out, or choose by a validation metric with --select=valid/loss:min"
                    )
                if score(rival[0], select) <= score(run, select):
                    continue
            chosen[key] = (run, r)
    kept: dict[int, tuple[FinishedRun, list[dict]]] = {}
    for run, r in chosen.values():
        kept.setdefault(id(run), (run, []))[1].append(r)
    return [replace(run, results=replace(run.results, records=records)) for run, records in kept.values()]


def flatten(config: Mapping, path: str = "") -> dict:
    """Returns {dotted path: value} of every leaf of nested dicts, without jax, which `config_file.flatten` needs."""
    found = {}
    for name, value in config.items():
        found |= flatten(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return found


def settings_of(run: FinishedRun) -> dict[str, str]:
    """Returns {dotted path: value as JSON} of what a run's config says about how its cells were measured."""
    found = {k: json.dumps(v, sort_keys=True) for k, v in flatten(run.config).items()}
    return {k: v for k, v in found.items() if not any(k == n or k.startswith(n + ".") for n in NO_SETTINGS)}


def of_one_setting(runs: Sequence[FinishedRun], select: str | None) -> list[list[tuple[FinishedRun, dict]]]:
    """Returns for every cell its records with their runs, all of one setting: a mean over two would mean nothing.

    Raises:
      UserError: a cell comes from runs of different settings, with different seeds, and `select` is None.
    """
    settings = {id(run): settings_of(run) for run in runs}
    cells: dict[tuple, dict[str, list[tuple[FinishedRun, dict]]]] = {}
    for run in runs:
        group = json.dumps(settings[id(run)], sort_keys=True)
        for r in run.records:
            cells.setdefault(cell_of(r)[:4], {}).setdefault(group, []).append((run, r))
    found = []
    for cell, groups in cells.items():
        rivals = list(groups.values())
        if select:
            found.append(
                min(rivals, key=lambda g: mean_score([run for run, _ in g], select)) if rivals[1:] else rivals[0]
            )
            continue
        keys = [cell_of(r) for group in rivals for _, r in group]
        if len(rivals) > 1 and len(set(keys)) == len(keys):
            (first, _), (second, _) = rivals[0][0], rivals[1][0]
            a, b = settings[id(first)], settings[id(second)]
            differing = ", ".join(k for k in sorted({*a, *b}) if a.get(k) != b.get(k))
            raise UserError(
                f"{first.folder} and {second.folder} both give {', '.join(cell)}, but differ in {differing}; "
                "report them apart, or choose by a validation metric with --select=valid/loss:min"
            )
        found.append([pair for group in rivals for pair in group])
    return found


def mean_score(runs: Sequence[FinishedRun], select: str) -> float:
    """Returns the mean `score` of runs, each once."""
    once = {id(run): score(run, select) for run in runs}
    return math.fsum(once.values()) / len(once)


def check_selection(runs: Sequence[FinishedRun], select: str) -> None:
    """Raises UserError where `select` is no "METRIC:min" or "METRIC:max" of a metric that any of the runs has."""
    name, _, direction = select.partition(":")
    if not name or direction not in ("min", "max"):
        raise UserError(f"--select={select} must be METRIC:min or METRIC:max, such as valid/loss:min")
    known = {metric for run in runs if run.results for metric in run.results.metrics}
    if name not in known:
        raise unknown("metric to --select by:", name, known)


def score(run: FinishedRun, select: str) -> float:
    """Returns the final metric of a run, negated for "max": smaller is better; infinite where it is not finite."""
    name, _, direction = select.partition(":")
    metrics = run.results.metrics
    if name not in metrics:
        raise UserError(
            f"{run.folder} has no metric {name!r} to select by; it has {', '.join(sorted(metrics)) or 'none'}"
        )
    value = metrics[name]
    value = as_number(value["mean"] if isinstance(value, Mapping) else value)
    if math.isnan(value):
        return math.inf
    return value if direction == "min" else -value


def diverged_records(runs: Sequence[FinishedRun], published: Iterable[PublishedRecord]) -> list[dict]:
    """Returns records without a value for the cells and seeds that diverged runs would have filled.

    These are the cells of the run's row (`config.row`) in the published tables, and those that the other runs measured
    for their own rows; a run whose config names no row has none.
    """
    published = list(published)
    own = [(r["table"], r["column"], r["metric"]) for run in runs for r in run.records if run.row == r["row"]]
    found = []
    for run in runs:
        if not (run.diverged and run.row):
            continue
        cells = dict.fromkeys([(p.table, p.column, p.metric) for p in published if p.row == run.row] + own)
        found += [
            {"table": t, "row": run.row, "column": c, "metric": m, "value": None, "seed": seed}
            | {"diverged": run.diverged, "run": str(run.folder)}
            for t, c, m in cells
            for seed in run.config.get("seeds") or (0,)
        ]
    return found


def pass_over(diverged: Sequence[Mapping], records: Sequence[Mapping]) -> list[dict]:
    """Returns all records but those of diverged runs whose cell and seed another run fills, which its note counts.

    So a setting of a search that diverged hides none that was chosen.
    """
    filled = {cell_of(r) for r in records}
    lost: dict[tuple, set[str]] = {}  # cell -> runs that diverged
    for r in diverged:
        if cell_of(r) in filled:
            lost.setdefault(cell_of(r)[:4], set()).add(r["run"])
    found = []
    for r in records:
        if names := lost.get(cell_of(r)[:4]):
            count = f"chosen beside {len(names)} run{'s' * (len(names) > 1)} that diverged"
            r = r | {"note": "; ".join(n for n in (r.get("note"), count) if n)}
        found.append(dict(r))
    return found + [dict(r) for r in diverged if cell_of(r) not in filled]
