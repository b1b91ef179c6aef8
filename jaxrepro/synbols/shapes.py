"""Square, triangle and disc, the shapes of occlusions, as outlines of their own.

The original takes ■ ▲ ● from whatever font stands in for Arial. Only their proportions matter, because `scale`
sets the longer side: all three fill a square box.
"""

import functools
import math
from typing import Any, NamedTuple

from jaxrepro.errors import unknown

SHAPES = ("■", "▲", "●")


class Shape(NamedTuple):
    """Outline as the fonts give it: a cairo path and its box (x, y, width, height), in ems, y down."""

    path: Any
    box: tuple[float, float, float, float]


@functools.cache
def shape_outline(char: str) -> Shape:
    """Returns the outline of ■, ▲ or ●; another character is a UserError."""
    import cairo

    if char not in SHAPES:
        raise unknown("shape", char, SHAPES)
    context = cairo.Context(cairo.ImageSurface(cairo.FORMAT_A8, 1, 1))
    context.scale(4096, 4096)  # cairo keeps paths in 1/256 of a pixel
    if char == "■":
        context.rectangle(0, -1, 1, 1)
    elif char == "▲":
        context.move_to(0.5, -1)
        context.line_to(1, 0)
        context.line_to(0, 0)
        context.close_path()
    else:
        context.arc(0.5, -0.5, 0.5, 0, 2 * math.pi)
    return Shape(context.copy_path(), (0.0, -1.0, 1.0, 1.0))
