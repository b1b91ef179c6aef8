"""Augmentation of whole batches on the device, inside jit.

    images = random_crop(key, images, 32, padding=4)
    images = random_flip(key, images)

Every function takes one key per batch; example i uses `fold_in(key, i)`, so its picture does not depend on
the others. Give each operation its own key (`jax.random.split`). Images are float [B, H, W, C] unless said
otherwise.
"""

import dm_pix as pix
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


def random_affine(
    key: Array,
    images: Array,
    *,
    max_rotation: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    max_translation: float = 0.0,
    fill: float = 0.0,
) -> Array:
    """Turns, scales and shifts every image about its centre, with bilinear interpolation.

    Args:
      key: key of the batch.
      images: float [B, H, W, C].
      max_rotation: radians; the angle is U(-max, max), positive = clockwise on the screen.
      scale: the factor is log-uniform between these; above 1 enlarges the content.
      max_translation: pixels; both shifts are U(-max, max), positive = right, down.
      fill: value outside the image.

    Returns:
      float [B, H, W, C].
    """

    def one(key, image):
        angle, log_scale, down, right = jax.random.uniform(key, (4,), minval=-1.0)
        low, high = jnp.log(scale[0]), jnp.log(scale[1])
        factor = jnp.exp(low + (high - low) * (log_scale + 1) / 2)
        shift = jnp.stack([down, right]) * max_translation
        return affine(image, angle * max_rotation, factor, shift, fill)

    return jax.vmap(one)(example_keys(key, len(images)), images)


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


def affine(image: Array, angle: Array, factor: Array, shift: Array, fill: float = 0.0) -> Array:
    """Returns one image turned, scaled and shifted; see `random_affine`; `shift` is (down, right).

    Args:
      image: float [H, W, C].
    """
    height, width, _ = image.shape
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    # Output pixel -> input pixel: undo the shift, the turn, the scale. Coordinates are (row, column), so a
    # clockwise turn takes (r, c) to (r cos + c sin, c cos - r sin) of the input.
    inverse = jnp.array([[cosine, -sine], [sine, cosine]]) / factor
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
    rows, columns = jnp.moveaxis((grid - centre - shift) @ inverse.T + centre, -1, 0)
    sample = lambda plane: jax.scipy.ndimage.map_coordinates(  # noqa: E731
        plane, [rows, columns], order=1, mode="constant", cval=fill
    )
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def color_jitter(
    key: Array,
    images: Array,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Array:
    """Changes the colours of every image, in this order, and clips to [0, 1].

    Args:
      key: key of the batch.
      images: float [B, H, W, 3] in [0, 1]; C = 1 is allowed without saturation and hue.
      brightness: what is added is U(-brightness, brightness).
      contrast: the factor about the image's mean is U(1 - contrast, 1 + contrast).
      saturation: the factor is U(1 - saturation, 1 + saturation).
      hue: the turn is U(-hue, hue), as a share of the circle.
    """

    def one(key, image):
        delta, by_contrast, by_saturation, turn = jax.random.uniform(key, (4,), minval=-1.0)
        if brightness:
            image = pix.adjust_brightness(image, delta * brightness)
        if contrast:
            image = pix.adjust_contrast(image, 1 + by_contrast * contrast)
        if saturation:
            image = pix.adjust_saturation(image, 1 + by_saturation * saturation)
        if hue:
            image = pix.adjust_hue(image, turn * hue)
        return jnp.clip(image, 0.0, 1.0)

    return jax.vmap(one)(example_keys(key, len(images)), images)


def resize(images: Array, size: int, method: str = "bilinear") -> Array:
    """Scales float images [B, H, W, C] to [B, size, size, C]; shrinking is antialiased."""
    num_examples, _, _, channels = images.shape
    return jax.image.resize(images, (num_examples, size, size, channels), method)
