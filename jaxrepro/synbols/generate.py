"""Whole datasets of rendered symbols.

    arrays = render_dataset("default", num_samples=1000, seed=0, resolution=32)

Sample i depends on (seed, i) and on the installed fonts, not on the number of samples. Only "default" exists
here.
"""

import math
import string
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.drawing import draw_symbol, random_gradient
from jaxrepro.synbols.fonts import families, fingerprint

DATASETS = ("default",)
GENERATOR_VERSION = 1  # raise it whenever pixels or attributes change: it is part of the cache's key
ALPHABET = string.ascii_lowercase  # the paper's 26 letters; the released code adds accented ones
PIXEL_NOISE = 0.01

_BATCH = 1024
_ATTRIBUTES = {
    "label": np.int32, "font": np.int32, "is_bold": np.bool_, "is_slant": np.bool_, "inverse_color": np.bool_,
    "rotation": np.float32, "scale": np.float32, "translation_x": np.float32, "translation_y": np.float32,
}  # fmt: skip


def font_fingerprint() -> str:
    """Returns a hash of the fonts that `render_dataset` would use."""
    return fingerprint(families(ALPHABET))


def render_dataset(name: str, num_samples: int, seed: int, resolution: int) -> dict[str, np.ndarray]:
    """Returns N images of letters with their attributes.

    Args:
      name: "default": letter and font uniform, gradients, bold, slant and inverted colours with probability
        1/2, rotation N(0, 0.3), scale 0.6 exp(N(0, 0.2)), translation U(-0.9, 0.9)², full contrast, noise of
        std 0.01.
      num_samples: N.
      seed: int ≥ 0.
      resolution: side in pixels.

    Returns:
      image uint8 [N, H, W, 3]; label (0 = a … 25 = z) and font int32 [N]; is_bold, is_slant and inverse_color
      bool [N]; rotation (radians, clockwise), scale, translation_x and translation_y float32 [N].

    Raises:
      UserError: unknown name, a size out of range, cairo or fonts not installed.
    """
    if name not in DATASETS:
        raise unknown("Synbols dataset", name, DATASETS)
    if num_samples < 1 or not 8 <= resolution <= 1024:
        raise UserError(
            f"num_samples={num_samples}, resolution={resolution}: need 1 or more samples of 8 to 1024 pixels"
        )
    from tqdm import tqdm

    surface, pixels = _surface(resolution)
    fonts = families(ALPHABET)
    arrays = {k: np.empty(num_samples, dtype) for k, dtype in _ATTRIBUTES.items()}
    arrays["image"] = np.empty((num_samples, resolution, resolution, 3), np.uint8)
    with tqdm(total=num_samples, desc=f"rendering synbols:{name}", disable=None, delay=2) as progress:
        for begin in range(0, num_samples, _BATCH):
            batch = range(begin, min(begin + _BATCH, num_samples))
            noise = np.empty((len(batch), resolution, resolution, 3), np.float32)
            for i in batch:
                generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, i])))
                for key, value in _draw_default(generator, surface, fonts).items():
                    arrays[key][i] = value
                surface.flush()
                arrays["image"][i] = pixels[..., 2::-1]  # cairo stores B, G, R, A
                generator.standard_normal(out=noise[i - begin], dtype=np.float32)
            rows = slice(batch.start, batch.stop)
            arrays["image"][rows] = _finish(arrays["image"][rows], arrays["inverse_color"][rows], noise)
            progress.update(len(batch))
    return arrays


def _surface(resolution: int) -> tuple[Any, np.ndarray]:
    """Returns a cairo image surface and its pixels, uint8 [H, W, 4]."""
    try:
        import cairo
    except ImportError as error:
        raise UserError(
            "rendering Synbols needs cairo: apt-get install libcairo2-dev pkg-config gcc; pip install pycairo"
        ) from error
    surface = cairo.ImageSurface(cairo.FORMAT_ARGB32, resolution, resolution)
    return surface, np.ndarray((resolution, resolution, 4), np.uint8, surface.get_data())


def _draw_default(generator: np.random.Generator, surface, fonts) -> dict[str, float]:
    """Draws one sample of "default" on the surface and returns its attributes."""
    label, font = int(generator.integers(len(ALPHABET))), int(generator.integers(len(fonts)))
    u, normal = generator.random(5).tolist(), generator.standard_normal(2).tolist()
    bold, slant, inverse = u[0] < 0.5, u[1] < 0.5, u[2] < 0.5
    rotation, scale = 0.3 * normal[0], 0.6 * math.exp(0.2 * normal[1])
    x, y = 1.8 * u[3] - 0.9, 1.8 * u[4] - 0.9
    draw_symbol(
        surface, random_gradient(generator), random_gradient(generator), fonts[font], ALPHABET[label],
        bold=bold, slant=slant, rotation=rotation, scale=scale, translation=(x, y),
    )  # fmt: skip
    return {
        "label": label, "font": font, "is_bold": bold, "is_slant": slant, "inverse_color": inverse,
        "rotation": rotation, "scale": scale, "translation_x": x, "translation_y": y,
    }  # fmt: skip


def _finish(images: np.ndarray, inverse: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Inverts, stretches to full contrast and adds noise, in the original's order.

    Args:
      images: uint8 [B, H, W, 3].
      inverse: bool [B].
      noise: float32 [B, H, W, 3], standard normal; overwritten.

    Returns:
      uint8 [B, H, W, 3].
    """
    values = images.astype(np.float32)
    values[inverse] = 255 - values[inverse]
    low = values.min(axis=(1, 2, 3), keepdims=True)
    span = values.max(axis=(1, 2, 3), keepdims=True) - low
    # An image of one colour stays as it is.
    values = np.where(span > 0, (values - low) / np.where(span > 0, span, 1), values / 255)
    noise *= PIXEL_NOISE
    return (np.clip(values + noise, 0, 1) * 255).astype(np.uint8)
