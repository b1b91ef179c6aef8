"""Checkpoints: asynchronous orbax saves with checksums, and a restore that steps back over damaged ones.

    with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        ts = checkpoints.restore_latest(program.abstract_state()) or program.init()
        checkpoints.save(step, ts)

Orbax commits a checkpoint atomically, but restores flipped bytes without a word; so each carries digests of its leaves.
"""

import contextlib
import errno
import gc
import logging
import shutil
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro import digests
from jaxrepro import mesh as mesh_lib
from jaxrepro.config import CheckpointConfig
from jaxrepro.errors import UserError

log = logging.getLogger(__name__)

BYTES_PER_LEAF = 4096  # what orbax writes about a leaf is half of it


class NonFiniteError(Exception):
    """A loss or a parameter is no longer a finite number; the message names the steps."""


def leaf_digests(tree: Any) -> tuple[dict[str, str], bool]:
    """Returns ({leaf path: CRC-32 of its bytes}, whether every floating-point leaf is finite).

    Leaves are fetched whole, so the digest does not depend on how they are sharded. All processes call this together.
    """
    found, finite = {}, True
    for path, leaf in jax.tree_util.tree_flatten_with_path(mesh_lib.to_host(tree))[0]:
        found[mesh_lib.leaf_path(path)] = f"{zlib.crc32(np.ascontiguousarray(leaf).tobytes()):08x}"
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite &= bool(np.isfinite(leaf.astype(np.float32)).all())
    return found, finite


