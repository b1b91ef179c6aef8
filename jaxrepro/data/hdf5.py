"""`hdf5:PATH`: a file of the Synbols generator, or any file with images and labels.

Synbols layout (x, mask, y as JSON strings, split/<name>), of our generator or the original: columns image, the
attributes of `jaxrepro.synbols.columns` such as label (the character), font and rotation, with `?masks=true` mask, and
with `?points=a` the columns of `jaxrepro.data.points` for the letter a, which are made once and cached. Characters and
fonts are numbered in sorted order, over the classes that the file lists or those that occur in it; attributes are those
of the first symbol. `?split=stratified_char` chooses one of the stored splits (default "random"). Files of the original
hold channels in the order B, G, R; they are not reordered.

Plain layout: the names of `layout`, at the root (one split, "train") or in groups named after splits.

Files of our generator carry checksums, see `jaxrepro.synbols.seal`; others are compared with their first reading, see
`known`. A file that takes its data from other files (external links, external or virtual datasets) is refused: it could
read any file of the machine.

Rows are read when asked for; the file stays open. What is stored in one piece is mapped into memory. Where enough
rows of a piece of something compressed are wanted, the whole piece is read, because HDF5 picks single rows slowly.
"""

import dataclasses
import functools
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro import digests
from jaxrepro.data import bounds, known, layout
from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Column, Table
from jaxrepro.data.points import point_columns
from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols import seal
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.storage import classes_of, header_of, mapped

_PIECE_ROWS = 4096
_MASK_ROWS = 256  # read together, a chunk or more of compressed masks
_DENSE = 0.1  # share of a piece's rows from which on the whole piece is read


def load(path: Path, *, split: str | None = None, masks: bool = False, points: str = "") -> dict[str, Table]:
    """Returns the splits of an HDF5 file.

    Raises:
      UserError: the file is damaged or not what it was, has no images, no masks where they are needed, or no split of
        that name.
    """
    import h5py

    try:
        foreign = {} if seal.check(path) else {path.name: digests.of_file(path)}
        if foreign:
            known.compare(f"hdf5:{path}", foreign)
        file = h5py.File(path, "r")
        _check_contained(path, file)
        if "x" in file and "y" in file and file["y"].dtype.kind == "O":
            tables = _synbols_tables(path, file, split, masks, points)
        elif split is not None or masks or points:
            raise UserError(f"{path} is no file of Synbols and stores no splits or masks; remove the options")
        else:
            tables = _plain_tables(path, file)
        if foreign:
            known.note(f"hdf5:{path}", foreign)
        return tables
    except UserError:
        raise
    except Exception as error:  # HDF5, h5py and NumPy raise whatever damaged bytes lead to
        raise _damaged(path, error) from error


def _check_contained(path: Path, file: Any) -> None:
    """Raises UserError where a file takes anything from other files, or says to be larger than it can be."""
    import h5py

    links: list[tuple[str, Any]] = []
    file.visititems_links(lambda name, link: links.append((name, link)))  # no error passes through the library
    for name, link in links:
        if isinstance(link, h5py.ExternalLink):
            raise UserError(f"{path}: {name} is a link to another file, {link.filename}; copy its data into this one")
        found = file.get(name) if isinstance(link, h5py.HardLink) else None
        if not isinstance(found, h5py.Dataset):
            continue
        if found.external or found.is_virtual:
            raise UserError(f"{path}: {name} takes its data from other files; copy them into this one")
        if found.dtype.kind in "buif":
            bounds.check_expansion(f"{path}: {name}", found.id.get_storage_size(), _nbytes(found))


def _nbytes(dataset: Any) -> int:
    return math.prod(dataset.shape or ()) * dataset.dtype.itemsize


def read_rows(dataset: Any, rows: np.ndarray) -> np.ndarray:
    """Returns rows of an h5py dataset in any order, with repeats.

    Args:
      dataset: h5py dataset [N, ...].
      rows: int [B] in [0, N).
    """
    wanted, position = np.unique(np.asarray(rows), return_inverse=True)
    found = np.empty((len(wanted), *dataset.shape[1:]), dataset.dtype)
    piece_of = wanted // _PIECE_ROWS
    for piece in np.unique(piece_of):
        begin, end = np.searchsorted(piece_of, [piece, piece + 1])
        part = wanted[begin:end]
        low, high = int(part[0]), int(part[-1]) + 1
        if len(part) >= _DENSE * (high - low):
            found[begin:end] = dataset[low:high][part - low]
        else:
            for i, row in enumerate(part, start=begin):  # three times as fast as dataset[part]
                found[i] = dataset[row]
    return found[position.reshape(-1)]


def _plain_tables(path: Path, file: Any) -> dict[str, Table]:
    import h5py

    groups = {k: v for k, v in file.items() if isinstance(v, h5py.Group) and k.lower() in layout.SPLIT_NAMES}
    splits = {layout.SPLIT_NAMES[k.lower()]: group for k, group in groups.items()} or {"train": file}
    made = {}
    for split, group in splits.items():
        found = {layout.COLUMN_NAMES.get(k.lower(), k): d for k, d in group.items() if isinstance(d, h5py.Dataset)}
        if "image" not in found:
            raise UserError(f"{path} has no images, only {sorted(found) or 'groups'}; name them image, images or x")
        num_rows = len(found["image"])
        layout.check_image(str(path), found["image"].shape, found["image"].dtype)
        stored = {k: d for k, d in found.items() if d.dtype.kind in "buif" and d.ndim and len(d) == num_rows}
        memory = {}
        if "label" in found:
            if "label" not in stored:
                raise UserError(f"{path}: labels must be {num_rows} numbers, one per image")
            memory["label"] = layout.check_labels(str(path), stored.pop("label")[()])
        made[split] = _table(path, split, stored, memory, np.arange(num_rows))
    return made


