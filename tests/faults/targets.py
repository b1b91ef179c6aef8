"""What the trials damage: run folders, checkpoints, and every kind of source with its cache.

A target makes a folder in which everything is sound, and reads from it what must not change without a word.
"""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import tiny_tfds
import toy
from PIL import Image

from jaxrepro import config_file, loop, registry, run
from jaxrepro.checkpoint import Checkpoints
from jaxrepro.config import CheckpointConfig
from jaxrepro.data import load_dataset, tfds_download
from jaxrepro.mesh import leaf_path
from jaxrepro.report import page
from jaxrepro.report.runs import read_curves, read_run


@dataclass(frozen=True)
class Target:
    """One thing to damage.

    Attributes:
      make: fills a folder, which it finds empty.
      read: of the folder, damaged or not: nested dicts, lists, arrays, numbers.
      checks_itself: notices damage at the first reading: trials may forget that there was one before.
      share: of the trials, in parts.
      below: the folder whose files are damaged, of the one that was filled.
      continues: whether reading goes on with what was made, so that only the untouched folder is the sound one.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    checks_itself: bool = False
    share: int = 1
    below: str = ""
    continues: bool = False


# Runs


class Stop(BaseException):
    """Ends a training as a kill does."""


class Toy:
    """The experiment `toy` for `run.run`: built and compiled once, so that a trial takes a moment."""

    Config = toy.Config
    stop_at = 0

    @staticmethod
    @functools.cache
    def _experiment():
        experiment = toy.build(toy.config())
        source, block = experiment.source, experiment.source.block

        def stopping(seed, start, length):
            if Toy.stop_at and start + length > Toy.stop_at:
                raise Stop
            return block(seed, start, length)

        return dataclasses.replace(experiment, source=dataclasses.replace(source, block=stopping))

    @staticmethod
    def build(config):
        return Toy._experiment()


def share_the_program() -> None:
    """Lets every training of the toy use one compiled program, and leaves drawing out."""
    sys.modules["toy_for_runs"] = Toy
    registry.EXPERIMENTS["toy"] = "toy_for_runs"
    made = {}
    original = loop.Run

    def cached(config, experiment):
        key = id(experiment)
        if key not in made:
            made[key] = original(config, experiment)
        return made[key]

    loop.Run = cached
    page.draw_curves = lambda curves: None
    tfds_download.unreachable = lambda urls: "trials have no network"


def run_toy(folder: Path, stop_at: int = 0) -> None:
    Toy.stop_at = stop_at
    with contextlib.suppress(Stop):
        run.run(config_file.make_config(toy.config(), "paper", {}), folder / "run")


def read_continued(folder: Path) -> Any:
    run_toy(folder)
    results = json.loads((folder / "run" / "results.json").read_text())
    return {
        "log": (folder / "run" / "metrics.jsonl").read_text(),
        "results": {k: results[k] for k in ("step", "metrics", "records", "data_digest")},
        "state": read_checkpoint(folder),
    }


def read_finished(folder: Path) -> Any:
    run_toy(folder)
    found = read_run(folder / "run")
    curves = read_curves(folder / "run" / "metrics.jsonl")
    results = found.results.to_json()
    return {
        "config": found.config,
        "results": {k: results[k] for k in ("step", "metrics", "records", "data_digest")},
        "curves": {f"{k}/{s}": [c.steps, c.values] for k, splits in curves.items() for s, c in splits.items()},
    }


@functools.cache
def abstract_state() -> Any:
    made = loop.Run(toy.config(), Toy._experiment())
    with jax.set_mesh(made.mesh):
        return made.program.abstract_state()


def read_checkpoint(folder: Path) -> Any:
    with Checkpoints(folder / "run" / "checkpoints", CheckpointConfig(), say=run.say) as checkpoints:
        step, state = checkpoints.restore_latest(abstract_state())
    return {"step": step} | {leaf_path(p): np.asarray(a) for p, a in jax.tree_util.tree_leaves_with_path(state)}


def compute(folder: Path) -> Any:
    """Compiles a program into a cache of compiled programs, or takes it from there, and runs it."""
    from jax.experimental.compilation_cache import compilation_cache

    options = {"jax_compilation_cache_dir": str(folder / "xla"), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in options}
    try:
        for name, value in options.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        return {"result": np.asarray(jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x.T))(jnp.arange(12.0).reshape(3, 4)))}
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


# Sources


def pictures(num_rows: int, shape=(8, 8, 3), seed: int = 0) -> np.ndarray:
    """Returns pictures in which something can be recognised, so that lossy formats keep them."""
    small = np.random.default_rng(seed).integers(0, 256, (num_rows, 2, 2, *shape[2:]), dtype=np.uint8)
    return small.repeat(shape[0] // 2, 1).repeat(shape[1] // 2, 2)


def make_npz(path: Path) -> None:
    save = np.savez_compressed if path.stem == "packed" else np.savez
    save(path, x_train=pictures(8), y_train=np.arange(8), x_test=pictures(4, seed=1), y_test=np.arange(4))


def make_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train/image"], file["train/label"] = pictures(8), np.arange(8)
        file.create_dataset("test/image", data=pictures(4, seed=1), chunks=(2, 8, 8, 3), compression="gzip")


def make_original(path: Path) -> None:
    """Writes a file as the original generator of Synbols does."""
    rows = [{"char": "cab"[i % 3], "font": "YX"[i % 2], "is_bold": "True", "is_slant": "False", "scale": 0.1 * i,
             "rotation": 0.1, "translation": [0.5, 0.1], "symbols": []} for i in range(8)]  # fmt: skip
    member = np.eye(3, dtype=bool)[np.repeat([0, 1, 2], [4, 2, 2])]
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", data=pictures(8), chunks=(4, 8, 8, 3), compression="gzip")
        file.create_dataset("y", data=[json.dumps(r) for r in rows], dtype=h5py.string_dtype("ascii"))
        file["split/random"] = member


def make_generated(path: Path) -> None:
    from jaxrepro.synbols.generate import Recipe, generate_file

    generate_file(Recipe("default", 0, {"resolution": 8}), 8, path)


def make_folder(root: Path) -> None:
    for i in range(6):
        path = root / f"{'ab'[i % 2]}" / f"{i}.{root.name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures(1, (16, 16, 3), seed=i)[0]).save(path)


def make_zip(path: Path) -> None:
    import shutil

    make_folder(path.parent / "png")
    shutil.make_archive(str(path.with_suffix("")), "zip", path.parent / "png")
    shutil.rmtree(path.parent / "png")


def make_copy(path: Path, *, tfrecord: bool) -> None:
    copy = tiny_tfds.write_copy(path / "data" / "tfds")
    if tfrecord:
        tiny_tfds.turn_into_tfrecord(copy)


def read_source(spec: str, folder: Path) -> Any:
    splits = load_dataset(spec.replace("HERE", str(folder)))
    return {name: table.arrays() for name, table in splits.items()}


def source(spec: str, make: Callable[[Path], None] | None = None, **options: Any) -> Target:
    """Returns the target of a source, whose file is made where the specification says."""
    path = spec.partition("HERE/")[2].partition("?")[0]
    return Target(lambda folder: make(folder / path) if make else None, functools.partial(read_source, spec), **options)


TARGETS = {
    "checkpoints": Target(run_toy, read_checkpoint, share=4, below="run/checkpoints"),
    "run folder, interrupted": Target(functools.partial(run_toy, stop_at=30), read_continued, share=4, continues=True),
    "run folder, finished": Target(run_toy, read_finished, share=4),
    "compiled programs": Target(compute, compute),
    "npz": source("npz:HERE/a.npz", make_npz, checks_itself=True, share=2),
    "npz, compressed": source("npz:HERE/packed.npz", make_npz, checks_itself=True),
    "hdf5, plain": source("hdf5:HERE/a.h5", make_hdf5, share=2),
    "hdf5, original Synbols": source("hdf5:HERE/a.h5", make_original),
    "hdf5, our generator": source("hdf5:HERE/a.h5", make_generated, checks_itself=True, share=3),
    "folder of PNG": source("folder:HERE/png", make_folder),
    "folder of JPEG": source("folder:HERE/jpg", make_folder),
    "folder of BMP": source("folder:HERE/bmp", make_folder),
    "zip of pictures": source("folder:HERE/a.zip", make_zip),
    "tfds, array_record": source("tfds:cifar10", functools.partial(make_copy, tfrecord=False), share=2),
    "tfds, tfrecord": source("tfds:cifar10", functools.partial(make_copy, tfrecord=True), share=2),
    "mnist5k": source("mnist5k", checks_itself=True),
    "synbols": source("synbols:default?num_samples=8&resolution=8", checks_itself=True, share=2),
}
