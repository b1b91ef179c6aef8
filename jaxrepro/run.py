"""One run from a config to a report, in a run folder: what `launch.py` does, for calling from Python.

    config = config_file.load("configs/yoto_cifar.py:smoke")
    run(config, Path("runs/yoto_cifar-smoke"), command="...")

A run folder holds config.json, metrics.jsonl, checkpoints/, figures/, report.html and, written last, results.json: its
presence means that the run is finished. A run that diverged leaves diverged.json in its place.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import platform
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import jaxrepro
from jaxrepro import config_file, digests, loop, registry
from jaxrepro.checkpoint import NonFiniteError
from jaxrepro.config import RunConfig, parse
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError
from jaxrepro.experiment import Experiment
from jaxrepro.mesh import leaf_path
from jaxrepro.progress import Interrupt, say
from jaxrepro.writers import final_metrics, save_picture, write_json

FOLDERS = ("checkpoints", "damaged_checkpoints", "figures", "arrays", "tensorboard")
FILES = ("config.json", "metrics.jsonl", "results.json", "evaluation.json", "diverged.json", "report.html")
DIGESTED_BYTES = 256 * 2**20  # of an array


class Mode(StrEnum):
    TRAIN = "train"
    EVAL = "eval"
    PRINT = "print"


def plain(config: ConfigDict) -> dict:
    """Returns a config as JSON would give it back: nested dicts, lists for tuples."""
    return json.loads(json.dumps(config.to_dict()))


def fingerprint(config: Mapping[str, Any]) -> str:
    """Returns 12 hex digits over everything in a plain config that decides the result."""
    deciding = {k: v for k, v in config_file.flatten(config).items() if not config_file.is_resumable(k)}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    command: str = "",
    mode: Mode = Mode.TRAIN,
    interrupt: Interrupt | None = None,
) -> bool:
    """Trains (or evaluates) in a run folder and writes its results and report.

    Args:
      config: the resolved config.
      workdir: run folder; a run with the same config in it is continued.
      command: what the user typed, for the report.
      mode: TRAIN or EVAL. An evaluation of a run that is not finished goes to evaluation.json, so that the run does not
        look finished.
      interrupt: of a command that listens to signals.

    Returns:
      False if a signal interrupted it after saving: the same call continues.

    Raises:
      UserError: impossible config, another config or other data in the folder, another process in the folder.
      NonFiniteError: the run diverged.
    """
    module = registry.find(config.experiment)
    typed = parse(module.Config, config)
    with locked(workdir):
        check_kinds(workdir)
        old = read_config(workdir / "config.json")
        if old is not None:
            config_file.check_resumable(old["config"], plain(config), workdir)
        finished = is_finished(workdir, old, typed)
        sound = finished and is_sound(workdir)
        if mode == Mode.TRAIN and sound:
            say(f"already finished; to begin anew add --restart\n{report_lines(workdir)}")
            return True
        experiment = module.build(typed)
        check_folder(workdir, num_steps(typed.train.duration, steps_per_epoch=experiment.source.steps_per_epoch))
        data = data_digest(experiment, typed.seeds[0])
        check_data(old, data_to_compare(old, data, config, module), workdir)
        if jax.process_index() == 0 and mode == Mode.TRAIN:
            for name in ("results.json", "diverged.json", "evaluation.json"):
                (workdir / name).unlink(missing_ok=True)
            written = {"preset": typed.preset, "command": command, "data": data, "config": plain(config)}
            write_json(workdir / "config.json", digests.seal(written))
        try:
            if mode == Mode.TRAIN:
                results = loop.train(typed, experiment, workdir, interrupt)
            else:
                results = loop.evaluate(typed, experiment, workdir)
        except NonFiniteError as error:
            if jax.process_index() == 0:
                write_json(workdir / "diverged.json", {"message": str(error)})
            raise
        if results is None:
            return False
        if jax.process_index() == 0:
            final = finished or mode == Mode.TRAIN
            finish(config, typed, workdir, results, final=final, data=data, notes=experiment.notes)
    return True


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the run folder for this process (on process 0), so that two runs cannot write into it."""
    if jax.process_index() != 0:
        yield
        return
    path = workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        opened = path.open("w")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another --workdir") from None
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another process is running in {workdir}; wait for it, or give another --workdir"
            raise UserError(message) from None
        try:
            yield
        finally:
            if workdir.exists() and not (workdir / "config.json").exists():  # nothing began: leave no trace
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    workdir.rmdir()


