"""`npz:PATH`: images and labels in a NumPy archive, read into memory. Names: see `layout`."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxrepro.data import layout
from jaxrepro.data.dataset import Table
from jaxrepro.errors import UserError


def load(path: Path) -> dict[str, Table]:
    """Returns the splits of an npz file.

    Raises:
      UserError: the file is damaged, holds pickled objects (which could run code) or no images.
    """
    splits: dict[str, dict[str, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{path} is a single array, not an npz archive; write it with np.savez")
            for name in archive.files:
                split, column = layout.split_and_column(name)
                splits.setdefault(split, {})[column] = _member(path, archive, name)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged or is no npz file ({error}); copy or write it again") from error
    if not splits:
        raise UserError(f"{path} holds no arrays; it needs image (uint8 [N, H, W, C]) and label (int [N])")
    return layout.tables(f"npz:{path}", splits)


def _member(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return archive[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise UserError(
            f"{path}: array {name!r} holds pickled objects, which are not read because they can run code; "
            "store it as numbers, or as the HDF5 file of Synbols (hdf5:PATH)"
        ) from error
