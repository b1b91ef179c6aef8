"""Several runs of one experiment become one set of records; a run that diverged fills its cells with that word."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from jaxrepro.errors import UserError
from jaxrepro.report.numbers import as_number
from jaxrepro.report.reference import PublishedRecord
from jaxrepro.report.runs import FinishedRun


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
      select: "METRIC:min" or "METRIC:max": of runs that give the same cell and seed, such as those of a search over
        learning rates, the one whose final METRIC is best is taken.

    Raises:
      UserError: presets or versions of the data differ, the same cell and seed comes from two runs and `select` is
        None, or a run lacks METRIC.
    """
    for what in ("preset", "version"):
        if len({getattr(run, what) for run in runs}) > 1:
            names = "; ".join(f"{run.folder} has {getattr(run, what)}" for run in runs[:4])
            raise UserError(
                f"{what}s of {runs[0].experiment} differ ({names}); report the runs of one {what} at a time"
            )
    chosen: dict[tuple, tuple[FinishedRun, dict]] = {}
    for run in runs:
        for r in run.records:
            key = cell_of(r)
            rival = chosen.get(key)
            if rival is not None and rival[0] is not run:
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


def score(run: FinishedRun, select: str) -> float:
    """Returns the final metric of a run, negated for "max": smaller is better; infinite where it is not finite."""
    name, _, direction = select.partition(":")
    if direction not in ("min", "max"):
        raise UserError(f"--select={select} must be METRIC:min or METRIC:max, such as valid/loss:min")
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
