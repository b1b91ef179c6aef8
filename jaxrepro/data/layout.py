"""What files of arrays call their columns and splits, and the form in which tables hold them.

Images may be named image, images or x; labels label, labels or y. In npz files, splits are part of the name,
before or
after: x_train, train_images, train/image. "val" and "validation" mean the split "valid".
"""

import re
from collections.abc import Mapping

import numpy as np

from jaxrepro.data.dataset import Table, table_from_arrays
from jaxrepro.errors import UserError

COLUMN_NAMES = {
    **dict.fromkeys(("image", "images", "x"), "image"),
    **dict.fromkeys(("label", "labels", "y"), "label"),
}
MOST_CLASSES = 1_000_000
SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("valid", "val", "validation"), "valid")}

_SPLIT_FIRST = re.compile(rf"({'|'.join(SPLIT_NAMES)})[_/.-](\w+)", re.IGNORECASE)
_SPLIT_LAST = re.compile(rf"(\w+?)[_/.-]({'|'.join(SPLIT_NAMES)})", re.IGNORECASE)


def split_and_column(name: str) -> tuple[str, str]:
    """Returns ("train", "image") for "x_train" or "train_images", and ("train", "image") for a bare "x"."""
    split, column = "train", name
    if match := _SPLIT_FIRST.fullmatch(name):
        split, column = match[1], match[2]
    elif match := _SPLIT_LAST.fullmatch(name):
        column, split = match[1], match[2]
    return SPLIT_NAMES[split.lower()], COLUMN_NAMES.get(column.lower(), column)


def tables(where: str, splits: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Table]:
    """Returns the tables of arrays in memory, train first.

    Args:
      where: the file, for messages.
      splits: split -> column -> array; every split needs an "image".

    Raises:
      UserError: a split has no images, an array has the wrong type or length.
    """
    made = {}
    for split in sorted(splits, key=lambda s: ("train", "valid", "test", s).index(s)):
        arrays = splits[split]
        if "image" not in arrays:
            raise UserError(f"{where} has no images for {split!r}, only {sorted(arrays)}; name them image, images or x")
        arrays = {k: check_column(where, k, a) for k, a in arrays.items()}
        lengths = {k: len(a) for k, a in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"{where}: the columns of {split!r} need one length; they have {lengths}")
        made[split] = table_from_arrays(f"{where} {split}", arrays)
    return made


def check_column(where: str, name: str, array: np.ndarray) -> np.ndarray:
    """Returns a column in the form of tables: images uint8 [N, H, W, C], labels int32 [N]."""
    if name == "image":
        check_image(where, array.shape, array.dtype)
        return array[..., None] if array.ndim == 3 else array
    return check_labels(where, array) if name == "label" else array


def check_labels(where: str, array: np.ndarray) -> np.ndarray:
    """Returns labels as int32 [N]; -1 means that an image has no class.

    Raises:
      UserError: they are not whole numbers [N] or [N, 1], or not in -1 … MOST_CLASSES - 1.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise UserError(f"{where}: labels must be integers [N], not {array.dtype} {list(array.shape)}")
    wrong = (array < -1) | (array >= MOST_CLASSES) if array.dtype.kind == "i" else array >= MOST_CLASSES
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{where}: the label of row {row} is {array[row]}; labels count the classes from 0, up to "
            f"{MOST_CLASSES - 1:,} (-1: no class)"
        )
    return array.astype(np.int32)


def check_classes(where: str, labels: np.ndarray, num_classes: int, *, unlabelled: bool = False) -> None:
    """Raises UserError unless labels lie in 0 … num_classes - 1; with `unlabelled` also -1, no class."""
    wrong = (labels < (-1 if unlabelled else 0)) | (labels >= num_classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"{where}: the label of row {row} is {labels[row]}; it must be in 0 to {num_classes - 1}")


def check_image(where: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises UserError unless the images are uint8 [N, H, W] or [N, H, W, C] with N ≥ 1."""
    if shape and not shape[0]:
        raise UserError(f"{where} holds no images")
    if dtype != np.uint8:
        raise UserError(f"{where}: images are {dtype}; store them as uint8, 0 to 255")
    if len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3, 4)):
        return
    hint = "; channels come last" if len(shape) == 4 and shape[1] in (1, 3) else ""
    raise UserError(f"{where}: images must be [N, H, W] or [N, H, W, C], not {list(shape)}{hint}")
