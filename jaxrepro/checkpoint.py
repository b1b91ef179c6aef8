"""Checkpoints: asynchronous orbax saves with checksums, and a restore that steps back over damaged ones.

    with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        ts = checkpoints.restore_latest(program.abstract_state()) or program.init()
        checkpoints.save(step, ts)

Orbax commits a checkpoint atomically, but restores flipped bytes without a word; so each carries digests of its leaves.
"""

import json
import logging
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro import mesh as mesh_lib
from jaxrepro.config import CheckpointConfig
from jaxrepro.errors import UserError

log = logging.getLogger(__name__)


class NonFiniteError(Exception):
    """A loss or a parameter is no longer a finite number; the message names the steps."""


def digests(tree: Any) -> tuple[dict[str, str], bool]:
    """Returns ({leaf path: CRC-32 of its bytes}, whether every floating-point leaf is finite).

    Leaves are fetched whole, so the digest does not depend on how they are sharded. All processes call this together.
    """
    found, finite = {}, True
    for path, leaf in jax.tree_util.tree_flatten_with_path(mesh_lib.to_host(tree))[0]:
        found[mesh_lib.leaf_path(path)] = f"{zlib.crc32(np.ascontiguousarray(leaf).tobytes()):08x}"
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite &= bool(np.isfinite(leaf.astype(np.float32)).all())
    return found, finite


class Checkpoints:
    """The checkpoints of one run folder. Every process of a run calls every method."""

    def __init__(self, directory: Path, config: CheckpointConfig, say: Callable[[str], None] = log.warning):
        import orbax.checkpoint as ocp

        self._ocp, self._say = ocp, say
        self.directory = Path(directory).absolute()
        keep = [ocp.checkpoint_managers.LatestN(config.keep)]
        best = {}
        if config.best:
            best = {"best_fn": lambda m: m["best"], "best_mode": config.best_mode}
            keep.append(
                ocp.checkpoint_managers.BestN(
                    get_metric_fn=best["best_fn"],
                    reverse=config.best_mode == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,
            **best,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps of the committed checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, ts: Any, metric: float | None = None) -> None:
        """Starts saving `ts` and returns; the copy off the device is done, writing goes on in the background.

        Args:
          step: number of steps done; a step that is already saved is left alone.
          ts: pytree of arrays.
          metric: value of `CheckpointConfig.best`, where it was evaluated at this step.

        Raises:
          NonFiniteError: `ts` holds a NaN or an infinity; nothing is written.
        """
        if step in self._manager.all_steps():
            return
        digest, finite = digests(ts)
        if not finite:
            raise NonFiniteError(f"the state at step {step} holds values that are not finite")
        self._manager.save(
            step,
            args=self._ocp.args.Composite(
                state=self._ocp.args.StandardSave(ts), meta=self._ocp.args.JsonSave({"step": step, "digests": digest})
            ),
            metrics=None if metric is None else {"best": float(metric)},
            force=True,
        )

    def wait(self) -> None:
        """Returns when every started save is committed; raises what went wrong in the background."""
        self._manager.wait_until_finished()

    def restore_latest(self, abstract: Any) -> tuple[int, Any] | None:
        """Returns (step, state) of the newest sound checkpoint, or None where there is none.

        A damaged one (unreadable, or its digests do not match) is reported in one line, moved aside to
        `damaged_checkpoints/`, and the one before is tried.

        Args:
          abstract: pytree of ShapeDtypeStructs with shardings.
        """
        for step in reversed(self.steps()):
            state, fault = self._try_restore(step, abstract)
            if fault is None:
                return step, state
            self._set_aside(step, fault)
        return None

    def restore_best(self, abstract: Any) -> tuple[int, Any] | None:
        """Returns (step, state) of the best checkpoint by `CheckpointConfig.best`, or None where none was evaluated."""
        step = self._manager.best_step()
        if step is None:
            return None
        state, fault = self._try_restore(step, abstract)
        if fault is not None:
            self._set_aside(step, fault)
            return None
        return step, state

    def _try_restore(self, step: int, abstract: Any) -> tuple[Any, str | None]:
        args = self._ocp.args.Composite(
            state=self._ocp.args.StandardRestore(abstract), meta=self._ocp.args.JsonRestore()
        )
        state, fault = None, None
        try:
            restored = self._manager.restore(step, args=args)
            state = restored["state"]
            fault = _mismatch(restored["meta"]["digests"], digests(state)[0])
        except Exception as error:  # orbax raises bare Exceptions for damaged files, so nothing narrower would do
            fault = (
                f"it cannot be read ({type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''})"
            )
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if not multihost_utils.process_allgather(np.array(fault is None)).all():
                fault = fault or "another process cannot read it"
        return state, fault

    def _set_aside(self, step: int, fault: str) -> None:
        target = self.directory.parent / "damaged_checkpoints"
        self._say(f"checkpoint {step} is damaged: {fault}; moved to {target}, using the one before")
        if jax.process_index() == 0:
            target.mkdir(exist_ok=True)
            shutil.rmtree(target / str(step), ignore_errors=True)
            (self.directory / str(step)).rename(target / str(step))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(f"damaged checkpoint {step}")
        self._manager.reload()


def _mismatch(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Returns what differs between two digest tables in words, or None."""
    wrong = [path for path in expected if found.get(path) != expected[path]]
    return (
        f"the bytes of {wrong[0]}" + f" and {len(wrong) - 1} more" * (len(wrong) > 1) + " changed on disk"
        if wrong
        else None
    )


def read_arrays(directory: Path) -> dict[str, np.ndarray]:
    """Returns {leaf path: array [S, ...]} of the newest checkpoint of a run, read without its experiment.

    Raises:
      UserError: there is none, or it is damaged.
    """
    import orbax.checkpoint as ocp

    steps = sorted(int(p.name) for p in Path(directory).glob("*") if p.name.isdigit())
    if not steps:
        raise UserError(f"{directory} holds no checkpoint; train first")
    path = (Path(directory) / str(steps[-1])).absolute()
    try:
        checkpointer = ocp.PyTreeCheckpointer()
        tree = checkpointer.metadata(path / "state").item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = checkpointer.restore(path / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        expected = json.loads((path / "meta" / "metadata").read_text())["digests"]
        fault = _mismatch(expected, digests(state)[0])
    except Exception as error:  # as in `_try_restore`
        raise UserError(f"{path} cannot be read ({type(error).__name__}); train again with --restart") from None
    if fault:
        raise UserError(f"{path} is damaged: {fault}; train again with --restart")
    return {mesh_lib.leaf_path(p): np.asarray(a) for p, a in jax.tree_util.tree_leaves_with_path(state)}
