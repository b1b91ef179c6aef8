"""`folder:PATH`: pictures in class folders, or a zip file of them.

    CLASS/x.jpg                       one split, "train"
    train/CLASS/x.jpg, test/CLASS/…   splits; also valid, val, validation
    x.jpg                             no classes: images only

Labels number the classes of all splits in sorted order. Pictures are decoded once into the cache. They must
have one size, or `?size=64` scales them to 64 by 64. Gray pictures stay gray (C = 1) if all are, else all
become RGB. Transparency is dropped, the colours beneath it stay, and a line says so; of an animation the first picture
is read. Gray pictures of 16 or 32 bits and floats are refused, because what is black and white in them is not known.
Whenever the pictures are decoded again, they are compared with their first reading, see `known`.
"""

import functools
import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxrepro import digests
from jaxrepro.data import bounds, known, layout
from jaxrepro.data.archive import open_archive
from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Table, table_from_arrays
from jaxrepro.errors import UserError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_GRAY_MODES = {"1", "L"}
_DEEP_MODES = ("I", "F")  # the first letter of Pillow's names for more than 8 bits of gray: I, I;16, I;16B, F
_THREADS = 8


@dataclass(frozen=True)
class _Files:
    """Pictures in a folder or zip file: (name, stamp that changes with the content), their sizes, and a reader."""

    entries: Sequence[tuple[str, str]]
    sizes: Mapping[str, int]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class _Header:
    """What a picture's header says, and a digest of the whole file."""

    mode: str
    shape: tuple[int, int]
    transparent: bool
    digest: str


def load(path: Path, *, size: int | None = None) -> dict[str, Table]:
    """Returns the splits of a folder of pictures.

    Args:
      path: a folder, or a zip file.
      size: if given, pictures are scaled to size × size.

    Raises:
      UserError: no pictures, a damaged or too large one, one of more than 8 bits, pictures of different sizes and no
        `size`, or other pictures than at the first reading.
    """
    if size is not None and size < 1:
        raise UserError(f"folder:{path}?size={size}: the size must be at least 1")
    files = _folder_files(path) if path.is_dir() else _zip_files(path)
    splits = _group(path, [name for name, _ in files.entries])
    classes = sorted({label for members in splits.values() for label, _ in members if label is not None})
    names = [name for members in splits.values() for _, name in members]
    survey = functools.cache(lambda: _survey(path, files, names, size))  # of all splits; a cache hit needs none
    listing = hashlib.sha256(repr(sorted(files.entries)).encode()).hexdigest()
    made = {}
    for split in (s for s in ("train", "valid", "test") if s in splits):
        key = {"path": str(path), "listing": listing, "split": split, "size": size, "version": 2}
        build = functools.partial(_build, path, files, splits[split], classes, size, survey)
        made[split] = table_from_arrays(
            f"folder:{path} {split}", cached_arrays(f"folder-{path.stem}-{split}", key, build)
        )
    if survey.cache_info().currsize:
        known.note(f"folder:{path}", survey()[1])
    return made


def _folder_files(path: Path) -> _Files:
    found = [p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file()]
    stats = {p.relative_to(path).as_posix(): p.stat() for p in found}
    entries = [(name, f"{s.st_size}-{s.st_mtime_ns}") for name, s in stats.items()]
    return _Files(entries, {n: s.st_size for n, s in stats.items()}, lambda name: (path / name).read_bytes())


def _zip_files(path: Path) -> _Files:
    try:
        archive = open_archive(path)
        infos = [i for i in archive.infolist() if PurePosixPath(i.filename).suffix.lower() in _SUFFIXES]
    except Exception as error:  # zipfile raises whatever damaged bytes lead to
        raise UserError(f"{path} is neither a folder nor a whole zip file ({error}); copy it again") from error
    entries = [(i.filename, f"{i.file_size}-{i.CRC}") for i in infos]
    return _Files(entries, {i.filename: i.file_size for i in infos}, archive.read)


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
    survey: Callable[[], tuple[tuple[int, int, int], dict[str, str]]],
    create: Create,
) -> None:
    names, shape = [name for _, name in members], survey()[0]
    images = create("image", (len(names), *shape), np.uint8)
    for i, image in enumerate(_in_threads(lambda n: _decode(path, files, n, size, shape[2]), names)):
        images[i] = image
    if classes:
        number = {c: i for i, c in enumerate(classes)}
        create("label", (len(names),), np.int32)[:] = [number[label] for label, _ in members]


