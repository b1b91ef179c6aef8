"""results.json: what a finished run found. The run writes this dataclass and the report reads it.

write_json(workdir / "results.json", RunResults(...).to_json())
results = read_results(workdir / "results.json")
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxrepro import digests
from jaxrepro.errors import UserError
from jaxrepro.report.numbers import mean_and_std

RECORD_FIELDS = frozenset({"table", "row", "column", "metric", "value", "unit", "facts", "seed", "evaluator"})
# Types of fields in the file, which must hold before anything else is read from it.
TYPES = {
    **dict.fromkeys(("experiment", "name", "preset", "config_fingerprint", "finished"), str),
    **dict.fromkeys(("data_digest", "log_digest"), str),
    **dict.fromkeys(("metrics", "environment"), dict),
    **dict.fromkeys(("seeds", "records", "notes"), list),
    "timing": dict,
    "step": int,
    "final": bool,
}
RECORD_TYPES = {
    **dict.fromkeys(("table", "row", "column", "metric"), str),
    "unit": str | None,
    "facts": dict,
    "seed": int,
    "value": int | float | None,
}


@dataclass(frozen=True)
class Timing:
    """Times of the process that finished the run; None where it did not train, or too briefly to tell.

    Attributes:
      seconds: from the first line of training to its end, with compilation, evaluations and checkpoints.
      steps: that this process took.
      resumed_at_step: where it began; 0 unless an earlier process was interrupted.
      steps_per_second: after compilation, without evaluations.
      first_chunk_seconds: of the first steps, with their compilation.
      evaluation_seconds: of all evaluations.
      training_and_evaluation_seconds: of everything after the restored or fresh state was there.
    """

    seconds: float | None = None
    steps: int | None = None
    resumed_at_step: int | None = None
    steps_per_second: float | None = None
    first_chunk_seconds: float | None = None
    evaluation_seconds: float | None = None
    training_and_evaluation_seconds: float | None = None


@dataclass(frozen=True)
class RunResults:
    """What a finished run found.

    Attributes:
      experiment, name, preset: of the config; `name` is the config file's.
      config_fingerprint: of everything in the config that decides the result.
      step: the last step.
      seeds: of `config.seeds`.
      metrics: "split/name" -> the final value, or `summary` of it over several seeds; None where it is not finite.
      records: cells of the paper's tables, dicts with `RECORD_FIELDS`.
      environment: versions and devices, text.
      timing: see `Timing`.
      finished: date and time in ISO 8601 with the offset from UTC.
      data_digest: of the data that was read, see `jaxrepro.run.data_digest`.
      log_digest: of metrics.jsonl, from which reports draw curves; "" unknown.
      notes: what a reader must know about the data.
      final: whether the run reached its end; else this is the evaluation of a checkpoint on the way (evaluation.json).
    """

    experiment: str
    name: str
    preset: str
    config_fingerprint: str
    step: int
    seeds: tuple[int, ...]
    metrics: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    timing: Timing = field(default_factory=Timing)
    finished: str = ""
    data_digest: str = ""
    log_digest: str = ""
    notes: tuple[str, ...] = ()
    final: bool = True

    def to_json(self) -> dict[str, Any]:
        """Returns plain dicts and lists for JSON, with a checksum; a number that is not finite is None."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return digests.seal(_finite(values | {"timing": dataclasses.asdict(self.timing)}))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary(values: Sequence[float]) -> float | dict[str, Any]:
    """Returns the value of a solo run, or {"mean", "std", "values"} over seeds (sample std, n - 1)."""
    values = [float(v) for v in values]
    if len(values) == 1:
        return values[0]
    mean, std = mean_and_std(values)
    return {"mean": mean, "std": std, "values": values}


def read_json(path: Path) -> Any:
    """Returns a JSON file's content.

    Raises:
      UserError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise UserError(f"{path} is not JSON ({error}); run the experiment again") from None


def read_results(path: Path) -> RunResults:
    """Reads results.json.

    Raises:
      UserError: it is not JSON, or not what this version writes, or it has changed since.
    """
    values = read_json(path)
    check_sealed(path, values, "run the same command with --mode=eval, which writes it anew")
    _check(path, "", values, RunResults)
    _check_types(path, "", values, TYPES)
    _check(path, "timing", values["timing"], Timing)
    _check_types(path, " of 'timing'", values["timing"], dict.fromkeys(values["timing"], int | float | None))
    for record in values["records"]:
        if not isinstance(record, Mapping):
            raise UserError(f"{path} has a record that is no object but {record!r}; {_AGAIN}")
        if missing := RECORD_FIELDS - {"facts"} - set(record):
            raise UserError(f"{path} has a record without {', '.join(sorted(missing))}; {_AGAIN}")
        _check_types(path, " of a record", record, RECORD_TYPES)
    for name, value in values["metrics"].items():
        if not isinstance(value, int | float | None) and not (
            isinstance(value, dict) and {"mean", "std"} <= set(value)
        ):
            raise UserError(f"{path}: metric {name!r} is {value!r}, no number and no summary over seeds; {_AGAIN}")
    if not values["seeds"] or not all(isinstance(seed, int) for seed in values["seeds"]):
        raise UserError(f"{path}: seeds are {values['seeds']!r}, must be whole numbers; {_AGAIN}")
    timing = Timing(**values["timing"])
    return RunResults(
        **values | {"timing": timing, "seeds": tuple(values["seeds"]), "notes": tuple(values.get("notes", ()))}
    )


_AGAIN = "it was written by another version: run the same command with --mode=eval, which writes it anew"


def _check_types(path: Path, where: str, values: Mapping, types: Mapping[str, Any]) -> None:
    for name, kind in types.items():
        if name in values and not isinstance(values[name], kind):
            raise UserError(f"{path}: field {name}{where} is {values[name]!r}, which nothing writes there; {_AGAIN}")


def _check(path: Path, part: str, values: Any, cls: type) -> None:
    fields = dataclasses.fields(cls)
    optional = {f.name for f in fields if f.default is not dataclasses.MISSING}
    optional |= {f.name for f in fields if f.default_factory is not dataclasses.MISSING}
    given = set(values) if isinstance(values, Mapping) else set()
    wrong = (given - {f.name for f in fields}) | ({f.name for f in fields} - optional - given)
    if wrong:
        where = f" of {part!r}" if part else ""
        raise UserError(f"{path}: fields {', '.join(sorted(wrong))}{where} are missing or unknown; {_AGAIN}")


def check_sealed(path: Path, values: Any, fix: str) -> None:
    """Raises UserError where the checksum in a JSON file does not belong to the rest; files of before have none."""
    if isinstance(values, Mapping) and digests.KEY in values:
        if not digests.is_sealed(values):
            raise UserError(f"{path} is damaged: something in it has changed since it was written; {fix}")
        del values[digests.KEY]


def log_fault(folder: Path, results: RunResults) -> str:
    """Returns what is wrong with a run's metrics.jsonl, or ""."""
    path = folder / "metrics.jsonl"
    if not results.log_digest or (path.exists() and digests.of_file(path) == results.log_digest):
        return ""
    return f"{path} is damaged: its lines are not those of the finished run"


def earlier_timing(path: Path) -> Timing:
    """Returns the times in a run's results.json, which an evaluation of its checkpoint keeps; none if unreadable."""
    try:
        return read_results(path).timing if path.exists() else Timing()
    except UserError:
        return Timing()
