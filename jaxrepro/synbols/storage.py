"""Files of rendered samples, in the layout of the original generator.

    with open_file(path) as file:                      # refuses a damaged file in one line
        header_of(file).seed, file["x"].shape
    x, mask, attributes, splits = read(path)           # everything
    export_npz(path, "letters.npz", split="random")    # NumPy arrays without pickles

    x               uint8 [N, H, W, 1 or 3], R G B, stored plainly: noise makes it incompressible, and so it can be
                    mapped into memory
    mask            uint8 [N, H, W] or [N, H, W, K], chunks of up to 256 rows, gzip; a symbol that a sample does not
                    have is an empty channel
    y               JSON of the attributes, ASCII [N]
    split/NAME      bool [N, 3], columns train, valid, test, with its parameters as attributes
    classes/char, classes/font   what the numbers of `attribute_columns` stand for, in order
    sampler         JSON of the distributions that the attributes were drawn from

The file's attributes name the dataset, its seed and options, the generator's version and a hash of the fonts. The same
header and samples give the same bytes. A file gets its name when it is whole, and ends with checksums (`seal`).
"""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols import seal
from jaxrepro.synbols.blocks import (
    LIBVER,
    Block,
    Chunks,
    Layout,
    columns_of,
    create_chunked,
    joined_columns,
    layout_of,
    read_chunks,
    regrouped,
    write_chunks,
    written_whole,
)
from jaxrepro.synbols.columns import attribute_columns, numbered
from jaxrepro.synbols.splits import PARTS, Split, standard_splits
from jaxrepro.synbols.symbols import flatten_attributes

GENERATOR = "jaxrepro.synbols"

_SPLIT_CHUNK = 1000  # rows
_UNWRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG,
)  # fmt: skip
_SLACK_BYTES = 2**22  # more than what HDF5 itself writes about a group of rows


@dataclass(frozen=True)
class Header:
    """Where samples come from. Files with equal headers hold equal samples.

    Attributes:
      dataset, seed, options: what was asked for; `options` are the further arguments of the dataset.
      num_samples: of the whole dataset.
      first_row, stop_row: the samples of this file, all but in a shard.
      generator_version: of the renderer.
      fonts: hash of the font set.
      symbols, font_names: the classes in the order of their numbers; empty: those that occur, sorted.
      note: in what the dataset falls short of the published one, or "".
      sampler: JSON of what the sampler declares; see `declared_json`.
      probe: of a sampler that is a function, a hash of what it draws; see `identity`.
    """

    dataset: str
    seed: int
    options: Mapping[str, Any]
    num_samples: int
    first_row: int
    stop_row: int
    generator_version: int
    fonts: str
    symbols: tuple[str, ...]
    font_names: tuple[str, ...]
    note: str = ""
    sampler: str = ""
    probe: str = ""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def whole(self) -> "Header":
        """Returns the header of the dataset of which this is a shard."""
        return dataclasses.replace(self, first_row=0, stop_row=self.num_samples)


def difference(found: Header, wanted: Header) -> str:
    """Returns the first difference between two headers, such as "seed 0, not 1"."""
    one, other = (json.loads(h.to_json()) for h in (found, wanted))
    changed = next((k for k, v in one.items() if v != other[k]), None)
    if changed is None:
        return "none"
    if changed == "probe":
        return "its sampler draws other samples (was the function edited?)"
    if changed == "sampler":
        return _difference_of_samplers(one["sampler"], other["sampler"])
    return f"{changed.replace('_', ' ')} {_short(one[changed])}, not {_short(other[changed])}"


def _difference_of_samplers(found: str, wanted: str) -> str:
    """Returns such as "sampler scale.median 0.7, not 0.6"."""
    one, other = (flatten_attributes({"sampler": json.loads(text or "null")}) for text in (found, wanted))
    changed = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    name = min(changed, key=lambda n: n.endswith(".type") - len(n) / 1e6)
    return f"{name.replace('.', ' ', 1)} {one.get(name, 'not there')}, not {other.get(name, 'there')}"


def _short(value: Any) -> str:
    return f"{len(value)} classes" if isinstance(value, list) else str(value)


