"""What a run writes into its folder: metrics.jsonl, TensorBoard, pictures and JSON files.

Only process 0 writes. Files that are written whole go to a temporary name first and are renamed, so nothing half
written is ever found under its final name; metrics.jsonl is appended to, and cut back to the checkpoint's step on
resume.
"""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESERVED = {"step", "split", "seed"}  # keys of a line of metrics.jsonl that no metric may have


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a file under a temporary name, then renames it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; NumPy scalars become numbers, other unknown objects fail."""
    text = json.dumps(value, indent=2, default=lambda x: x.item() if isinstance(x, np.generic) else _refuse(x))
    write_atomically(path, text + "\n")


def _refuse(x: Any) -> None:
    raise TypeError(f"{type(x).__name__} is not JSON")


def save_picture(path: Path, picture: Any) -> None:
    """Writes a uint8 array [H, W, 3] or a `matplotlib.figure.Figure` as PNG, atomically."""
    import io

    buffer = io.BytesIO()
    if isinstance(picture, np.ndarray):
        from PIL import Image

        Image.fromarray(picture).save(buffer, "png")
    else:
        picture.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    write_atomically(path, buffer.getvalue())


def save_arrays(workdir: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes {file name: {name: array}} as workdir/arrays/<file name>.npz, atomically."""
    import io

    for name, arrays in files.items():
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_atomically(Path(workdir) / "arrays" / f"{name}.npz", buffer.getvalue())


def cut_metrics(path: Path, step: int, promised: Mapping[str, int] | None = None) -> str:
    """Drops the lines of metrics.jsonl after `step`, a last line that was cut off, and lines that cannot be read.

    Args:
      promised: `Writer.log_state` of the checkpoint at `step`: the bytes that the kept lines must be.

    Returns:
      What is lost or doubtful, in one line, or "".
    """
    data = path.read_bytes() if path.exists() else b""
    lines = data.split(b"\n")[:-1]
    steps = [_step_of(line) for line in lines]
    kept = b"".join(line + b"\n" for line, s in zip(lines, steps, strict=True) if s is not None and s <= step)
    if kept != data:
        write_atomically(path, kept)
    if promised is None or promised == log_state(kept):
        return ""
    unreadable = sum(s is None for s in steps)
    found = f"{unreadable} unreadable lines were dropped" if unreadable else "some of its lines are lost or changed"
    return f"{path} was damaged: {found}; training goes on from its checkpoint, curves before step {step} may have gaps"


def _step_of(line: bytes) -> int | None:
    """Returns the step of a line of metrics.jsonl, or None where it is damaged."""
    try:
        entry = json.loads(line)
        whole = entry.keys() >= RESERVED and isinstance(entry["step"], int)
        numbers = all(v is None or isinstance(v, int | float) for k, v in entry.items() if k not in RESERVED)
        return entry["step"] if whole and numbers else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def log_state(data: bytes) -> dict[str, int]:
    """Returns what tells metrics.jsonl from a damaged one."""
    return {"bytes": len(data), "crc": zlib.crc32(data)}


class Writer:
    """Writes a run's metrics and pictures into its folder. With `active=False` (other processes) it does nothing.

    A line of metrics.jsonl is {"step", "split", "seed", "<metric>": number, ...}; a value that is not finite is null.
    """

    def __init__(
        self,
        workdir: Path,
        run_seeds: Sequence[int],
        *,
        tensorboard: bool,
        start_step: int,
        promised: Mapping[str, int] | None = None,
        active: bool = True,
    ):
        self.workdir, self.run_seeds, self.active = Path(workdir), tuple(run_seeds), active
        self._file = self._board = None
        self.log_state: dict[str, int] = {}
        if not active:
            return
        self.workdir.mkdir(parents=True, exist_ok=True)
        path = self.workdir / "metrics.jsonl"
        if damage := cut_metrics(path, start_step, promised):
            from jaxrepro.progress import say  # here, because it brings JAX and the report writes files without it

            say(damage)
        self.log_state = log_state(path.read_bytes() if path.exists() else b"")
        self._file = path.open("a")
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(self.workdir / "tensorboard"), purge_step=start_step + 1)

    def metrics(self, step: int, split: str, values: Mapping[str, Sequence[float]]) -> None:
        """Appends one line per seed; `values` maps names to one number per seed."""
        if taken := RESERVED & set(values):
            raise ValueError(
                f"a metric of {split!r} is named {min(taken)!r}, which metrics.jsonl needs; call it otherwise"
            )
        if not self.active:
            return
        for i, seed in enumerate(self.run_seeds):
            numbers = {k: float(v[i]) for k, v in values.items()}
            line = {"step": step, "split": split, "seed": seed}
            line |= {k: v if math.isfinite(v) else None for k, v in numbers.items()}
            text = json.dumps(line) + "\n"
            self._file.write(text)
            crc = zlib.crc32(text.encode(), self.log_state["crc"])
            self.log_state = {"bytes": self.log_state["bytes"] + len(text), "crc": crc}
            if self._board:
                suffix = f"/seed{seed}" if len(self.run_seeds) > 1 else ""
                for k, v in numbers.items():
                    self._board.add_scalar(f"{split}/{k}{suffix}", v, step)
        self._file.flush()

    def picture(self, step: int, name: str, picture: Any) -> None:
        """Writes figures/<name>.png, and the picture into TensorBoard."""
        if not self.active:
            return
        save_picture(self.workdir / "figures" / f"{name}.png", picture)
        if self._board:
            if isinstance(picture, np.ndarray):
                self._board.add_image(name, picture, step, dataformats="HWC")
            else:
                self._board.add_figure(name, picture, step, close=False)

    def arrays(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes arrays/<file name>.npz."""
        if self.active:
            save_arrays(self.workdir, files)

    def sync(self) -> None:
        """Forces metrics.jsonl to disk; called before a checkpoint, which promises every line up to its step."""
        if self.active:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


def final_metrics(path: Path, run_seeds: Sequence[int]) -> dict[str, list[float]]:
    """Returns the last value of every metric in metrics.jsonl as {"split/name": [one number per seed]}."""
    found: dict[str, dict[int, float]] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        if _step_of(line) is None:
            continue
        entry = json.loads(line)
        split, seed = entry.pop("split"), entry.pop("seed")
        del entry["step"]
        for name, value in entry.items():
            found.setdefault(f"{split}/{name}", {})[seed] = math.nan if value is None else value
    return {name: [values.get(seed, math.nan) for seed in run_seeds] for name, values in found.items()}
