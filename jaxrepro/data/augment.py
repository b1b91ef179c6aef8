"""Augmentation of whole batches on the device, inside jit.

    images = random_crop(key, images, 32, padding=4)
    images = random_flip(key, images)

Every function takes one key per batch; example i uses `fold_in(key, i)`, so its picture does not depend on
the others. Give each operation its own key (`jax.random.split`). Images are float [B, H, W, C] unless said
otherwise.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxrepro.data.zoom import zoom_matrices

Array = jax.Array


def example_keys(key: Array, num_examples: int) -> Array:
    """Returns one key per position in the batch [B]."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_examples))


def random_crop(key: Array, images: Array, size: int, padding: int = 0) -> Array:
    """Cuts a random square out of every image.

    Args:
      key: key of the batch.
      images: any dtype [B, H, W, C].
      size: side of the square in pixels.
      padding: zeros put on every side first.

    Returns:
      [B, size, size, C].

    Raises:
      ValueError: the padded images are smaller than the square.
    """
    num_examples, height, width, channels = images.shape
    room = jnp.array([height + 2 * padding - size, width + 2 * padding - size])
    if height + 2 * padding < size or width + 2 * padding < size:
        raise ValueError(f"cannot cut {size}×{size} from {height}×{width} with padding {padding}")
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def crop(key, image):
        top, left = jax.random.randint(key, (2,), 0, room + 1)
        return jax.lax.dynamic_slice(image, (top, left, 0), (size, size, channels))

    return jax.vmap(crop)(example_keys(key, num_examples), padded)


def random_flip(key: Array, images: Array) -> Array:
    """Mirrors every image left to right with probability 1/2; any dtype [B, H, W, C]."""
    flip = jax.vmap(jax.random.bernoulli)(example_keys(key, len(images)))
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def random_cutout(key: Array, images: Array, size: int) -> Array:
    """Sets one square of every image to 0; its centre is uniform over all pixels, what lies beyond the border is cut.

    DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout" (2017).

    Args:
      key: key of the batch.
      images: float [B, H, W, C], normalised, so that 0 is the mean.
      size: side of the square in pixels; an even one reaches one pixel further up and left.
    """
    height, width = images.shape[1:3]
    limits = jnp.array([height, width])
    centres = jax.vmap(lambda k: jax.random.randint(k, (2,), 0, limits))(example_keys(key, len(images)))
    first = centres - size // 2
    rows, columns = (
        (jnp.arange(n) >= first[:, i, None]) & (jnp.arange(n) < first[:, i, None] + size)
        for i, n in enumerate((height, width))
    )
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], 0, images)


def random_zoom(key: Array, images: Array, low: float, high: float) -> Array:
    """Zooms every image about its centre, bicubic, zeros outside; see `zoom.zoom_matrices`.

    Args:
      key: key of the batch.
      images: float [B, H, W, C].
      low, high: the factor is uniform between these, above 1 enlarges the content.

    Returns:
      float [B, H, W, C]; bicubic interpolation overshoots, so the range is a little wider than that of `images`.
    """
    factors = jax.vmap(lambda k: jax.random.uniform(k, (), minval=low, maxval=high))(example_keys(key, len(images)))
    return zoom(images, factors)


def zoom(images: Array, factors: Array) -> Array:
    """Returns float images [B, H, W, C] zoomed about their centre by factors [B]; see `random_zoom`."""
    rows, columns = (zoom_matrices(factors, size, jnp) for size in images.shape[1:3])
    # Full precision: some accelerators would round the pixels of a product to ten bits.
    images = jnp.einsum("bih,bhwc->biwc", rows, images, precision="highest")
    return jnp.einsum("bjw,bhwc->bhjc", columns, images, precision="highest")


def resize(images: Array, size: int, method: str = "bilinear") -> Array:
    """Scales float images [B, H, W, C] to [B, size, size, C]; shrinking is antialiased."""
    num_examples, _, _, channels = images.shape
    return jax.image.resize(images, (num_examples, size, size, channels), method)


@dataclass(frozen=True)
class CropFlipConfig:
    """What happens to training images.

    Attributes:
      resize: bilinear, to this size before a random crop back to the image's size; 0 = no crop.
      flip: horizontally, half of them.
    """

    resize: int = 40
    flip: bool = True


def random_crop_flip(config: CropFlipConfig, key: jax.Array, images: jax.Array) -> jax.Array:
    """Returns images [B, H, W, C] enlarged, cropped at random to H×H, and half of them flipped, as the config says."""
    crop_key, flip_key = jax.random.split(key)
    size = images.shape[1]
    if config.resize:
        images = random_crop(crop_key, resize(images, config.resize), size)
    return random_flip(flip_key, images) if config.flip else images
