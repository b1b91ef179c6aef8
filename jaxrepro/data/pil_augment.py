"""Affine warps and colour changes as torchvision makes them with PIL, for whole batches on the device, inside jit.

    images = random_warp(affine_key, images, max_rotation=0.17, max_translation=0.1, scale=(0.9, 1.1), max_shear=0.03)
    images = random_colors(color_key, images, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4)

One key per batch; example i uses `fold_in(key, i)`. Images are float [B, H, W, C] in [0, 1] before and after. The
originals round to 8 bits after every operation; here numbers stay floats.
"""

from dataclasses import dataclass
from typing import NamedTuple

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.data.augment import example_keys
from jaxrepro.data.zoom import cubic
from jaxrepro.errors import check

Array = jax.Array
LUMA = (0.299, 0.587, 0.114)
NUM_COLOR_OPERATIONS = 4


class Affine(NamedTuple):
    """One warp about the centre of an image, or with leading axes [B] one per image.

    Attributes:
      angle: radians, positive = clockwise on the screen.
      right, down: pixels that the content moves by, after everything else.
      scale: above 1 enlarges the content.
      shear_x, shear_y: radians.
    """

    angle: Array
    right: Array
    down: Array
    scale: Array
    shear_x: Array
    shear_y: Array


class Colors(NamedTuple):
    """One change of colours, or with leading axes [B] one per image.

    Attributes:
      brightness, contrast, saturation: factors; 1 changes nothing.
      hue: turn of the hue as a share of the circle.
      order: int32 [4], which operation comes first, second, …, as positions in the three factors and the hue.
    """

    brightness: Array
    contrast: Array
    saturation: Array
    hue: Array
    order: Array


def draw_affine(
    key: Array,
    num_examples: int,
    size: tuple[int, int],
    *,
    max_rotation: float,
    max_translation: float,
    scale: tuple[float, float],
    max_shear: float,
) -> Affine:
    """Returns random warps [B] for images of this (height, width).

    Args:
      max_rotation, max_shear: radians; angle and both shears are U(-max, max).
      max_translation: share of the sides; both shifts are U(-max, max) times the side, rounded to whole pixels.
      scale: lowest and highest factor, uniform.
    """
    height, width = size

    def one(key):
        signed_key, scale_key = jax.random.split(key)
        angle, right, down, shear_x, shear_y = jax.random.uniform(signed_key, (5,), minval=-1.0)
        factor = jax.random.uniform(scale_key, minval=scale[0], maxval=scale[1])
        return Affine(
            angle * max_rotation,
            jnp.round(right * max_translation * width),
            jnp.round(down * max_translation * height),
            factor,
            shear_x * max_shear,
            shear_y * max_shear,
        )

    return jax.vmap(one)(example_keys(key, num_examples))


def warp(image: Array, affine: Affine) -> Array:
    """Returns one image float [H, W, C] warped with bicubic interpolation; zero where it looks outside the image.

    As PIL computes it: the cubic kernel has the parameter -1, and within half a pixel of the border the outermost
    pixels are repeated. The result is clipped to [0, 1].
    """
    height, width, _ = image.shape
    lean = affine.angle - affine.shear_y
    a, c = jnp.cos(lean) / jnp.cos(affine.shear_y), jnp.sin(lean) / jnp.cos(affine.shear_y)
    b = -a * jnp.tan(affine.shear_x) - jnp.sin(affine.angle)
    d = -c * jnp.tan(affine.shear_x) + jnp.cos(affine.angle)
    # Content at offset p from the centre goes to scale [[a, b], [c, d]] p + shift, a matrix of determinant 1.
    x = jnp.arange(width)[None, :] + 0.5 - width / 2 - affine.right
    y = jnp.arange(height)[:, None] + 0.5 - height / 2 - affine.down
    source_x = (d * x - b * y) / affine.scale + width / 2
    source_y = (-c * x + a * y) / affine.scale + height / 2
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    rows, row_weights = _taps(source_y - 0.5, height)
    columns, column_weights = _taps(source_x - 0.5, width)
    patches = image[rows[..., :, None], columns[..., None, :]]  # [H, W, 4, 4, C]
    weights = row_weights[..., :, None] * column_weights[..., None, :]
    warped = (patches * weights[..., None]).sum((-3, -2))
    return jnp.where(inside[..., None], jnp.clip(warped, 0.0, 1.0), 0.0)


