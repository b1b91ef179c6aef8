"""`folder:PATH`: pictures in class folders, or a zip file of them.

    CLASS/x.jpg                       one split, "train"
    train/CLASS/x.jpg, test/CLASS/…   splits; also valid, val, validation
    x.jpg                             no classes: images only

Labels number the classes of all splits in sorted order. Pictures are decoded once into the cache. They must
have one size, or `?size=64` scales them to 64 by 64. Gray pictures stay gray (C = 1) if all are, else all
become RGB.
"""

import functools
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from jaxrepro.data import layout
from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Table, table_from_arrays
from jaxrepro.errors import UserError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_GRAY_MODES = {"1", "L"}
_THREADS = 8


@dataclass(frozen=True)
class _Files:
    """Pictures in a folder or zip file: (name, stamp that changes with the content), and a reader."""

    entries: Sequence[tuple[str, str]]
    read: Callable[[str], bytes]


def load(path: Path, *, size: int | None = None) -> dict[str, Table]:
    """Returns the splits of a folder of pictures.

    Args:
      path: a folder, or a zip file.
      size: if given, pictures are scaled to size × size.

    Raises:
      UserError: no pictures, a damaged one, or pictures of different sizes and no `size`.
    """
    if size is not None and size < 1:
        raise UserError(f"folder:{path}?size={size}: the size must be at least 1")
    files = _folder_files(path) if path.is_dir() else _zip_files(path)
    splits = _group(path, [name for name, _ in files.entries])
    classes = sorted({label for members in splits.values() for label, _ in members if label is not None})
    names = [name for members in splits.values() for _, name in members]
    shape = functools.cache(lambda: _common_shape(path, files, names, size))  # of all splits; a hit needs none
    listing = hashlib.sha256(repr(sorted(files.entries)).encode()).hexdigest()
    made = {}
    for split in (s for s in ("train", "valid", "test") if s in splits):
        key = {"listing": listing, "split": split, "size": size, "version": 1}
        build = functools.partial(_build, path, files, splits[split], classes, size, shape)
        made[split] = table_from_arrays(
            f"folder:{path} {split}", cached_arrays(f"folder-{path.stem}-{split}", key, build)
        )
    return made


def _folder_files(path: Path) -> _Files:
    found = [p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file()]
    entries = [(p.relative_to(path).as_posix(), f"{p.stat().st_size}-{p.stat().st_mtime_ns}") for p in found]
    return _Files(entries, lambda name: (path / name).read_bytes())


def _zip_files(path: Path) -> _Files:
    try:
        archive = zipfile.ZipFile(path)
        infos = [i for i in archive.infolist() if PurePosixPath(i.filename).suffix.lower() in _SUFFIXES]
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is neither a folder nor a whole zip file ({error}); copy it again") from error
    return _Files([(i.filename, f"{i.file_size}-{i.CRC}") for i in infos], archive.read)


def _group(path: Path, names: Sequence[str]) -> dict[str, list[tuple[str | None, str]]]:
    """Returns split -> sorted (class or None, file name)."""
    parts = {n: PurePosixPath(n).parts for n in names}
    parts = {n: p for n, p in parts.items() if not any(q.startswith((".", "__MACOSX")) for q in p)}
    if not parts:
        raise UserError(f"{path} holds no pictures ({', '.join(sorted(_SUFFIXES))}); expected CLASS/x.png")
    # An archive often wraps everything in one folder.
    while len({p[0] for p in parts.values()}) == 1 and all(len(p) > 2 for p in parts.values()):
        if next(iter(parts.values()))[0].lower() in layout.SPLIT_NAMES:
            break
        parts = {n: p[1:] for n, p in parts.items()}
    has_splits = all(len(p) > 1 and p[0].lower() in layout.SPLIT_NAMES for p in parts.values())
    splits: dict[str, list[tuple[str | None, str]]] = {}
    for name, p in sorted(parts.items()):
        split = layout.SPLIT_NAMES[p[0].lower()] if has_splits else "train"
        below = p[1:] if has_splits else p
        splits.setdefault(split, []).append((below[0] if len(below) > 1 else None, name))
    classified = {label is not None for members in splits.values() for label, _ in members}
    if len(classified) > 1:
        loose = next(n for members in splits.values() for label, n in members if label is None)
        raise UserError(f"{path}: {loose} lies outside the class folders beside it; move it into one")
    return splits


def _build(
    path: Path,
    files: _Files,
    members: Sequence[tuple[str | None, str]],
    classes: Sequence[str],
    size: int | None,
    shape: Callable[[], tuple[int, int, int]],
    create: Create,
) -> None:
    names = [name for _, name in members]
    images = create("image", (len(names), *shape()), np.uint8)
    for i, image in enumerate(_in_threads(lambda n: _decode(path, files, n, size, shape()[2]), names)):
        images[i] = image
    if classes:
        number = {c: i for i, c in enumerate(classes)}
        create("label", (len(names),), np.int32)[:] = [number[label] for label, _ in members]


def _in_threads(fn: Callable, names: Sequence[str]) -> Iterator:
    from tqdm import tqdm

    bar = tqdm(total=len(names), desc="reading pictures", disable=None, delay=2)
    with ThreadPoolExecutor(_THREADS) as pool, bar:
        # In portions, so that decoded pictures do not pile up in memory ahead of the disk.
        for begin in range(0, len(names), 1024):
            for result in pool.map(fn, names[begin : begin + 1024]):
                bar.update()
                yield result


def _common_shape(path: Path, files: _Files, names: Sequence[str], size: int | None) -> tuple[int, int, int]:
    """Returns (H, W, C) of the decoded pictures, from their headers."""
    shape, channels = None, 1
    for name, (mode, found) in zip(names, _in_threads(lambda n: _header(path, files, n), names)):
        channels = channels if mode in _GRAY_MODES else 3
        if size is None and shape is not None and found != shape:
            raise UserError(
                f"{path}: {name} is {found[1]}×{found[0]} but {names[0]} is {shape[1]}×{shape[0]}; "
                "scale all to one size with e.g. ?size=64 at the end of the source"
            )
        shape = shape or found
    height, width = (size, size) if size else shape
    return height, width, channels


def _header(path: Path, files: _Files, name: str) -> tuple[str, tuple[int, int]]:
    """Returns the mode and (height, width) of a picture."""
    with _open(path, files, name) as picture:
        return picture.mode, (picture.height, picture.width)


def _decode(path: Path, files: _Files, name: str, size: int | None, channels: int) -> np.ndarray:
    """Returns uint8 [H, W, C]."""
    from PIL import Image

    try:
        with _open(path, files, name) as picture:
            picture = picture.convert("L" if channels == 1 else "RGB")
            if size:
                picture = picture.resize((size, size), Image.Resampling.BICUBIC)
            return np.asarray(picture).reshape(picture.height, picture.width, channels)
    except (OSError, SyntaxError) as error:
        raise _damaged(path, name, error) from error


def _open(path: Path, files: _Files, name: str):
    from PIL import Image

    bomb = Image.DecompressionBombError
    try:
        return Image.open(io.BytesIO(files.read(name)))
    except (OSError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error, bomb) as error:
        raise _damaged(path, name, error) from error


def _damaged(path: Path, name: str, error: Exception) -> UserError:
    return UserError(f"{path}: cannot read the picture {name} ({error}); remove it or copy it again")