def _synbols_tables(path: Path, file: Any, split: str | None, masks: bool, points: str) -> dict[str, Table]:
    num_rows = len(file["x"])
    if len(file["y"]) != num_rows:
        raise UserError(f"{path} has {num_rows} images in x but {len(file['y'])} attributes in y; write it again")
    layout.check_image(str(path), file["x"].shape, file["x"].dtype)
    image = mapped(path, file["x"])
    stored = {} if image is not None else {"image": file["x"]}
    if (masks or points) and ("mask" not in file or len(file["mask"]) != num_rows):
        raise UserError(f"{path} stores no masks; remove {'?masks=true' if masks else f'?points={points}'}")
    if masks:
        stored["mask"] = file["mask"]
    stat = path.stat()
    key = {"path": str(path), "bytes": stat.st_size, "modified": stat.st_mtime_ns, "version": 2}
    memory = {} if image is None else {"image": image}
    memory |= cached_arrays(f"hdf5-{path.stem}", key, functools.partial(_build_attributes, path, file))
    if points:
        build = functools.partial(_build_points, path, file, points)
        memory |= cached_arrays(f"points-{path.stem}", key | {"points": points}, build)
    names = zip(("label", "font"), classes_of(file))
    # Where an image shows nothing, its class is -1: whoever asks for the classes has to look at the numbers.
    classes = {name: named for name, named in names if named and memory[name].min() >= 0}
    header = header_of(file)
    found = {"classes": classes, "note": header.note if header else ""}
    return {
        name: dataclasses.replace(_table(path, name, stored, memory, rows), **found)
        for name, rows in _stored_split(path, file, split, num_rows).items()
    }


def _stored_split(path: Path, file: Any, split: str | None, num_rows: int) -> dict[str, np.ndarray]:
    """Returns split name -> row numbers by a partition of the file; all rows as "train" if it has none."""
    partitions = list(file.get("split", {}))
    if split is not None and split not in partitions:
        raise unknown(f"stored split of {path}", split, partitions)
    if not partitions:
        logging.info("%s stores no splits; all its rows are in 'train'", path)
        return {"train": np.arange(num_rows)}
    if split is None:
        split = "random" if "random" in partitions else partitions[0]
    member = file["split"][split][()]
    if member.shape != (num_rows, 3):
        raise UserError(f"{path}: split/{split} is {list(member.shape)}; it must be [{num_rows}, 3]")
    rows = {name: np.flatnonzero(member[:, i]) for i, name in enumerate(("train", "valid", "test"))}
    return {name: found for name, found in rows.items() if len(found)}


def _build_attributes(path: Path, file: Any, create: Create) -> None:
    """Turns the JSON attributes of all rows into columns; takes about 10 s per million rows, hence cached."""
    try:
        columns = attribute_columns([json.loads(text) for text in file["y"]], *classes_of(file))
    except (UserError, ValueError) as error:
        raise UserError(f"{path}: y does not hold the attributes that Synbols writes ({error})") from error
    for name, values in columns.items():
        create(name, values.shape, values.dtype)[:] = values


def _build_points(path: Path, file: Any, counted: str, create: Create) -> None:
    """Reads the masks a piece at a time and keeps their points."""
    from tqdm import tqdm

    num_rows, arrays = len(file["x"]), {}
    with tqdm(total=num_rows, desc=f"points of {path.name}", unit=" images", disable=None, delay=2) as progress:
        for start in range(0, num_rows, _MASK_ROWS):
            rows = slice(start, start + _MASK_ROWS)
            try:
                found = point_columns(file["mask"][rows], [json.loads(text) for text in file["y"][rows]], counted)
            except (KeyError, TypeError) as error:
                raise UserError(f"{path}: y does not hold the attributes that Synbols writes ({error!r})") from error
            for name, values in found.items():
                if name not in arrays:
                    arrays[name] = create(name, (num_rows, *values.shape[1:]), values.dtype)
                arrays[name][rows] = values
            progress.update(len(values))


def _table(
    path: Path, split: str, stored: Mapping[str, Any], memory: Mapping[str, np.ndarray], selected: np.ndarray
) -> Table:
    """Returns a table over `selected` rows of h5py datasets and of arrays in memory."""
    columns = {k: _column(k, d) for k, d in {**stored, **memory}.items()}

    def take(rows: np.ndarray) -> dict[str, np.ndarray]:
        rows = selected[rows]
        try:
            found = {k: read_rows(d, rows) for k, d in stored.items()}
        except (OSError, RuntimeError) as error:
            known.forget(f"hdf5:{path}")
            raise _damaged(path, error) from error
        found = {
            k: a.reshape(len(rows), *columns[k].shape).astype(columns[k].dtype, copy=False) for k, a in found.items()
        }
        return found | {k: a[rows] for k, a in memory.items()}

    return Table(f"hdf5:{path} {split}", len(selected), columns, take)


def _column(name: str, dataset: Any) -> Column:
    shape = tuple(dataset.shape[1:])
    if name == "image" and len(shape) == 2:
        return Column((*shape, 1), np.dtype(np.uint8))
    return Column(shape, dataset.dtype)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged, cut short or no HDF5 file ({error}); copy or write it again")
