"""`npz:PATH`: images and labels in a NumPy archive, read into memory. Names: see `layout`.

The archive's own checksums are verified, and its sizes bounded before anything is read.
"""

import io
from pathlib import Path

import numpy as np

from jaxrepro.data import bounds, layout
from jaxrepro.data.archive import open_archive
from jaxrepro.data.dataset import Table
from jaxrepro.errors import UserError
from jaxrepro.machine import check_memory

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def load(path: Path) -> dict[str, Table]:
    """Returns the splits of an npz file.

    Raises:
      UserError: the file is damaged, holds pickled objects (which could run code) or no images, or is too large.
    """
    splits: dict[str, dict[str, np.ndarray]] = {}
    try:
        with open(path, "rb") as handle:
            if handle.read(6) == np.lib.format.MAGIC_PREFIX:
                raise UserError(f"{path} is a single array, not an npz archive; write it with np.savez")
        with open_archive(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
            bounds.check_expansion(str(path), path.stat().st_size, size)
            check_memory(str(path), size, "store it as HDF5 (hdf5:PATH), which is read in parts")
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                split, column = layout.split_and_column(name)
                if column in splits.setdefault(split, {}):
                    raise UserError(f"{path} holds {column!r} of {split!r} twice, the second time as {name!r}")
                splits[split][column] = _array(path, name, archive.read(info))  # which verifies its checksum
    except UserError:
        raise
    except Exception as error:  # zipfile and its decompressors raise whatever damaged bytes lead to
        raise UserError(f"{path} is damaged or is no npz file ({error}); copy or write it again") from error
    if not splits:
        raise UserError(f"{path} holds no arrays; it needs image (uint8 [N, H, W, C]) and label (int [N])")
    return layout.tables(f"npz:{path}", splits)


def _array(path: Path, name: str, data: bytes) -> np.ndarray:
    """Returns the array of a .npy file over its bytes, which are not copied."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name} has version {version} of the format")
    shape, fortran_order, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise UserError(
            f"{path}: array {name!r} holds pickled objects, which are not read because they can run code; "
            "store it as numbers, or as the HDF5 file of Synbols (hdf5:PATH)"
        )
    array = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")