def write_file(path: Path, header: Header, blocks: Iterable[Block], layout: Layout, folder: Path | None = None) -> None:
    """Writes a file under a temporary name and renames it; on any failure nothing is left.

    Args:
      blocks: the samples of the header's rows, in order, in pieces of any size; what `regrouped` need not touch is
        only copied.
      layout: of the file; its masks have as many channels as those of any block, or more.
      folder: for the temporary file, on the same disk; None: that of the file.

    Raises:
      UserError: the disk is full, or the folder cannot be written to.
    """
    import h5py

    temporary = (folder or path.parent) / (path.name + ".tmp")
    num_rows = header.stop_row - header.first_row
    groups = regrouped(blocks, layout, num_rows)
    try:
        with unwritable_is_a_user_error(path), h5py.File(temporary, "w", libver=LIBVER) as file:
            first = next(groups)
            _reserve(temporary, file, num_rows * first.x[0].size)
            for name, value in _header_attributes(header).items():
                file.attrs[name] = value
            x = file.create_dataset("x", (num_rows, *first.x.shape[1:]), np.uint8, track_times=False)
            mask = create_chunked(file, "mask", (num_rows, *layout.mask_shape), layout.chunk)
            y = file.create_dataset("y", num_rows, h5py.string_dtype("ascii"), track_times=False)
            done, columns = 0, []
            for group in chain([first], groups):
                _reserve(temporary, file, sum(len(b) for _, b in group.mask.data) + sum(map(len, group.y)))
                stop = done + len(group.y)
                x[done:stop], y[done:stop] = group.x, np.array(group.y, object)
                write_chunks(mask, done, group.mask)
                columns.append(group.columns)
                done = stop
            strings = h5py.string_dtype("utf-8")
            file.create_dataset("sampler", data=header.sampler, dtype=strings, track_times=False)
            for name, classes in (("char", header.symbols), ("font", header.font_names)):
                file.create_dataset(f"classes/{name}", data=list(classes), dtype=strings, track_times=False)
            if num_rows == header.num_samples:
                joined = joined_columns(columns)
                # By what occurs, as the original does; the number of a class makes no difference.
                joined |= {"label": numbered("char", joined["char"]), "font": numbered("font", joined["font name"])}
                for name, split in standard_splits(joined).items():
                    write_split(file, name, split)
        with unwritable_is_a_user_error(path):
            _cut_to_size(temporary)
            seal.write(temporary)
            _sync(temporary)
            temporary.rename(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_split(file: Any, name: str, split: Split) -> None:
    """Stores a partition and its parameters in an open file."""
    shape = split.member.shape
    dataset = create_chunked(file, f"split/{name}", shape, min(shape[0], _SPLIT_CHUNK), bool)
    dataset[:] = split.member
    for key, value in split.parameters.items():
        dataset.attrs[key] = value


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Any]:
    """Opens a file of this generator or the original for reading.

    Raises:
      UserError: it does not exist, is cut short or damaged, or is no file of Synbols.
    """
    import h5py

    try:
        seal.check(path)
        with h5py.File(path, "r") as file:
            if not {"x", "y"} <= set(file) or len(file["x"]) != len(file["y"]):
                raise UserError(f"{path} is no file of Synbols: it must hold x and y of one length")
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise UserError(f"{path} is damaged, cut short or no HDF5 file ({error}); copy or write it again") from error


def header_of(file: Any) -> Header | None:
    """Returns the header of an open file; None if another program wrote it."""
    if file.attrs.get("generator") != GENERATOR:
        return None
    newer = ("note", "probe")  # than the first files
    values = {k: file.attrs.get(k, "") if k in newer else file.attrs[k] for k in _header_attributes(_EMPTY)}
    return Header(
        **{k: values[k] for k in ("dataset", "fonts", *newer)},
        sampler=file["sampler"].asstr()[()] if "sampler" in file else "",
        options=json.loads(values["options"]),
        **{k: int(values[k]) for k in ("seed", "num_samples", "first_row", "stop_row", "generator_version")},
        **{k: names or () for k, names in zip(("symbols", "font_names"), classes_of(file))},
    )


def classes_of(file: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Returns the characters and fonts of an open file, in the order of their numbers; None where not recorded."""
    names = ("classes/char", "classes/font")
    return tuple(tuple(file[n].asstr()[()]) if n in file and len(file[n]) else None for n in names)


def read(path: Path) -> tuple[np.ndarray, np.ndarray, list[dict], dict[str, np.ndarray]]:
    """Returns all of a file: images, masks, attribute dicts, and the splits as bool [N, 3]."""
    with open_file(path) as file:
        return (file["x"][()], file["mask"][()], *_attributes_and_splits(file))


def read_attributes(path: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Returns the attribute dicts and splits of a file."""
    with open_file(path) as file:
        return _attributes_and_splits(file)


def read_blocks(path: Path) -> Iterator[Block]:
    """Yields the samples of a file of this generator in order, in its groups, with their masks as they are stored."""
    with open_file(path) as file:
        x, mask, y = file["x"], file["mask"], file["y"]
        layout = layout_of(x.shape[1:], mask.shape[1:], len(x))
        as_stored = mask.chunks[0] == layout.chunk
        for start in range(0, len(x), layout.group):
            stop = min(start + layout.group, len(x))
            texts = [bytes(text) for text in y[start:stop]]
            masks = Chunks(layout, read_chunks(mask, layout.chunk, start, stop)) if as_stored else mask[start:stop]
            yield Block(x[start:stop], masks, texts, columns_of([json.loads(text) for text in texts]))


def mapped(path: Path, dataset: Any) -> np.ndarray | None:
    """Returns a dataset of an open file as a read-only array mapped into memory; None where it is compressed."""
    offset = dataset.id.get_offset()  # None unless the data lie in one piece
    if offset is None or dataset.dtype.kind not in "buif" or not dataset.size:
        return None
    return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)


