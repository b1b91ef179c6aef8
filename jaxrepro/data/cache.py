"""Arrays on disk that are costly to make: built once, checked when opened, memory-mapped.

    arrays = cached_arrays("synbols-default", {"seed": 0, "version": 1}, build)

Entries live under `$JAXREPRO_DATA/arrays` (default ~/.cache/jaxrepro). An entry is a folder of .npy files
with a meta.json that holds its key and each file's shape, dtype and checksum. One process builds, under a
temporary name, while others wait; the folder gets its name when it is whole. An entry that fails its check is
built again.
"""

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro import digests
from jaxrepro.data.dataset import Column, Table
from jaxrepro.errors import UserError

Create = Callable[[str, tuple[int, ...], Any], np.ndarray]

_META = "meta.json"


def data_dir() -> Path:
    """Returns the folder of caches and prepared datasets: $JAXREPRO_DATA, or ~/.cache/jaxrepro."""
    text = os.path.expanduser(os.environ.get("JAXREPRO_DATA") or "~/.cache/jaxrepro")
    if text.startswith("~"):
        raise UserError(f"{text} is nowhere, because there is no such home folder; set JAXREPRO_DATA to a folder")
    return Path(text).absolute()


def cached_arrays(name: str, key: Mapping[str, Any], build: Callable[[Create], None]) -> dict[str, np.ndarray]:
    """Returns the arrays of a cache entry, building them when there is no sound entry.

    Args:
      name: readable part of the entry's folder name.
      key: JSON values on which the content depends, e.g. seed and version; another key is another entry.
      build: called with `create(column, shape, dtype)`, which returns a writable array of zeros to fill.

    Returns:
      Column name -> read-only memory-mapped array.

    Raises:
      UserError: the folder cannot be written or the disk is full. Errors of `build` pass through.
    """
    text = json.dumps(key, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = data_dir() / "arrays" / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{digest}"
    arrays = _open(folder)
    if arrays is not None:
        return arrays
    with locked(folder):
        arrays = _open(folder)  # another process may have built it while this one waited
        if arrays is None:
            _build(folder, json.loads(text), build)
            arrays = _open(folder)
    if arrays is None:
        raise UserError(f"the cache entry {folder} does not read back as written; check the disk")
    return arrays


def lazy_table(name: str, num_rows: int, columns: Mapping[str, Column], open_arrays: Callable) -> Table:
    """Returns a table whose arrays are made by `open_arrays()` when rows are first read, and only once."""
    lock = threading.Lock()
    once = functools.cache(open_arrays)

    def take(rows: np.ndarray) -> dict[str, np.ndarray]:
        with lock:
            arrays = once()
        return {k: arrays[k][rows] for k in columns}

    return Table(name, num_rows, columns, take)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of `path` between processes; the system frees it when its holder dies."""
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path.with_name(path.name + ".lock"), "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(
            f"cannot write {path.parent}: {error.strerror}; set JAXREPRO_DATA to a folder that can be written"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process is making %s; waiting for it", path)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(folder: Path, key: Any, build: Callable[[Create], None]) -> None:
    """Fills `folder` under a temporary name, which only the holder of the lock uses, and renames it."""
    temporary = folder.with_name(folder.name + ".tmp")
    _remove(temporary)
    temporary.mkdir()
    arrays: dict[str, np.memmap] = {}

    def create(column: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        path = temporary / f"{column}.npy"
        _check_room(temporary, math.prod(map(int, shape)) * np.dtype(dtype).itemsize)
        arrays[column] = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=tuple(shape))
        _reserve(path)
        return arrays[column]

    try:
        build(create)
        for array in arrays.values():
            array.flush()
        columns = {
            k: {"shape": a.shape, "dtype": a.dtype.str, "checksum": digests.of_file(temporary / f"{k}.npy")}
            for k, a in arrays.items()
        }
        (temporary / _META).write_text(json.dumps({"key": key, "columns": columns}, indent=1))
    except BaseException:
        _remove(temporary)
        raise
    _remove(folder)
    temporary.rename(folder)


def _remove(path: Path) -> None:
    """Removes a folder, or a file that stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Claims the file's blocks now, because a full disk kills a process that writes to mapped memory."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as handle:
        size = os.fstat(handle.fileno()).st_size
        try:
            os.posix_fallocate(handle.fileno(), 0, size)
        except OSError as error:
            raise _no_room(path.parent, size, error.strerror) from error


def _check_room(folder: Path, size: int) -> None:
    """Raises UserError where a file cannot fit, before one of an impossible size is begun."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _no_room(folder, size, f"{free / 2**20:,.0f} MiB are free")


def _no_room(folder: Path, size: int, why: str) -> UserError:
    return UserError(
        f"no room for {size / 2**20:,.0f} MiB at {folder.parent}: {why}; "
        "free some space or set JAXREPRO_DATA to another disk"
    )


def _open(folder: Path) -> dict[str, np.ndarray] | None:
    """Returns the arrays of a sound entry; None where there is none, with a warning where it is damaged."""
    if not folder.is_dir():
        return None
    try:
        columns = json.loads((folder / _META).read_text())["columns"]
        arrays = {}
        for name, expected in columns.items():
            path = folder / f"{name}.npy"
            if digests.of_file(path) != expected["checksum"]:  # first, because damaged headers raise anything
                raise ValueError(f"{path.name} has another checksum")
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if list(array.shape) != expected["shape"] or array.dtype.str != expected["dtype"]:
                raise ValueError(f"{path.name} is {array.dtype} {array.shape}")
            arrays[name] = array
        return arrays
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RecursionError) as error:
        logging.warning("the cache entry %s is damaged (%s) and is made again", folder, error)
        return None
