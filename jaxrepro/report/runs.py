"""Run folders as the report sees them: results.json, config.json, metrics.jsonl and figures/."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxrepro.errors import UserError
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.results import RunResults, check_sealed, log_fault, read_json, read_results


@dataclass(frozen=True)
class FinishedRun:
    """A run that is finished, or whose results are handed over before they are written, or that diverged.

    Attributes:
      folder: the run folder.
      config: the resolved config, nested dicts.
      command: what the user typed, "" if unknown.
      results: None of a run that diverged.
      diverged: what was not finite and when; "" for a run that reached its end.
    """

    folder: Path
    config: Mapping[str, Any]
    command: str
    results: RunResults | None
    diverged: str = ""

    @property
    def experiment(self) -> str:
        return str(self.config["experiment"])

    @property
    def preset(self) -> str:
        return str(self.config["preset"])

    @property
    def records(self) -> list[dict]:
        return [dict(r) for r in self.results.records] if self.results else []

    @property
    def row(self) -> str:
        """The row of the paper's table that the config says the run is, "" where it says nothing."""
        return str(self.config.get("row", ""))

    @property
    def version(self) -> str:
        """The version of the data that the config says the run is measured on ("v1"), "" where there is only one."""
        return str(self.config.get("version", ""))


def read_run(folder: str | Path, results: RunResults | None = None) -> FinishedRun:
    """Reads a finished run, or one that diverged, which has no results.

    Args:
      folder: that `launch.py` wrote.
      results: what results.json will hold, where it is not written yet.

    Raises:
      UserError: no such folder, not a run folder, or not finished; says how to finish it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"run folder {folder} does not exist; give the folders that launch.py wrote, such as runs/*")
    config_path, results_path, diverged_path = (folder / f"{n}.json" for n in ("config", "results", "diverged"))
    if not config_path.exists():
        raise UserError(f"{folder} is not a run folder (no config.json); give folders such as runs/*")
    config, command = read_start(config_path)
    if results is None and results_path.exists():
        results = read_results(results_path)
        if fault := log_fault(folder, results):
            raise UserError(
                f"{fault}; bring it back, leave the folder out, or accept it: the same command, --mode=eval"
            )
    if results is not None:
        return FinishedRun(folder, config, command, results)
    if diverged_path.exists():
        found = read_json(diverged_path)
        message = found.get("message") if isinstance(found, Mapping) else None
        if not isinstance(message, str) or not message:
            raise UserError(f"{diverged_path} has no message; it is damaged: delete it and {_START_AGAIN}")
        return FinishedRun(folder, config, command, None, message)
    again = command or "the command that started it"
    raise UserError(f"run {folder} is not finished (no results.json); finish it with: {again}")


_START_AGAIN = "start the run again with --restart, or leave it out"


def read_start(path: Path) -> tuple[dict[str, Any], str]:
    """Returns (config, command) of a run's config.json.

    Raises:
      UserError: it is not what a run writes when it starts.
    """
    started = read_json(path)
    check_sealed(path, started, _START_AGAIN)
    config, command = (started.get(k) if isinstance(started, Mapping) else None for k in ("config", "command"))
    named = isinstance(config, dict) and all(isinstance(config.get(k), str) for k in ("experiment", "preset"))
    if not named or not isinstance(command, str):
        raise UserError(f"{path} does not hold the command, and the config of an experiment; {_START_AGAIN}")
    return config, command


@dataclass(frozen=True)
class Curve:
    """One metric of one split over training.

    Attributes:
      steps: increasing.
      values: per seed, one number per step; nan where a seed has none.
    """

    steps: list[int]
    values: list[list[float]]

    def over_seeds(self) -> tuple[list[float], list[float]]:
        """Returns mean and sample standard deviation per step over the seeds that are finite there (nan without)."""
        means, stds = [], []
        for values in zip(*self.values, strict=True):
            finite = [v for v in values if math.isfinite(v)]
            mean, std = mean_and_std(finite) if finite else (math.nan, None)
            means.append(mean)
            stds.append(std or 0.0)
        return means, stds


def read_curves(path: Path) -> dict[str, dict[str, Curve]]:
    """Reads metrics.jsonl, a line per step, split and seed: {metric: {split: Curve}}, in the order of appearance.

    A last line that was cut off in the middle is ignored; a value that is null is nan.
    """
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); move it away") from None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            if number == len(lines):  # no newline after it: the writer was interrupted
                continue
            raise UserError(f"{path}, line {number} is not JSON; delete that line") from None
        if not isinstance(line, dict) or not {"step", "split", "seed"} <= set(line):
            raise UserError(f"{path}, line {number} has no step, split and seed; delete that line")
        step, split, seed = line.pop("step"), line.pop("split"), line.pop("seed")
        for name, value in line.items():
            found.setdefault((name, split), {}).setdefault(step, {})[seed] = as_number(value)
    curves: dict[str, dict[str, Curve]] = {}
    for (name, split), points in found.items():
        steps = sorted(points)
        seeds = list(dict.fromkeys(seed for step in steps for seed in points[step]))
        values = [[points[step].get(seed, math.nan) for step in steps] for seed in seeds]
        curves.setdefault(name, {})[split] = Curve(steps, values)
    return curves


def by_experiment(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Returns the runs of every experiment, in the order given."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    return groups
