"""Where a glyph lands: size, slant, rotation, place.

Glyphs are measured in ems with y down. The canvas has its shorter side as unit of length: a 64×32 image measures
(2, 1). Source: Synbols, section 3, and its code; where the code is odd we differ unless `compat` is "v1":

  slant    an oblique (stems lean to the right) that is rotated with the glyph; the original tilts the rotated glyph's
           baseline and leaves stems upright
  pixels   glyphs lie anywhere; the original rounds the origin to whole pixels, and the box that it measures outwards
  canvas   the whole image; the original uses the top left square only
  hinting  none; the original measures every glyph, and draws upright ones, with FreeType's light auto-hinter, of which
           "v1" imitates what changes sizes: the height of small letters, and the edges of the glyph's box

Not imitated: thickness and place of single strokes, the hints inside of font files, which turned letters keep, and that
each glyph of a string is rounded by itself.
"""

import math
from typing import NamedTuple

SLANT = 0.2
SMALLEST_BOX = 0.1  # ems; an empty glyph has no size to divide by

Box = tuple[float, float, float, float]  # x, y, width, height


class Matrix(NamedTuple):
    """x' = xx x + xy y + x0, y' = yx x + yy y + y0: cairo's names and order."""

    xx: float
    yx: float
    xy: float
    yy: float
    x0: float = 0.0
    y0: float = 0.0


def glyph_matrix(size: float, rotation: float, is_slant: bool, compat: str | None = None) -> Matrix:
    """Returns the map from ems to canvas units, without the shift.

    Args:
      size: canvas units per em.
      rotation: radians, clockwise on the screen.
    """
    cosine, sine = size * math.cos(rotation), size * math.sin(rotation)
    shear = SLANT if is_slant else 0.0
    if compat == "v1":  # rotation first, then (x, y) -> (x, y + shear x)
        return Matrix(cosine, sine + shear * cosine, -sine, cosine - shear * sine)
    return Matrix(cosine, sine, -sine - shear * cosine, cosine - shear * sine)


def mapped_box(matrix: Matrix, box: Box) -> Box:
    """Returns the axis-parallel box around the four mapped corners: as the original, more than a turned glyph's ink."""
    x, y, width, height = box
    left = matrix.xx * x + matrix.xy * y + min(matrix.xx * width, 0) + min(matrix.xy * height, 0) + matrix.x0
    top = matrix.yx * x + matrix.yy * y + min(matrix.yx * width, 0) + min(matrix.yy * height, 0) + matrix.y0
    return (
        left,
        top,
        abs(matrix.xx) * width + abs(matrix.xy) * height,
        abs(matrix.yx) * width + abs(matrix.yy) * height,
    )


def place(
    box: Box, scale: float, rotation: float, is_slant: bool, translation: tuple[float, float],
    resolution: tuple[int, int], compat: str | None = None, round_height: float = 0.0,
) -> tuple[Matrix, Box]:  # fmt: skip
    """Returns the map from ems to pixels, and the glyph's box in pixels.

    The longer side of the upright, unslanted box becomes `scale`. The box of the slanted and rotated glyph is then
    put at ((translation + 1) / 2) of the room that it leaves: -1 flush left or top, +1 flush right or bottom.
    Within ±1 it stays inside wherever it fits.

    Args:
      box: ink of the upright glyph, in ems.
      resolution: (width, height) in pixels.
      round_height: of the font's letter o above the baseline, in ems, which hinting goes by; 0: not hinted.
    """
    unit = min(resolution)
    if compat == "v1":
        placed = _placed_v1(box, scale, rotation, is_slant, translation, unit, round_height)
    else:
        canvas = (resolution[0] / unit, resolution[1] / unit)
        size = scale / max(box[2], box[3], SMALLEST_BOX)
        matrix = glyph_matrix(size, rotation, is_slant)
        x, y, width, height = mapped_box(matrix, box)
        x0 = unit * ((translation[0] + 1) / 2 * (canvas[0] - width) - x)
        y0 = unit * ((translation[1] + 1) / 2 * (canvas[1] - height) - y)
        placed = Matrix(unit * matrix.xx, unit * matrix.yx, unit * matrix.xy, unit * matrix.yy, x0, y0)
    return placed, mapped_box(placed, box)


def _placed_v1(box, scale, rotation, is_slant, translation, unit: int, round_height: float) -> Matrix:
    """Returns the map from ems to pixels that the original's renderer, cairo's toy text, makes."""
    _, _, width, height = _hinted(box, unit, round_height)
    size = scale / max(width / unit, height / unit, SMALLEST_BOX)
    matrix = glyph_matrix(size, rotation, is_slant, "v1")
    # cairo loads the glyph at these sizes, rounds its box there, and then turns and shears it. Hints are for upright
    # glyphs only.
    x_size = unit * math.hypot(matrix.xx, matrix.yx)
    y_size = unit * unit * abs(matrix.xx * matrix.yy - matrix.xy * matrix.yx) / x_size
    if rotation or is_slant or not round_height:
        measured, stretch, shift = _rounded_out(box, x_size, y_size), 1.0, 0.0
    else:
        measured = _hinted(box, y_size, round_height)
        stretch = measured[3] / (box[3] * y_size) if box[3] else 1.0
        shift = measured[1] - stretch * box[1] * y_size
    to_pixels = Matrix(
        unit * matrix.xx / x_size, unit * matrix.yx / x_size, unit * matrix.xy / y_size, unit * matrix.yy / y_size
    )
    x, y, width, height = mapped_box(to_pixels, measured)
    x0 = math.floor((translation[0] + 1) / 2 * (unit - width) - x + 0.5)
    y0 = math.floor((translation[1] + 1) / 2 * (unit - height) - y + 0.5)
    return Matrix(
        unit * matrix.xx, unit * matrix.yx, unit * stretch * matrix.xy, unit * stretch * matrix.yy, x0, y0 + shift
    )


def _rounded_out(box: Box, x_size: float, y_size: float) -> Box:
    """Returns a box in pixels, grown to whole ones where an em has so many of them, as cairo's hinted metrics are."""
    x, y = math.floor(box[0] * x_size), math.floor(box[1] * y_size)
    right, bottom = math.ceil((box[0] + box[2]) * x_size), math.ceil((box[1] + box[3]) * y_size)
    return x, y, right - x, bottom - y


def _hinted(box: Box, size: float, round_height: float) -> Box:
    """Returns the box in pixels of a glyph that FreeType's light auto-hinter has fitted at `size` pixels an em.

    It works on heights only. They are stretched so that round small letters end on a whole pixel (rounded up from
    24/64), and edges then move to whole pixels: the lower one to the nearest, the upper one, which strokes of at least
    a pixel push up, above that from 0.25 (fitted to the letters of 200 families).
    """
    if not round_height:
        return _rounded_out(box, size, size)
    top = round_height * size
    stretch = math.floor(top + 40 / 64) / top
    if stretch == 0 or abs(stretch - 1) * size >= 2:  # FreeType moves nothing by two pixels
        stretch = 1.0
    x, right = math.floor(box[0] * size), math.ceil((box[0] + box[2]) * size)
    y, bottom = math.floor(stretch * box[1] * size + 0.25), math.floor(stretch * (box[1] + box[3]) * size + 0.5)
    return x, y, right - x, max(1, bottom - y)