def _in_threads(fn: Callable, names: Sequence[str]) -> Iterator:
    from tqdm import tqdm

    bar = tqdm(total=len(names), desc="reading pictures", disable=None, delay=2)
    with ThreadPoolExecutor(_THREADS) as pool, bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of what is refused here in one line, or does not matter
        # In portions, so that decoded pictures do not pile up in memory ahead of the disk.
        for begin in range(0, len(names), 1024):
            for result in pool.map(fn, names[begin : begin + 1024]):
                bar.update()
                yield result


def _survey(
    path: Path, files: _Files, names: Sequence[str], size: int | None
) -> tuple[tuple[int, int, int], dict[str, str]]:
    """Returns (H, W, C) of the decoded pictures, from their headers, and digests, which were compared."""
    headers = dict(zip(names, _in_threads(lambda n: _header(path, files, n), names)))
    first = headers[names[0]].shape
    for name, header in headers.items():
        if size is None and header.shape != first:
            raise UserError(
                f"{path}: {name} is {header.shape[1]}×{header.shape[0]} but {names[0]} is {first[1]}×{first[0]}; "
                "scale all to one size with e.g. ?size=64 at the end of the source"
            )
    found = {name: header.digest for name, header in headers.items()}
    known.compare(f"folder:{path}", found)
    if transparent := [name for name, header in headers.items() if header.transparent]:
        logging.warning(
            "%s: %d pictures have transparency (%s), which is dropped", path, len(transparent), transparent[0]
        )
    height, width = (size, size) if size else first
    channels = 1 if all(header.mode in _GRAY_MODES for header in headers.values()) else 3
    return (height, width, channels), found


def _header(path: Path, files: _Files, name: str) -> _Header:
    """Raises UserError for a picture that is too large or has more than 8 bits."""
    picture, data = _open(path, files, name)
    with picture:
        if picture.mode.startswith(_DEEP_MODES):
            raise UserError(
                f"{path}: {name} has more than 8 bits a pixel (Pillow's mode {picture.mode}); pictures are read with "
                "8 bits: choose what is black and white and convert it, e.g. with ImageMagick's -auto-level -depth 8"
            )
        if picture.width * picture.height > bounds.MOST_PIXELS:
            raise UserError(
                f"{path}: {name} has {picture.width}×{picture.height} pixels, more than "
                f"{bounds.MOST_PIXELS:,}; make it smaller"
            )
        shape, transparent = (picture.height, picture.width), picture.has_transparency_data
        return _Header(picture.mode, shape, transparent, digests.of_bytes(data))


def _decode(path: Path, files: _Files, name: str, size: int | None, channels: int) -> np.ndarray:
    """Returns uint8 [H, W, C]."""
    from PIL import Image

    try:
        with _open(path, files, name)[0] as picture:
            picture = picture.convert("L" if channels == 1 else "RGB")
            if size:
                picture = picture.resize((size, size), Image.Resampling.BICUBIC)
            return np.asarray(picture).reshape(picture.height, picture.width, channels)
    except UserError:
        raise
    except Exception as error:  # decoders raise whatever damaged bytes lead to
        raise _damaged(path, name, error) from error


def _open(path: Path, files: _Files, name: str) -> tuple[Any, bytes]:
    """Returns a picture that is not decoded yet, and the bytes of its file."""
    from PIL import Image

    if files.sizes[name] > bounds.MOST_PICTURE_BYTES:
        raise UserError(
            f"{path}: {name} has {files.sizes[name] / 2**20:,.0f} MiB, more than "
            f"{bounds.MOST_PICTURE_BYTES / 2**20:.0f}; make it smaller"
        )
    try:
        data = files.read(name)
        return Image.open(io.BytesIO(data)), data
    except Exception as error:  # as above
        raise _damaged(path, name, error) from error


def _damaged(path: Path, name: str, error: Exception) -> UserError:
    return UserError(f"{path}: cannot read the picture {name} ({error}); remove it or copy it again")
