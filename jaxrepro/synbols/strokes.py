"""Hundreds of strokes over each other, as one cairo source.

Strokes along an axis are rectangles: their coverage of a pixel is a product of two overlaps, and a row of pixels
meets few of them, so whole images are composed by NumPy at a third of cairo's time. It agrees with cairo to two
levels of 255, because cairo rounds after each stroke. Strokes of other directions are drawn by cairo, one by one.
"""

import itertools
import math
from typing import Any

import numpy as np

_AT_ONCE = 1024  # pixels composed together, so that the lists of their strokes stay in the cache
# Colours are whole quarters of a level and weights whole steps, so that every sum of products, below 2**24 of the
# smallest, is exact in float32: the order in which a processor adds them up makes no difference.
_PARTS, _STEPS = 4, 1 << 13
_AXIS_TOLERANCE = 1e-6  # pixels that a stroke may stray from its axis


def parallel_strokes(
    start: np.ndarray, stop: np.ndarray, width: float, colors: np.ndarray, opacity: float, resolution: tuple[int, int]
) -> Any:
    """Returns a cairo source of n strokes with butt ends, in order: the last one lies on top.

    Args:
      start, stop: [n, 2], pixels.
      width: pixels.
      colors: [n, 3], 0 … 1.
      resolution: (width, height) of the source, which is transparent where no stroke is.
    """
    import cairo

    stray = np.abs(stop - start).max(axis=0)
    if stray[1] < _AXIS_TOLERANCE:
        pixels = _horizontal(start, stop, width, colors, opacity, resolution)
    elif stray[0] < _AXIS_TOLERANCE:
        pixels = _horizontal(start[:, ::-1], stop[:, ::-1], width, colors, opacity, resolution[::-1])
        pixels = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    else:
        return cairo.SurfacePattern(_drawn(start, stop, width, colors, opacity, resolution))
    return cairo.SurfacePattern(cairo.ImageSurface.create_for_data(pixels, cairo.FORMAT_ARGB32, *resolution))


def _drawn(start, stop, width, colors, opacity, resolution) -> Any:
    import cairo

    surface = cairo.ImageSurface(cairo.FORMAT_ARGB32, *resolution)
    context = cairo.Context(surface)
    context.set_line_width(width)
    for (x1, y1), (x2, y2), color in zip(start.tolist(), stop.tolist(), colors.tolist()):
        context.set_source_rgba(*color, opacity)
        context.move_to(x1, y1)
        context.line_to(x2, y2)
        context.stroke()
    return surface


def _horizontal(start, stop, width, colors, opacity, resolution) -> np.ndarray:
    """Returns premultiplied uint8 [H, W, 4] in cairo's channel order (blue, green, red, alpha).

    Each row of pixels has its own list of the strokes that touch it, from the topmost down. A pixel's colour is the
    sum over its list of colour times alpha times what the strokes above let through.
    """
    front = slice(None, None, -1)
    start, stop = start.astype(np.float32), stop.astype(np.float32)
    left, right = np.minimum(start[front, 0], stop[front, 0]), np.maximum(start[front, 0], stop[front, 0])
    along = _overlap(left, right, np.arange(resolution[0], dtype=np.float32)[None])  # [n, W]
    color = np.full((len(colors), 4), 255, np.float32)
    color[:, :3] = np.rint(255 * _PARTS * colors[front, ::-1]) / _PARTS

    top = start[front, 1] - width / 2
    rows = np.floor(top).astype(np.int16)[:, None] + np.arange(math.ceil(width) + 1, dtype=np.int16)
    across = _overlap(top, top + width, rows)  # [n, rows that a stroke can touch]
    stroke, k = np.nonzero((across > 0) & (rows >= 0) & (rows < resolution[1]))
    row = rows[stroke, k]
    order = np.argsort(row, kind="stable")
    row, stroke, weight = row[order], stroke[order], opacity * across[stroke, k][order, None]

    pixels = np.empty((resolution[1], resolution[0], 4), np.uint8)
    for first in range(0, resolution[1], step := max(1, _AT_ONCE // resolution[0])):
        block = pixels[first : first + step]
        begin, end = np.searchsorted(row, [first, first + len(block)])
        at, strokes = row[begin:end] - first, stroke[begin:end]
        count = np.bincount(at, minlength=len(block))
        slot = np.arange(end - begin) - np.repeat(np.cumsum(count) - count, count)
        place = slot * len(block) + at  # [slots, rows] flattened
        alpha = np.zeros((count.max(initial=1), len(block), resolution[0]), np.float32)
        alpha.reshape(-1, resolution[0])[place] = along.take(strokes, axis=0) * weight[begin:end]
        listed = np.zeros((*alpha.shape[:2], 4), np.float32)
        listed.reshape(-1, 4)[place] = color.take(strokes, axis=0)
        through = 1 - alpha
        for upper, lower in itertools.pairwise(through):  # np.cumprod is thirty times slower along this axis
            lower *= upper
        alpha[1:] *= through[:-1]
        alpha *= _STEPS
        np.rint(alpha, out=alpha)
        mixed = np.matmul(listed.transpose(1, 2, 0), alpha.transpose(1, 0, 2)) / _STEPS  # [H, 4, W]
        block[:] = (mixed + 0.5).transpose(0, 2, 1)
    return pixels


def _overlap(low: np.ndarray, high: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Returns the length that intervals [n] share with pixels [n or 1, m], which are 1 wide; float [n, m]."""
    shared = np.minimum(pixel + 1, high[:, None])
    shared -= np.maximum(pixel, low[:, None])
    return np.maximum(shared, 0, out=shared)
