"""Drawing one symbol with cairo: gradients, geometry, thickening.

User space is the unit square with its origin at the top left and y down; everything is drawn once at the
final resolution. Source: Synbols, section 3, and its code where the paper is silent (gradients, shear,
placement). Unlike the code, extents are not rounded to whole pixels and glyphs are not hinted.
"""

import math

import numpy as np

from jaxrepro.synbols.fonts import Family, outline

SLANT = 0.2  # the original's slant is a vertical shear: stems stay upright, the baseline tilts
EMBOLDEN = 1 / 24  # of the font size, as FreeType thickens families that have no bold face


def random_gradient(generator: np.random.Generator):
    """Returns a linear or radial cairo pattern with three colours U(0, 1)³ at the stops 1, 0.5 and 0."""
    import cairo

    u = generator.random(15)
    if u[0] < 0.5:
        # The length N(1, 0.2) may be tiny, which gives a hard edge; that belongs to the dataset.
        length = 1 + 0.2 * generator.standard_normal()
        angle = 2 * math.pi * u[3]
        pattern = cairo.LinearGradient(u[1], u[2], u[1] + length * math.cos(angle), u[2] + length * math.sin(angle))
    else:
        pattern = cairo.RadialGradient(u[1], u[2], 2.0, u[3], u[4], 0.1)
    for offset, colour in zip((1.0, 0.5, 0.0), u[6:].reshape(3, 3).tolist()):
        pattern.add_color_stop_rgb(offset, *colour)
    pattern.set_extend(cairo.EXTEND_PAD)
    return pattern


def draw_symbol(
    surface, background, foreground, family: Family, char: str, *, bold: bool, slant: bool,
    rotation: float, scale: float, translation: tuple[float, float],
) -> None:  # fmt: skip
    """Draws one character on a cairo image surface.

    Args:
      background, foreground: cairo patterns in image coordinates.
      rotation: radians, clockwise on the screen.
      scale: longer side of the upright glyph box, as a share of the image.
      translation: in [-1, 1]²; -1 puts the glyph's box flush left or top, +1 flush right or bottom.
    """
    import cairo

    context = cairo.Context(surface)
    context.scale(surface.get_width(), surface.get_height())
    context.set_source(background)
    context.paint()
    context.set_source(foreground)  # before any transformation, so that its coordinates are the image's
    path, box = outline(family.bold if bold and family.bold else family.regular, char)
    size = scale / max(box[2], box[3], 0.1)
    cosine, sine, shear = math.cos(rotation) * size, math.sin(rotation) * size, SLANT if slant else 0.0
    # Rotation first, then (x, y) -> (x, y + shear x).
    matrix = cairo.Matrix(cosine, sine + shear * cosine, -sine, cosine - shear * sine)
    x, y, width, height = _transformed_box(matrix, box)
    origin_x = (translation[0] + 1) / 2 * (1 - width) - x
    origin_y = (translation[1] + 1) / 2 * (1 - height) - y
    context.translate(origin_x, origin_y)
    context.transform(matrix)
    context.append_path(path)
    if bold and not family.bold:
        context.set_line_width(EMBOLDEN)
        context.set_line_join(cairo.LINE_JOIN_ROUND)
        context.stroke_preserve()
    context.fill()


def _transformed_box(matrix, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Returns the axis-parallel box around the four mapped corners of a box."""
    x, y, width, height = box
    corners = [matrix.transform_point(x + i * width, y + j * height) for i in (0, 1) for j in (0, 1)]
    low = [min(c[k] for c in corners) for k in (0, 1)]
    high = [max(c[k] for c in corners) for k in (0, 1)]
    return low[0], low[1], high[0] - low[0], high[1] - low[1]
