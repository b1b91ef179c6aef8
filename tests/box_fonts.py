"""Tiny fonts for tests: every character is a rectangle whose size the test chooses."""

from collections.abc import Mapping
from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib.tables.TupleVariation import TupleVariation

Size = tuple[int, int]


def sizes(characters: str) -> dict[str, Size]:
    """Returns a rectangle of its own for every character."""
    return {c: (200 + ord(c) * 37 % 601, 300 + ord(c) * 53 % 401) for c in characters}


def box_font(
    path: Path, family: str, boxes: Mapping[str, Size], *, style: str = "Regular", weight: int = 400, width: int = 5,
    italic: bool = False, notdef: Size = (0, 0), licence: str = "", max_weight: int | None = None,
) -> Path:  # fmt: skip
    """Writes a TrueType font of 1000 units per em and returns its path.

    Args:
      boxes: character -> width and height in units; (0, 0) is a glyph without ink. The left edge is at x = 50 and the
        advance is 100 more than the width.
      max_weight: makes the font variable, from `weight` to this one, where every box is 100 units wider; the instances
        Light (300), Regular (400) and Bold (700) are named if they lie between.
    """
    names = {ord(c): f"u{ord(c):05x}" for c in boxes}
    shapes = {".notdef": notdef} | {names[ord(c)]: size for c, size in boxes.items()}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(shapes))
    builder.setupCharacterMap(names)
    builder.setupGlyf({name: _rectangle(*size) for name, size in shapes.items()})
    builder.setupHorizontalMetrics({name: (size[0] + 100, 50 if size[0] else 0) for name, size in shapes.items()})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable(
        {"familyName": family, "styleName": style, "typographicFamily": family, "typographicSubfamily": style}
        | ({"licenseDescription": licence} if licence else {})
    )
    builder.setupOS2(usWeightClass=weight, usWidthClass=width, fsSelection=0x01 if italic else 0x40)
    builder.setupPost()
    if max_weight is not None:
        named = [("Light", 300), ("Regular", 400), ("Bold", 700)]
        instances = [{"location": {"wght": w}, "stylename": name} for name, w in named if weight <= w <= max_weight]
        builder.setupFvar([("wght", weight, weight, max_weight, "Weight")], instances)
        builder.setupGvar({name: [_wider(*size)] for name, size in shapes.items() if size[0]})
    builder.save(path)
    return path


def _rectangle(width: int, height: int):
    pen = TTGlyphPen(None)
    if width and height:
        pen.moveTo((50, 0))
        for point in ((50, height), (50 + width, height), (50 + width, 0)):
            pen.lineTo(point)
        pen.closePath()
    return pen.glyph()


def _wider(width: int, height: int) -> TupleVariation:
    right = (100, 0)  # the last four points are the metrics' own
    return TupleVariation({"wght": (0.0, 1.0, 1.0)}, [(0, 0), (0, 0), right, right, (0, 0), right, (0, 0), (0, 0)])