def leaves_of(tree: Any) -> dict[str, str]:
    """Returns {leaf path: "float32[2,3]"}."""
    return {
        mesh_lib.leaf_path(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


@dataclass(frozen=True)
class KeepBest:
    """A preservation policy of orbax: the step with the best metric of those in `metrics`."""

    metrics: Mapping[int, float]
    mode: str

    def best(self, steps: Sequence[int]) -> int | None:
        """Returns the best of the steps, the earliest of equals, or None where none has a metric."""
        known = [step for step in sorted(steps) if step in self.metrics]
        choose = min if self.mode == "min" else max
        return choose(known, key=lambda step: self.metrics[step]) if known else None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        best = self.best([c.step for c in checkpoints])
        return [c.step == best for c in checkpoints]


class Checkpoints:
    """The checkpoints of one run folder. Every process of a run calls every method."""

    def __init__(self, directory: Path, config: CheckpointConfig, say: Callable[[str], None] = log.warning):
        import orbax.checkpoint as ocp

        self._ocp, self._say = ocp, say
        self.directory = Path(directory).absolute()
        self.damaged = self.directory.parent / "damaged_checkpoints"
        self._metrics: dict[int, float] = {}
        self._policy = KeepBest(self._metrics, config.best_mode) if config.best else None
        keep = [ocp.checkpoint_managers.LatestN(config.keep)] + ([self._policy] if self._policy else [])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        if self._policy:
            for step in self.steps():
                with contextlib.suppress(Damage):
                    metric = self._read_meta(step)["metric"]
                    self._metrics |= {} if metric is None else {step: metric}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps of the committed checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, ts: Any, metric: float | None = None, notes: Mapping[str, Any] | None = None) -> None:
        """Starts saving `ts` and returns; the copy off the device is done, writing goes on in the background.

        Args:
          step: number of steps done; a step that is already saved is left alone.
          ts: pytree of arrays.
          metric: value of `CheckpointConfig.best`, where it was evaluated at this step.
          notes: JSON that `notes` returns.

        Raises:
          NonFiniteError: `ts` holds a NaN or an infinity; nothing is written.
          UserError: the disk has no room for it; nothing is written.
        """
        if step in self._manager.all_steps():
            return
        digest, finite = leaf_digests(ts)
        if not finite:
            raise NonFiniteError(f"the state at step {step} holds values that are not finite")
        _check_room(self.directory, ts)
        meta = {"step": step, "digests": digest, "leaves": leaves_of(ts), "metric": metric, "notes": dict(notes or {})}
        if metric is not None:
            self._metrics[step] = float(metric)
        self._manager.save(
            step,
            args=self._ocp.args.Composite(
                state=self._ocp.args.StandardSave(ts),
                meta=self._ocp.args.JsonSave(digests.seal(meta)),
            ),
            force=True,
        )

    def wait(self) -> None:
        """Returns when every started save is committed; raises what went wrong in the background."""
        self._manager.wait_until_finished()

    def notes(self, step: int) -> dict[str, Any]:
        """Returns what `save` was given with a sound checkpoint."""
        return self._read_meta(step)["notes"]

    def restore_latest(self, abstract: Any) -> tuple[int, Any] | None:
        """Returns (step, state) of the newest sound checkpoint, or None where there never was one.

        A damaged one (lost or changed bytes) is reported in one line, moved aside to `damaged_checkpoints/`, and the
        one before is tried.

        Args:
          abstract: pytree of ShapeDtypeStructs with shardings.

        Raises:
          UserError: all are damaged; the state of the program is another one; a file may not be read.
        """
        for step in reversed(self.steps()):
            state, fault = self._try_restore(step, abstract)
            if fault is None:
                return step, state
            self._set_aside(step, fault)
        if self.damaged.is_dir() and any(self.damaged.iterdir()):
            raise UserError(
                f"no checkpoint of {self.directory.parent} is sound (see {self.damaged}); --restart begins anew"
            )
        return None

    def restore_best(self, abstract: Any) -> tuple[int, Any] | None:
        """Returns (step, state) of the best checkpoint by `CheckpointConfig.best`, or None where none was evaluated."""
        step = self._policy.best(self.steps()) if self._policy else None
        if step is None:
            return None
        state, fault = self._try_restore(step, abstract)
        if fault is not None:
            self._set_aside(step, fault)
            return None
        return step, state

    def _read_meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON beside a state.

        Raises:
          Damage: it is lost or changed.
        """
        try:
            meta = dict(
                self._manager.restore(step, args=self._ocp.args.Composite(meta=self._ocp.args.JsonRestore()))["meta"]
            )
        except Exception as error:  # orbax raises bare Exceptions for damaged files, so nothing narrower would do
            _refuse_unreadable(error)
            raise Damage(f"its description cannot be read ({_first_line(error)})") from error
        if not digests.is_sealed(meta):
            raise Damage("its description changed on disk")
        return meta

    def _try_restore(self, step: int, abstract: Any) -> tuple[Any, str | None]:
        state, fault = None, None
        try:
            meta = self._read_meta(step)
            if wrong := _first_difference(meta["leaves"], leaves_of(abstract)):
                raise UserError(f"checkpoint {step} of {self.directory.parent} is of another program: {wrong}")
            args = self._ocp.args.Composite(state=self._ocp.args.StandardRestore(abstract))
            state = self._restore_state(step, args)
            fault = _mismatch(meta["digests"], leaf_digests(state)[0])
        except Damage as error:
            fault = str(error)
        if fault is not None:
            _drop_unfinished_reads()
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if not multihost_utils.process_allgather(np.array(fault is None)).all():
                fault = fault or "another process cannot read it"
        return state, fault

    def _restore_state(self, step: int, args: Any) -> Any:
        try:
            return self._manager.restore(step, args=args)["state"]
        except Exception as error:  # as above
            _refuse_unreadable(error)
            raise Damage(f"it cannot be read ({_first_line(error)})") from error

    def _set_aside(self, step: int, fault: str) -> None:
        self._say(f"checkpoint {step} is damaged: {fault}; moved to {self.damaged}, using the one before")
        if jax.process_index() == 0:
            self.damaged.mkdir(exist_ok=True)
            shutil.rmtree(self.damaged / str(step), ignore_errors=True)
            (self.directory / str(step)).rename(self.damaged / str(step))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(f"damaged checkpoint {step}")
        self._metrics.pop(step, None)
        self._manager.reload()


class Damage(Exception):
    """Bytes of a checkpoint are lost or changed."""


def _drop_unfinished_reads() -> None:
    """Collects the reads that orbax leaves suspended where one fails; Python would print a traceback for each later."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _check_room(folder: Path, ts: Any) -> None:
    """Raises UserError on a full disk; orbax would fail in several threads, each with a traceback."""
    leaves = jax.tree.leaves(ts)
    needed = 2 * sum(leaf.nbytes for leaf in leaves) + BYTES_PER_LEAF * len(leaves)  # parts are written, then joined
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"no room for a checkpoint of {needed / 2**20:,.1f} MiB in {folder}, where {free / 2**20:,.1f} MiB are"
            " free; free some space, then the same command continues"
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"


def _refuse_unreadable(error: BaseException | None) -> None:
    """Raises UserError where an error, or one that it came from, says that the machine does not give the bytes out."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE):
            raise UserError(f"cannot read {error.filename or 'a checkpoint'}: {error.strerror}") from None
        error = error.__cause__ or error.__context__


def _first_difference(saved: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Returns the first leaf that differs between a checkpoint and the program, in words, or ""."""
    for path in sorted({*saved, *wanted}):
        if saved.get(path) != wanted.get(path):
            return f"{path} is {saved.get(path, 'absent')} there and {wanted.get(path, 'absent')} here"
    return ""


def _mismatch(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Returns what differs between two digest tables in words, or None."""
    wrong = [path for path in expected if found.get(path) != expected[path]]
    return (
        f"the bytes of {wrong[0]}" + f" and {len(wrong) - 1} more" * (len(wrong) > 1) + " changed on disk"
        if wrong
        else None
    )
