"""Helpers of tests that run the real command, in this process or, which costs seconds of imports, in one of its own."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np

import launch

ROOT = Path(__file__).parent.parent
YOTO = "configs/yoto_cifar.py:smoke"

# A YOTO small enough to start, train and stop in seconds.
TINY = {
    "train.duration": "60 steps",
    "train.batch_size": 8,
    "data.source": "synbols:default?num_samples=200&resolution=8",
    "model.image_shape": "(8,8,3)",
    "model.num_blocks": 1,
    "model.base_channels": 2,
    "model.hidden": 8,
    "model.latent": 4,
    "model.film_hidden": 4,
    "beta.baselines": "()",
    "beta.grid": "(1.0,4.0)",
    "beta.pictured": "(1.0,)",
    "eval.num_examples": 16,
    "log.every": "10 steps",
    "checkpoint.every": "20 steps",
}


def command(workdir: Path, changes: dict | None = None, *flags: str, config: str = YOTO) -> list[str]:
    """Returns the command line of a tiny run."""
    overrides = [f"--config.{k}={v}" for k, v in (TINY | (changes or {})).items()]
    return [sys.executable, "launch.py", f"--config={config}", f"--workdir={workdir}", *overrides, *flags]


def environment(**changes: str) -> dict[str, str]:
    """Returns this process's environment with changes; XLA_FLAGS are added to those that are there."""
    if "XLA_FLAGS" in changes:
        changes["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {changes['XLA_FLAGS']}"
    return os.environ | {"JAX_PLATFORMS": "cpu"} | changes


def run_process(workdir: Path, changes: dict | None = None, *flags: str, **env: str) -> subprocess.CompletedProcess:
    """Runs a tiny run to its end in a process of its own: for other devices, signals, and what a terminal shows."""
    return subprocess.run(
        command(workdir, changes, *flags), cwd=ROOT, env=environment(**env), capture_output=True, text=True, timeout=300
    )


def run_here(workdir: Path, changes: dict | None = None, *flags: str) -> subprocess.CompletedProcess:
    """Runs a tiny run to its end in this process."""
    return call_main(*command(workdir, changes, *flags)[2:])


def call_main(*arguments: str) -> subprocess.CompletedProcess:
    """Calls the launcher in this process as if it had been started with these arguments."""
    launch.FLAGS.unparse_flags()  # absl's flags are global: forget those of the call before
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["launch.py", *arguments]),
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = launch.main(sys.argv)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def results(workdir: Path) -> dict:
    return json.loads((workdir / "results.json").read_text())


def final_params(workdir: Path) -> dict[str, np.ndarray]:
    """Returns {path: array} of everything in the newest checkpoint, read without its config."""
    import orbax.checkpoint as ocp

    from jaxrepro.mesh import leaf_path

    step = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    path = (workdir / "checkpoints" / str(step) / "state").absolute()
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(path).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    state = checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return {leaf_path(path): np.asarray(a) for path, a in jax.tree_util.tree_leaves_with_path(state)}
