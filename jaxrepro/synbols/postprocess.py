"""From cairo's bytes to the finished images, many at once: gray, inversion, contrast, noise.

Order and formulas are the original's: mean of channels, 1 - v, stretch to 0 … 1, noise, clip. By default values
are v / 255 on the way in and rounded on the way out; under compat="v1" channels stay in cairo's order (blue first),
and values are divided by 256 and cut off.
"""

import functools
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from jaxrepro.synbols.rng import fast_bits
from jaxrepro.synbols.symbols import Image

_RGB = (16, 8, 0)  # the bits of cairo's 32-bit pixels where each channel starts
_QUANTILES = 1 << 16


def finish(pixels: np.ndarray, images: Sequence[Image]) -> np.ndarray:
    """Returns the finished images, uint8 [B, H, W, 3], or [B, H, W, 1] for gray ones.

    Args:
      pixels: uint8 [B, H, W, 4], cairo's RGB24.
      images: what they show; all with the same resolution, is_gray and compat.
    """
    is_gray, is_v1 = images[0].is_gray, images[0].compat == "v1"
    count, height, width, _ = pixels.shape
    # Channels as planes: NumPy is an order of magnitude slower on the three interleaved ones.
    planes = np.empty((count, 3, height, width), np.uint8)
    words = pixels.view(np.uint32)[..., 0]
    for plane, shift in enumerate(_RGB[::-1] if is_v1 else _RGB):
        planes[:, plane] = words >> shift  # keeps the last eight bits
    if is_gray:
        planes = planes.mean(axis=1, keepdims=True, dtype=np.float32)
    factor, offset = _affine(planes, images, 256.0 if is_v1 else 255.0)
    values = np.multiply(planes, factor, dtype=np.float32)
    values += offset
    for i, image in enumerate(images):
        if image.pixel_noise_scale:
            values[i] += pixel_noise(image.seed, values[i].shape, 255 * image.pixel_noise_scale)
    if not is_v1:
        values += np.float32(0.5)
    np.clip(values, 0, 255, out=values)
    out = np.empty((count, height, width, values.shape[1]), np.uint8)
    for channel in range(values.shape[1]):
        out[..., channel] = values[:, channel]
    return out


def pixel_noise(seed: int, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Returns float32 noise N(0, scale²), rounded to 65,536 equally likely values, that depends on the seed only.

    Two bytes and a look-up make a value; that is some seven times as fast as NumPy's normal numbers, which would
    take most of the time of a large image.
    """
    size = int(np.prod(shape))
    words = fast_bits(seed).random_raw((size + 3) // 4)
    # mode="wrap" spares the check of 16-bit indices, which cannot leave the table.
    noise = np.take(_normal_table(), words.astype("<u8", copy=False).view("<u2")[:size], mode="wrap")
    noise *= np.float32(scale)
    return noise.reshape(shape)


def _affine(planes: np.ndarray, images: Sequence[Image], divisor: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns factor and offset [B, 1, 1, 1] of inversion and contrast together, from 0 … 255 to 0 … 255."""
    flat = planes.reshape(len(planes), -1)
    low, high = flat.min(axis=1).astype(np.float32), flat.max(axis=1).astype(np.float32)
    inverse = np.array([image.inverse_color for image in images])
    # An image of one colour has no contrast to stretch and stays as it is.
    stretched = np.array([image.max_contrast for image in images]) & (high > low)
    span = np.where(stretched, np.maximum(high - low, 1e-6), divisor)
    zero = np.where(stretched, np.where(inverse, high, low), np.where(inverse, divisor, 0.0))
    factor = np.where(inverse, -255.0, 255.0) / span
    return (a.astype(np.float32)[:, None, None, None] for a in (factor, -factor * zero))


@functools.cache
def _normal_table() -> np.ndarray:
    """Returns float32 [65536]: equally likely values of mean 0 and standard deviation 1."""
    inverse = NormalDist().inv_cdf
    upper = np.array([inverse((i + 0.5) / _QUANTILES) for i in range(_QUANTILES // 2, _QUANTILES)])
    upper /= np.sqrt(np.mean(upper**2))
    return np.concatenate([-upper[::-1], upper]).astype(np.float32)