def _taps(position: Array, size: int) -> tuple[Array, Array]:
    """Returns the four pixels around positions [...] and their weights, both [..., 4]."""
    first = jnp.floor(position)
    t = position - first
    taps = jnp.arange(-1, 3)
    pixels = first.astype(jnp.int32)[..., None] + taps
    return jnp.clip(pixels, 0, size - 1), cubic(jnp.abs(t[..., None] - taps), jnp)


def random_warp(
    key: Array,
    images: Array,
    *,
    max_rotation: float,
    max_translation: float,
    scale: tuple[float, float],
    max_shear: float,
) -> Array:
    """Returns every image with its own random warp; see `draw_affine` and `warp`."""
    affine = draw_affine(
        key,
        len(images),
        images.shape[1:3],
        max_rotation=max_rotation,
        max_translation=max_translation,
        scale=scale,
        max_shear=max_shear,
    )
    return jax.vmap(warp)(images, affine)


def draw_colors(
    key: Array, num_examples: int, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Colors:
    """Returns random changes of colour [B].

    Args:
      brightness, contrast, saturation: x for factors U(1 - x, 1 + x).
      hue: the turn is U(-hue, hue).
    """

    def one(key):
        draw_key, order_key = jax.random.split(key)
        draws = jax.random.uniform(draw_key, (4,), minval=-1.0)
        order = jax.random.permutation(order_key, NUM_COLOR_OPERATIONS)
        return Colors(
            1 + draws[0] * brightness, 1 + draws[1] * contrast, 1 + draws[2] * saturation, draws[3] * hue, order
        )

    return jax.vmap(one)(example_keys(key, num_examples))


def change_colors(image: Array, colors: Colors) -> Array:
    """Returns one image float [H, W, 3] in [0, 1] after the four operations in their order, clipped after each.

    Brightness multiplies; contrast blends with the image's mean grey, rounded to 8 bits; saturation blends with the
    grey version; hue turns.
    """
    operations = (
        lambda image: _blend(0.0, image, colors.brightness),
        lambda image: _blend(jnp.round(255 * _grey(image).mean()) / 255, image, colors.contrast),
        lambda image: _blend(_grey(image), image, colors.saturation),
        lambda image: jnp.clip(pix.adjust_hue(image, colors.hue), 0.0, 1.0),
    )
    for position in range(NUM_COLOR_OPERATIONS):
        image = jax.lax.switch(colors.order[position], operations, image)
    return image


def _grey(image: Array) -> Array:
    """The luma [H, W, 1] of an image [H, W, 3]."""
    return (image * jnp.array(LUMA)).sum(-1, keepdims=True)


def _blend(other: Array | float, image: Array, factor: Array) -> Array:
    return jnp.clip(other + factor * (image - other), 0.0, 1.0)


def random_colors(
    key: Array, images: Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Array:
    """Returns every image [B, H, W, 3] with its own random colours; see `draw_colors` and `change_colors`."""
    colors = draw_colors(key, len(images), brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    return jax.vmap(change_colors)(images, colors)


@dataclass(frozen=True)
class PlusConfig:
    """The augmentation of the rows with "+" in the Synbols tables.

    Attributes:
      plus: whether training images are augmented; the rest are the ranges.
      max_rotation, max_shear: degrees.
      max_translation: share of the side.
      scale: lowest and highest factor.
      brightness, contrast, saturation, hue: of images in colour, see `draw_colors`.
    """

    plus: bool = False
    max_rotation: float = 10.0
    max_translation: float = 0.1
    scale: tuple[float, ...] = (0.9, 1.1)
    max_shear: float = 2.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.4

    def __post_init__(self):
        usable = len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1]
        check(usable, f"scale is {self.scale}; write two factors such as (0.9,1.1)")


def random_plus(key: Array, images: Array, config: PlusConfig) -> Array:
    """Returns images [B, H, W, 1 or 3] with a random warp each, and where they have colours random ones after it."""
    warp_key, color_key = jax.random.split(key)
    images = random_warp(
        warp_key,
        images,
        max_rotation=np.deg2rad(config.max_rotation),
        max_translation=config.max_translation,
        scale=config.scale,
        max_shear=np.deg2rad(config.max_shear),
    )
    if images.shape[-1] == 1:
        return images
    strengths = {k: getattr(config, k) for k in ("brightness", "contrast", "saturation", "hue")}
    return random_colors(color_key, images, **strengths)
