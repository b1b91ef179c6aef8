"""Square pictures of one size from larger ones, on the device; and random rows of a table as such pictures."""

import functools
from collections.abc import Sequence
from enum import StrEnum

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.data.dataset import Table
from jaxrepro.errors import UserError, unknown
from jaxrepro.rng import generator


class Fit(StrEnum):
    """How images get their size. RESIZE: the shorter side, then cut the centre. CROP: cut the centre."""

    RESIZE = "resize"
    CROP = "crop"


def square(images: jax.Array, size: int, fit: Fit = Fit.RESIZE) -> jax.Array:
    """Returns images [B, H, W, C] as float32 [B, size, size, C], in the same range; shrinking is antialiased.

    Raises:
      ValueError: images are too small to be cropped.
    """
    height, width = images.shape[1:3]
    images = images.astype(jnp.float32)
    if fit == Fit.RESIZE and min(height, width) != size:
        height, width = (round(side * size / min(height, width)) for side in (height, width))
        images = jax.image.resize(images, (len(images), height, width, images.shape[3]), "bilinear")
    if min(height, width) < size:
        raise ValueError(f"cannot cut {size}×{size} from {height}×{width}")
    top, left = (height - size) // 2, (width - size) // 2
    return images[:, top : top + size, left : left + size]


def check_squares(table: Table, size: int, channels: int, fit: Fit) -> None:
    """Raises UserError unless the images of a table can be made to [size, size, channels]."""
    height, width, found = table.columns["image"].shape
    if found != channels:
        raise UserError(f"{table.name} has images of {found} channels; config.model.image_channels is {channels}")
    if fit == Fit.CROP and min(height, width) < size:
        raise UserError(
            f"{table.name} has images of {height}×{width}; config.fit=crop cannot cut {size}×{size} of them"
        )


def read_squares(
    table: Table, size: int, fit: Fit = Fit.RESIZE, *, columns: Sequence[str] = (), limit: int = 0
) -> dict[str, np.ndarray]:
    """Returns `limit` random rows (0 = all, shuffled): "image" uint8 [N, size, size, C] and columns of classes [N].

    The choice is always the same; sources may be sorted by class.

    Raises:
      UserError: no such column, or one that does not hold one class per row.
    """
    for name in columns:
        if name not in table.columns:
            raise unknown(f"column of {table.name}", name, table.columns)
        column = table.columns[name]
        if column.shape or np.dtype(column.dtype).kind not in "biu":
            raise UserError(f"column {name!r} of {table.name} holds no classes but {column.dtype} {list(column.shape)}")
    found = table.take(generator(0, "evaluators").permutation(table.num_rows)[: limit or None])
    return {"image": squares(found["image"], size, fit), **{name: found[name] for name in columns}}


def squares(images: np.ndarray, size: int, fit: Fit = Fit.RESIZE) -> np.ndarray:
    """Returns uint8 images [N, H, W, C] as uint8 [N, size, size, C]; themselves where they have that size."""
    if images.shape[1:3] == (size, size):
        return images
    resize = _resizer(size, fit)
    return np.concatenate([np.asarray(resize(images[i : i + 500])) for i in range(0, len(images), 500)])


@functools.cache
def _resizer(size: int, fit: Fit):
    return jax.jit(lambda a: jnp.round(square(a, size, fit)).astype(jnp.uint8))
