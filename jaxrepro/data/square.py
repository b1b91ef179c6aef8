"""Square pictures of one size from larger ones, on the device."""

from enum import StrEnum

import jax
import jax.numpy as jnp


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
