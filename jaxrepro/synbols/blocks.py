"""Consecutive samples on their way into a file, in the form in which several processes can share the work.

    block = pack(x, mask, attributes)        # in a worker: text, columns and compressed masks are made here
    save(folder / "0-512", block)            # where the process that writes the file finds it
    regrouped(blocks, layout, num_rows)      # that process, which copies bytes and computes next to nothing

Masks travel as finished chunks of the file. HDF5 itself compresses them, in memory, so that the bytes do not depend on
the zlib of whoever made a part. Whatever the pieces were, `regrouped` gives groups of a size that follows from the
shape of a sample alone, and so the order of writing, and with it every byte of the file, does not depend on the pieces.
"""

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.symbols import attributes_json

MOST_ROWS = 512
_CHUNK_BYTES = 2**18  # of masks, uncompressed
_GROUP_BYTES = 2**25  # of images and masks; a process holds about two groups
LIBVER = ("v110", "v110")  # fixed, so that bytes do not depend on the version of HDF5; the original's reader knows it


class Layout(NamedTuple):
    """How samples of one shape lie in a file.

    Attributes:
      mask_shape: (H, W) or (H, W, K).
      chunk: samples of a chunk of masks.
      group: samples that are written, or rendered, together; a multiple of `chunk`.
    """

    mask_shape: tuple[int, ...]
    chunk: int
    group: int


class Chunks(NamedTuple):
    """Compressed masks: (filter mask, bytes) of each chunk of `layout.chunk` samples; the last is filled up with 0."""

    layout: Layout
    data: list[tuple[int, bytes]]


class Block(NamedTuple):
    """Consecutive samples.

    Attributes:
      x: uint8 [B, H, W, C].
      mask: uint8 [B, H, W] or [B, H, W, K], or these as Chunks.
      y: JSON of the attributes, ASCII [B].
      columns: of `attribute_columns`, whose label and font number what occurs in this block, and as "char" and "font
        name" what these numbers stand for.
    """

    x: np.ndarray
    mask: np.ndarray | Chunks
    y: list[bytes]
    columns: dict[str, Any]


