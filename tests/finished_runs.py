"""Run folders as the program writes them: with the dataclass of results.json and the writer of metrics.jsonl."""

import dataclasses
from pathlib import Path

from jaxrepro.report.results import RunResults, Timing
from jaxrepro.report.runs import FinishedRun, read_run
from jaxrepro.writers import Writer, write_json

COMMAND = "python launch.py --config=configs/some.py"


def record(row, column, value, seed=0, *, table="table2", metric="error", unit="percent", facts=None):
    """Returns one record as `loop` makes it of an `experiment.Record`."""
    cell = {"table": table, "row": row, "column": column, "metric": metric, "value": value, "unit": unit}
    return cell | {"facts": facts or {}, "seed": seed, "evaluator": "test"}


def results_of(experiment="sesn", records=(), **changes):
    base = RunResults(
        experiment=experiment,
        name=f"{experiment}_config",
        preset="paper",
        config_fingerprint="0123abcd4567",
        step=100,
        seeds=tuple(dict.fromkeys(r["seed"] for r in records)) or (0,),
        metrics={},
        records=list(records),
        environment={"device": "1 x cpu", "jax": "0.10.2", "python": "3.11.2"},
        timing=Timing(),
        finished="2026-05-02T14:05:00+02:00",
    )
    return dataclasses.replace(base, **changes)


def write_run(
    folder, results=None, *, experiment="sesn", preset="paper", config=None, command=COMMAND, log=(), diverged=""
):
    """Writes a run folder and returns its path as text.

    Args:
      results: of a finished run, None for another.
      config: sections beside experiment, preset and seeds.
      log: (step, split, {metric: [number per seed]}), in order.
      diverged: the message of a run that diverged.
    """
    folder = Path(folder)
    experiment, preset = (results.experiment, results.preset) if results else (experiment, preset)
    seeds = results.seeds if results else (0,)
    plain = {"experiment": experiment, "preset": preset, "seeds": list(seeds)} | (config or {})
    write_json(folder / "config.json", {"preset": preset, "command": command, "data": "", "config": plain})
    writer = Writer(folder, seeds, tensorboard=False, start_step=0)
    for step, split, values in log:
        writer.metrics(step, split, values)
    writer.close()
    if results:
        write_json(folder / "results.json", results.to_json())
    if diverged:
        write_json(folder / "diverged.json", {"message": diverged})
    return str(folder)


def run_of(folder, *args, **options) -> FinishedRun:
    """Writes a run folder and reads it."""
    return read_run(write_run(folder, *args, **options))