def read_json(path: Path) -> Any:
    """Returns a JSON file's content, or None where there is no file.

    Raises:
      UserError: the file is not JSON.
    """
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); move the run folder aside or use --restart") from None


def read_config(path: Path) -> dict[str, Any] | None:
    """Returns a run folder's config.json, or None where there is none.

    Raises:
      UserError: it is damaged.
    """
    old = read_json(path)
    if isinstance(old, dict) and digests.KEY in old and not digests.is_sealed(old):
        raise UserError(f"{path} is damaged (something in it changed); move the run folder aside or use --restart")
    duration = old.get("config") if isinstance(old, dict) else None
    for key in ("train", "duration"):
        duration = duration.get(key) if isinstance(duration, dict) else None
    if old is not None and not isinstance(duration, str):
        raise UserError(f"{path} is damaged (no config of a run); move the run folder aside or use --restart")
    return old


def check_kinds(workdir: Path) -> None:
    """Raises UserError where a file stands in place of a folder of a run, or a folder in place of a file."""
    for path in (workdir / name for name in FOLDERS + FILES):
        if (path.exists() or path.is_symlink()) and path.is_dir() != (path.name in FOLDERS):
            kind = "folder" if path.is_dir() else "file" if path.exists() else "link to nothing"
            wanted = "a folder" if path.name in FOLDERS else "a file"
            raise UserError(f"{path} is a {kind}; a run has {wanted} there: move it away, or give another --workdir")


def check_folder(workdir: Path, total: int) -> None:
    """Raises UserError where the checkpoints of a run folder go beyond the last step."""
    folder = workdir / "checkpoints"
    steps = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []
    if max(steps, default=0) > total:
        raise UserError(
            f"{workdir} holds a run of {max(steps)} steps, more than the {total} of config.train.duration;"
            " give another --workdir, or --restart"
        )


def is_finished(workdir: Path, old: Mapping[str, Any] | None, config: RunConfig) -> bool:
    """Returns whether the folder holds a finished run of this length."""
    return (
        bool(old)
        and (workdir / "results.json").exists()
        and old["config"]["train"]["duration"] == config.train.duration
    )


def is_sound(workdir: Path) -> bool:
    """Returns whether a finished run's results.json is whole; says where it is not, and what follows."""
    from jaxrepro.report.results import log_fault, read_results

    try:
        results = read_results(workdir / "results.json")
    except UserError as error:
        say(f"{str(error).partition(';')[0]}; evaluating the last checkpoint again")
        return False
    if fault := log_fault(workdir, results):
        say(f"{fault}; curves and training metrics may be wrong")
    return True


def move_aside(workdir: Path) -> Path | None:
    """Renames a run folder to <name>.old-1, -2, …; returns the new name, or None where there is no folder.

    Raises:
      UserError: a process is running in it.
    """
    if not workdir.exists():
        return None
    with locked(workdir):
        number = 1
        while (target := workdir.with_name(f"{workdir.name}.old-{number}")).exists():
            number += 1
        return workdir.rename(target)