def layout_of(image_shape: Sequence[int], mask_shape: Sequence[int], num_rows: int) -> Layout:
    """Returns the layout of samples of this shape in a file of so many; sizes are powers of two where there are enough.

    A group takes up to 32 MiB: 512 samples of 128 × 128 pixels, 8 of 1024 × 1024.
    """
    mask_bytes = int(np.prod(mask_shape))
    chunk = _power_of_two(min(MOST_ROWS // 2, _CHUNK_BYTES // mask_bytes))
    group = max(chunk, _power_of_two(min(MOST_ROWS, _GROUP_BYTES // (int(np.prod(image_shape)) + mask_bytes))))
    return Layout(tuple(mask_shape), min(chunk, num_rows), group)


def pack(x: np.ndarray, mask: np.ndarray, attributes: Sequence[Mapping[str, Any]], layout: Layout | None) -> Block:
    """Returns samples as a block; its masks are compressed if they fit the layout."""
    y = [attributes_json(a).encode("ascii") for a in attributes]
    fits = layout is not None and layout.mask_shape == mask.shape[1:]
    return Block(x, compressed(mask, layout) if fits else mask, y, columns_of(attributes))


def mask_shape(block: Block) -> tuple[int, ...]:
    """Returns the shape of the masks of one sample."""
    return block.mask.layout.mask_shape if isinstance(block.mask, Chunks) else block.mask.shape[1:]


def columns_of(attributes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the columns of a block."""
    columns: dict[str, Any] = attribute_columns(attributes)
    return columns | {"char": [a.get("char") for a in attributes], "font name": [a.get("font") for a in attributes]}


def joined_columns(blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the columns of several blocks as those of one."""
    blocks = list(blocks)
    return {
        k: list(chain.from_iterable(b[k] for b in blocks))
        if isinstance(v, list)
        else np.concatenate([b[k] for b in blocks])
        for k, v in blocks[0].items()
    }


def compressed(mask: np.ndarray, layout: Layout) -> Chunks:
    """Returns masks [B, …] as chunks."""
    num_chunks = -(-len(mask) // layout.chunk)
    with _in_memory() as file:
        dataset = create_chunked(file, "mask", (num_chunks * layout.chunk, *layout.mask_shape), layout.chunk)
        dataset[: len(mask)] = mask
        file.flush()
        return Chunks(layout, read_chunks(dataset, layout.chunk))


def decompressed(mask: np.ndarray | Chunks, num_rows: int) -> np.ndarray:
    """Returns masks [num_rows, …]."""
    if isinstance(mask, np.ndarray):
        return mask
    with _in_memory() as file:
        shape = (len(mask.data) * mask.layout.chunk, *mask.layout.mask_shape)
        dataset = create_chunked(file, "mask", shape, mask.layout.chunk)
        write_chunks(dataset, 0, mask)
        return dataset[:num_rows]


def create_chunked(file: Any, name: str, shape: tuple[int, ...], chunk: int, dtype: Any = np.uint8) -> Any:
    """Returns a new compressed dataset of an open file, in chunks of so many rows."""
    return file.create_dataset(
        name, shape, dtype, chunks=(chunk, *shape[1:]), compression="gzip", compression_opts=1, track_times=False
    )


def read_chunks(dataset: Any, chunk: int, start: int = 0, stop: int | None = None) -> list[tuple[int, bytes]]:
    """Returns (filter mask, bytes) of the chunks that hold the rows start … stop-1."""
    rest = (0,) * (dataset.ndim - 1)
    rows = range(start, len(dataset) if stop is None else stop, chunk)
    return [(m, bytes(b)) for m, b in (dataset.id.read_direct_chunk((row, *rest)) for row in rows)]


def write_chunks(dataset: Any, start: int, mask: Chunks) -> None:
    """Places chunks in a dataset, the first at row `start`."""
    rest = (0,) * (dataset.ndim - 1)
    for i, (filter_mask, data) in enumerate(mask.data):
        dataset.id.write_direct_chunk((start + i * mask.layout.chunk, *rest), data, filter_mask)


def regrouped(blocks: Iterable[Block], layout: Layout, num_rows: int) -> Iterator[Block]:
    """Yields the same samples in groups of the layout, the last one smaller, with their masks as its chunks.

    Blocks that are such groups are passed on as they are.

    Args:
      num_rows: of all blocks together.
    """
    waiting: list[Block] = []
    done = 0
    for block in blocks:
        rows = len(block.y)
        whole = rows == layout.group or (rows < layout.group and done + rows == num_rows)
        if not waiting and whole and isinstance(block.mask, Chunks) and block.mask.layout == layout:
            done += rows
            yield block
            continue
        mask = decompressed(block.mask, rows)
        if len(layout.mask_shape) == 3:
            mask = pad_mask(mask, layout.mask_shape[-1])
        waiting.append(block._replace(mask=mask))
        while (size := sum(len(b.y) for b in waiting)) >= layout.group or (size and done + size == num_rows):
            one = _joined(waiting)
            first, rest = _cut(one, 0, layout.group), _cut(one, layout.group, size)
            waiting = [rest] if rest.y else []
            done += len(first.y)
            yield first._replace(mask=compressed(first.mask, layout))
    if waiting:
        raise ValueError(f"{done + sum(len(b.y) for b in waiting)} samples, not {num_rows}")


def pad_mask(mask: np.ndarray, channels: int) -> np.ndarray:
    """Returns masks [..., K] with empty channels up to `channels`."""
    return np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, channels - mask.shape[-1])])


def save(path: Path, block: Block) -> None:
    """Writes a block as PATH.npy, its images, and PATH.npz, which is there when the block is whole."""
    mask = block.mask
    x = np.ascontiguousarray(block.x)
    fields = {"y": np.frombuffer(b"\n".join(block.y), np.uint8), "checksum": np.array(zlib.crc32(x))}
    if isinstance(mask, Chunks):
        fields["chunks"] = np.frombuffer(b"".join(b for _, b in mask.data), np.uint8)
        fields["sizes"] = np.array([(m, len(b)) for m, b in mask.data])
        fields["layout"] = np.array([mask.layout.chunk, mask.layout.group, *mask.layout.mask_shape])
    else:
        fields["mask"] = mask
    for name, values in block.columns.items():
        text = np.frombuffer(json.dumps(values).encode(), np.uint8) if isinstance(values, list) else values
        fields[f"columns/{name}"] = text
    with written_whole(_beside(path, ".npy")) as handle:
        # np.save would not say that the disk is full, but "requested and … written".
        np.lib.format.write_array_header_1_0(handle, np.lib.format.header_data_from_array_1_0(block.x))
        handle.write(x.data)
    with written_whole(_beside(path, ".npz")) as handle:
        np.savez(handle, **fields)


def load(path: Path) -> Block:
    """Returns a saved block; its images stay on the disk until they are used.

    Raises:
      UserError: it is damaged; it is deleted then.
    """
    try:
        with zipfile.ZipFile(_beside(path, ".npz")) as file:
            if wrong := file.testzip():
                raise ValueError(f"another checksum of {wrong}")
        with np.load(_beside(path, ".npz")) as file:
            fields = {k: file[k] for k in file.files}
        x = np.load(_beside(path, ".npy"), mmap_mode="r")
        if zlib.crc32(x) != fields["checksum"]:
            raise ValueError("another checksum of its images")
        mask = fields.get("mask")
        if mask is None:
            chunk, group, *shape = fields["layout"].tolist()
            ends = np.cumsum(fields["sizes"][:, 1])
            data = [p.tobytes() for p in np.split(fields["chunks"], ends[:-1])]
            mask = Chunks(Layout(tuple(shape), chunk, group), list(zip(fields["sizes"][:, 0].tolist(), data)))
        names = {k: v for k, v in fields.items() if k.startswith("columns/")}
        columns = {k.partition("/")[2]: json.loads(v.tobytes()) if v.dtype == np.uint8 else v for k, v in names.items()}
        return Block(x, mask, fields["y"].tobytes().split(b"\n"), columns)
    except Exception as error:  # of several libraries, whatever damaged bytes lead to
        for suffix in (".npy", ".npz"):
            _beside(path, suffix).unlink(missing_ok=True)
        raise UserError(f"{path} is damaged ({error}) and was deleted; the same command renders it again") from error


def saved(folder: Path) -> set[tuple[int, int]]:
    """Returns the (start, stop) of all blocks that were saved whole under the names START-STOP of a folder."""
    names = [path.stem.split("-") for path in folder.glob("*-*.npz")]
    return {(int(n[0]), int(n[1])) for n in names if len(n) == 2}


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Any]:
    """Opens a temporary file that gets its name when all was written; on any failure nothing is left."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as handle:
            yield handle
        temporary.rename(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _power_of_two(n: int) -> int:
    return 1 << (max(1, n).bit_length() - 1)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _in_memory() -> Any:
    import h5py

    return h5py.File("memory", "w", driver="core", backing_store=False, libver=LIBVER)


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    x, mask, y, columns = zip(*blocks)
    return Block(np.concatenate(x), np.concatenate(mask), list(chain.from_iterable(y)), joined_columns(columns))


def _cut(block: Block, start: int, stop: int) -> Block:
    x, mask, y, columns = block
    rows = slice(start, stop)
    return Block(x[rows], mask[rows], y[rows], {k: v[rows] for k, v in columns.items()})