def export_npz(path: Path, out: Path, split: str | None = None) -> None:
    """Writes a file as a compressed NumPy archive that `np.load` opens without pickles.

    Arrays: image, mask, the columns of `attribute_columns`, and attributes, the JSON as bytes [N]. With `split`, each
    array once for every part: "train/image", …, which is what the data source npz:PATH reads.

    Raises:
      UserError: a damaged file, an unknown split, a full disk.
    """
    with open_file(path) as file:
        splits = file.get("split", {})
        if split is not None and split not in splits:
            raise unknown(f"split of {path}", split, splits)
        texts = file["y"][()]
        arrays = {"image": file["x"][()], "mask": file["mask"][()], "attributes": np.array(list(texts), np.bytes_)}
        arrays |= attribute_columns([json.loads(y) for y in texts], *classes_of(file))
        if split is not None:
            member = splits[split][()]
            arrays = {f"{p}/{k}": a[member[:, i]] for i, p in enumerate(PARTS) for k, a in arrays.items()}
    with unwritable_is_a_user_error(out), written_whole(out) as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)


@contextlib.contextmanager
def unwritable_is_a_user_error(path: Path) -> Iterator[None]:
    """Turns the system's "no space left", also as HDF5 reports it, and "permission denied" and such into one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if getattr(error, "errno", None) in numbers or any(f"errno = {n}," in str(error) for n in numbers):
            raise UserError(f"no room left for {path}; free some space, then the same command continues") from error
        named = getattr(error, "filename", None)
        is_beside = named is None or path.absolute().parent in Path(os.fsdecode(named)).absolute().parents
        if getattr(error, "errno", None) in _UNWRITABLE and is_beside:
            raise UserError(f"cannot write {path}: {os.strerror(error.errno)}") from error
        raise


def check_room(path: Path, folder: Path, num_bytes: int) -> None:
    """Raises UserError if a disk cannot hold so much, beside what `folder` holds of it already."""
    try:
        there = sum(piece.stat().st_size for piece in folder.glob("*.np?"))
    except OSError:  # another process writes the same file, or there can be no such folder
        there = 0
    free = shutil.disk_usage(path.absolute().parent).free + there
    if num_bytes > free:
        raise UserError(
            f"{path} would take {num_bytes / 1e9:,.1f} GB or more, of which {free / 1e9:,.1f} GB are free; "
            "take fewer samples, or another disk"
        )


_EMPTY = Header("", 0, {}, 0, 0, 0, 0, "", (), ())


def _header_attributes(header: Header) -> dict[str, Any]:
    """Returns what is written as attributes of the file; the classes and the sampler may be too long for that."""
    values = dataclasses.asdict(header) | {"options": json.dumps(header.options, sort_keys=True)}
    return {"generator": GENERATOR} | {k: v for k, v in values.items() if k not in ("symbols", "font_names", "sampler")}


def _attributes_and_splits(file: Any) -> tuple[list[dict], dict[str, np.ndarray]]:
    return [json.loads(y) for y in file["y"]], {k: d[()] for k, d in file.get("split", {}).items()}


def _reserve(path: Path, file: Any, num_bytes: int) -> None:
    """Claims room on the disk for what is written next: HDF5 cannot close a file on a full disk and crashes later."""
    if hasattr(os, "posix_fallocate"):
        try:
            with open(path, "r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, file.id.get_filesize() + num_bytes + _SLACK_BYTES)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that cannot reserve
                raise


def _cut_to_size(path: Path) -> None:
    """Gives back what was reserved behind the end that HDF5 has noted."""
    with open(path, "r+b") as handle:
        (size,) = struct.unpack_from("<Q", handle.read(36), 28)  # superblock, version 2 or 3: end of file
        handle.truncate(size)


def _sync(path: Path) -> None:
    """Waits until a file is on the disk."""
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