def data_digest(experiment: Experiment, seed: int) -> str:
    """Returns 8 hex digits over the data of a run: its arrays and its first batch.

    Of large arrays evenly spaced rows are read, `DIGESTED_BYTES` in all.
    """
    arrays = [experiment.source.arrays, experiment.given, experiment.source.block(seed, 0, 1)]
    arrays += [e.arrays for e in experiment.evaluators] + [t.arrays for t in experiment.transitions]
    crc, seen = 0, set()
    for leaf in jax.tree.leaves(arrays):
        if id(leaf) in seen:
            continue
        seen.add(id(leaf))
        leaf = np.asarray(leaf)
        crc = zlib.crc32(f"{leaf.dtype}{leaf.shape}".encode(), crc)
        stride = max(1, -(-leaf.nbytes // DIGESTED_BYTES)) if leaf.ndim else 1
        crc = zlib.crc32(np.ascontiguousarray(leaf[::stride] if leaf.ndim else leaf), crc)
    return f"{crc:08x}"


def data_to_compare(old: Mapping[str, Any] | None, data: str, config: ConfigDict, module: ModuleType) -> str:
    """Returns the digest to compare with that of a run's beginning.

    Evaluation and streaming may be set anew when a run goes on, which changes what is read and so the digest: then the
    data are read once more as they were in the beginning.
    """
    if old is None or old.get("data", data) == data:
        return data
    now, then = (config_file.flatten(c) for c in (plain(config), old["config"]))
    if all(now.get(k) == then.get(k) for k in {*now, *then} if k.startswith(("eval.", "data."))):
        return data
    typed = parse(module.Config, old["config"])
    return data_digest(module.build(typed), typed.seeds[0])


def check_data(old: Mapping[str, Any] | None, data: str, workdir: Path) -> None:
    """Raises UserError where a run folder was begun with other data."""
    before = (old or {}).get("data", data)
    if before != data:
        raise UserError(
            f"the data of {workdir} has changed since the run began (digest {before}, now {data});"
            " bring the old data back, give another --workdir, or --restart"
        )


def environment() -> dict[str, Any]:
    """Returns the software and hardware of this process."""
    import flax
    import optax
    import orbax.checkpoint

    packages = {m.__name__.split(".")[0]: m.__version__ for m in (jaxrepro, jax, flax, optax, np, orbax.checkpoint)}
    device = jax.devices()[0]
    return packages | {
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "processes": jax.process_count(),
        "platform": platform.platform(),
    }


def finish(
    config: ConfigDict,
    typed: RunConfig,
    workdir: Path,
    results: loop.Results,
    *,
    final: bool,
    data: str,
    notes: Sequence[str] = (),
) -> None:
    """Writes figures, the report page, and last results.json of a run; of an unfinished one evaluation.json.

    An evaluation keeps the times of the training.
    """
    from jaxrepro.report import page, papers
    from jaxrepro.report.results import RunResults, earlier_timing, summary

    log = workdir / "metrics.jsonl"
    metrics = final_metrics(log, typed.seeds) | results.metrics
    for name, figure in papers.find(typed.experiment).figures(results.records).items():
        save_picture(workdir / "figures" / f"{name}.png", figure)
    found = RunResults(
        experiment=typed.experiment,
        name=typed.name,
        preset=typed.preset,
        config_fingerprint=fingerprint(plain(config)),
        step=results.step,
        seeds=typed.seeds,
        metrics={k: summary(v) for k, v in metrics.items()},
        records=results.records,
        environment=environment(),
        timing=dataclasses.replace(earlier_timing(workdir / "results.json"), **results.timing),
        finished=datetime.now().astimezone().isoformat(timespec="seconds"),
        data_digest=data,
        log_digest=digests.of_file(log) if log.exists() else "",
        final=final,
        notes=tuple(notes),
    )
    page.write_page(workdir, found)
    write_json(workdir / ("results.json" if final else "evaluation.json"), found.to_json())
    say(report_lines(workdir))


def report_lines(workdir: Path) -> str:
    return f"report:   {workdir / 'report.html'}\npictures: {workdir / 'figures'}"


def describe(config: ConfigDict) -> str:
    """Returns the resolved config and the table of parameters as text; touches no data and no folder."""
    module = registry.find(config.experiment)
    typed = parse(module.Config, config)
    shapes = jax.eval_shape(lambda: module.init_params(typed, jax.random.key(0)))
    rows = [
        (leaf_path(path), str(list(leaf.shape)), leaf.size)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    ]
    width = max(len(name) for name, _, _ in rows)
    table = [f"{name:{width}}  {shape:>20}  {size:>12,}" for name, shape, size in rows]
    total = f"{'total':{width}}  {'':>20}  {sum(size for *_, size in rows):>12,}"
    return "\n".join([str(config).rstrip(), "", *table, total])
