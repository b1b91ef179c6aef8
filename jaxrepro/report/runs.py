"""Run folders as the report sees them: results.json, config.json, metrics.jsonl and figures/."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxrepro.errors import UserError


@dataclass(frozen=True)
class Run:
    """A finished run, or one whose results are handed over before they are written.

    Attributes:
      run_dir: its folder.
      results: what results.json holds; of a run that diverged {"experiment", "preset", "diverged": message}.
      config: what config.json holds: {"preset", "command", "config": {...}}; {} where there is none.
    """

    run_dir: Path
    results: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        return str(self.results.get("experiment", "?"))

    @property
    def preset(self) -> str:
        return str(self.results.get("preset") or self.config.get("preset") or "?")

    @property
    def records(self) -> list[dict]:
        return list(self.results.get("records") or [])

    @property
    def diverged(self) -> str:
        """What was not finite and when; "" for a run that reached its end."""
        return str(self.results.get("diverged", ""))

    @property
    def row(self) -> str:
        """The row of the paper's table that the config says the run is, "" where it says nothing."""
        return str((self.config.get("config") or {}).get("row", ""))

    @property
    def version(self) -> str:
        """The version of the data that the config says the run is measured on ("v1"), "" where there is only one."""
        return str((self.config.get("config") or {}).get("version", ""))

    @property
    def command(self) -> str:
        return command_text(self.config.get("command") or self.results.get("command"))


def command_text(command: str | Sequence[str] | None) -> str:
    """Returns a command, given as text or as a list of words, as text to paste; "" without one."""
    import shlex

    if not command:
        return ""
    return command if isinstance(command, str) else shlex.join(str(word) for word in command)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}); run the experiment again") from None


def read_run(run_dir: str | Path) -> Run:
    """Reads a finished run, or one that diverged, which has no records.

    Raises:
      UserError: no such folder, not a run folder, or not finished; says how to finish it.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise UserError(f"run folder {run_dir} does not exist; give the folders that launch.py wrote, such as runs/*")
    config_path, results_path, diverged_path = (run_dir / f"{n}.json" for n in ("config", "results", "diverged"))
    config = read_json(config_path) if config_path.exists() else {}
    if results_path.exists():
        return Run(run_dir, read_json(results_path), config)
    if not config:
        raise UserError(
            f"{run_dir} is not a run folder (neither results.json nor config.json); give folders such as runs/*"
        )
    if diverged_path.exists():
        results = {k: (config.get("config") or {}).get(k) for k in ("experiment", "preset")}
        return Run(run_dir, results | {"diverged": read_json(diverged_path)["message"]}, config)
    command = command_text(config.get("command")) or "the command that started it"
    raise UserError(f"run {run_dir} is not finished (no results.json); finish it with: {command}")


@dataclass(frozen=True)
class Curve:
    """One metric of one split over training.

    Attributes:
      steps: increasing.
      values: per seed, one number per step; nan where a seed has none.
    """

    steps: list[int]
    values: list[list[float]]


def read_curves(path: Path) -> dict[str, dict[str, Curve]]:
    """Reads metrics.jsonl: {metric: {split: Curve}}, in the order of first appearance.

    Several seeds come as lines with a "seed" or as lists with one number per seed. A last line that was cut off in the
    middle is ignored; a value that is null or not a number is nan.
    """
    found: dict[tuple[str, str], dict[int, dict[Any, float]]] = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            if number == len(lines):  # no newline after it: the writer was interrupted
                continue
            raise UserError(f"{path}, line {number} is not JSON; delete that line") from None
        step, split, seed = line.pop("step"), str(line.pop("split", "train")), line.pop("seed", None)
        for name, value in line.items():
            by_seed = dict(enumerate(value)) if isinstance(value, list) else {seed: value}
            points = found.setdefault((name, split), {}).setdefault(int(step), {})
            points.update({s: as_number(v) for s, v in by_seed.items()})
    curves: dict[str, dict[str, Curve]] = {}
    for (name, split), points in found.items():
        steps = sorted(points)
        run_seeds = list(dict.fromkeys(s for step in steps for s in points[step]))
        values = [[points[step].get(s, math.nan) for step in steps] for s in run_seeds]
        curves.setdefault(name, {})[split] = Curve(steps, values)
    return curves


def as_number(value: Any) -> float:
    """Returns a finite number, or nan for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return math.nan
