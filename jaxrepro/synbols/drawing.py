"""From latent values to pixels and masks.

    pixels, masks = render(image)

cairo draws each symbol's coverage once, at the final resolution; the coverage is the symbol's mask and, as a
stencil for its colours, its part of the image. Nothing here is random but the noise, whose seed belongs to the image.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.fonts import text_outline
from jaxrepro.synbols.fonts.faces import covers
from jaxrepro.synbols.geometry import place
from jaxrepro.synbols.patterns import NoPattern, SolidColor
from jaxrepro.synbols.postprocess import finish
from jaxrepro.synbols.shapes import shape_outline
from jaxrepro.synbols.symbols import Image, Symbol

GENERATOR_VERSION = 3  # raise it whenever pixels or attributes change: files and caches record it

_MOST_BYTES = 1 << 20  # of float32 values that post-processing takes at once: what stays in the cache


def render(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image, uint8 [H, W, 3] in RGB (or [H, W, 1]), and its masks, uint8 [H, W, n_symbols].

    A mask is the antialiased coverage 0 … 255 of the whole symbol, whatever covers it later.

    Raises:
      UserError: pycairo is not installed, a font lacks a character, a pattern has no seed or no pictures.
    """
    pixels, masks = render_batch([image])
    return pixels[0], masks[0]


def render_batch(images: Sequence[Image]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Renders several images: the same bytes as one by one, but faster.

    Returns:
      images and masks as lists, shaped as in `render`.
    """
    pixels, masks = [], []
    for (resolution, _, _), group in itertools.groupby(images, lambda i: (i.resolution, i.is_gray, i.compat)):
        size = max(1, _MOST_BYTES // (12 * resolution[0] * resolution[1]))
        while batch := list(itertools.islice(group, size)):
            drawn = np.zeros((len(batch), resolution[1], resolution[0], 4), np.uint8)
            masks.extend(_draw(image, canvas) for image, canvas in zip(batch, drawn))
            pixels.extend(finish(drawn, batch))
    return pixels, masks


def draw_masks(image: Image) -> np.ndarray:
    """Returns the masks alone, uint8 [H, W, n_symbols]: what `render` returns, without painting the image."""
    return _draw(image, None)


def _draw(image: Image, canvas: np.ndarray | None) -> np.ndarray:
    """Paints on uint8 [H, W, 4], which is all 0 (RGB24), and returns the masks [H, W, n]; None: the masks only."""
    cairo = _cairo()
    width, height = image.resolution
    # The original's unit square is the top left of an image that is not square.
    area = (min(image.resolution),) * 2 if image.compat == "v1" else image.resolution
    context = None
    if canvas is not None:
        context = cairo.Context(cairo.ImageSurface.create_for_data(canvas, cairo.FORMAT_RGB24, width, height))
        _paint_background(context, image, area)
    stride = cairo.ImageSurface.format_stride_for_width(cairo.FORMAT_A8, width)
    masks = np.zeros((len(image.symbols), height, stride), np.uint8)
    for symbol, mask in zip(image.symbols, masks):
        if isinstance(symbol.foreground, NoPattern):
            continue
        stencil = cairo.ImageSurface.create_for_data(mask, cairo.FORMAT_A8, width, height, stride)
        x, y, box_width, box_height = _cover(symbol, image, stencil)
        if context is not None:
            context.set_source(symbol.foreground.source(area))
            # Colours are made for the symbol's surroundings only; the edge is whole pixels and so changes nothing.
            left, top = math.floor(x) - 1, math.floor(y) - 1
            context.rectangle(left, top, math.ceil(x + box_width) + 1 - left, math.ceil(y + box_height) + 1 - top)
            context.clip()
            context.mask_surface(stencil)
            context.reset_clip()
    return np.moveaxis(masks[..., :width], 0, -1)


def _paint_background(context: Any, image: Image, area: tuple[int, int]) -> None:
    source = image.background.source(area)
    if source is None:
        return
    context.set_source(source)
    if isinstance(image.background, SolidColor):
        context.paint()
    else:
        context.rectangle(0, 0, *area)
        context.fill()


def _cover(symbol: Symbol, image: Image, stencil: Any) -> tuple[float, float, float, float]:
    """Draws the symbol's coverage on an A8 surface and returns its box in pixels."""
    cairo = _cairo()
    round_height = 0.0
    if symbol.font is None:
        path, box = shape_outline(symbol.char)
    else:
        path, box = text_outline(symbol.font, symbol.char, symbol.is_bold)
        if image.compat == "v1" and covers(symbol.font.regular, "o"):
            round_height = -text_outline(symbol.font, "o", symbol.is_bold).box[1]
    matrix, placed = place(
        box, symbol.scale, symbol.rotation, symbol.is_slant, symbol.translation, image.resolution, image.compat,
        round_height,
    )  # fmt: skip
    context = cairo.Context(stencil)
    context.set_matrix(cairo.Matrix(*matrix))
    context.append_path(path)
    context.fill()
    return placed


def _cairo() -> Any:
    try:
        import cairo
    except ImportError as error:
        raise UserError(
            "rendering Synbols needs cairo: apt-get install libcairo2-dev pkg-config gcc; pip install pycairo"
        ) from error
    return cairo
