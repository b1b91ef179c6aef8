"""Glyph outlines, read from font files with HarfBuzz.

    text_outline(font, "a", is_bold=False).path        # a cairo.Path in ems, ready for context.append_path

Neither fontconfig nor hinting nor shaping takes part, so an outline depends on the bytes of the font file only.
HarfBuzz maps the file into memory and reads one glyph in some 25 µs, also of variable fonts; the outlines used
last are kept, and both caches are bounded, so that memory does not grow with the number of fonts.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxrepro.errors import UserError

# Of the font size: what FreeType adds where a family has no bold face (the original's renderer asked it to).
EMBOLDEN = 1 / 24

_OPEN_FACES = 512
_OUTLINES = 16_384
# cairo keeps coordinates as 24.8 fixed point in device space: at this scale they are exact to 4e-6 em.
_DEVICE_PER_EM = 1024.0


class Face(NamedTuple):
    """One style of a family: a file, the number of the face in it, and its place on the axes of a variable font."""

    path: str
    index: int = 0
    location: tuple[tuple[str, float], ...] = ()  # (axis, value); axes at their default are left out


@dataclass(frozen=True)
class Font:
    """A family as Synbols samples it: one upright face, and one for bold."""

    name: str
    regular: Face
    bold: Face | None  # None: bold is the regular outline thickened
    package: str  # the package that holds it, or the folder
    licence: str  # SPDX identifier, "" if the font does not say


class Outline(NamedTuple):
    """A drawable line of text."""

    path: Any  # cairo.Path; unit: font size, y down, origin at the left end of the baseline
    box: tuple[float, float, float, float]  # x, y, width, height of the ink


def text_outline(font: Font, text: str, is_bold: bool = False) -> Outline:
    """Returns the outline of one line of text; a look-up when it was drawn before.

    Fill it with the non-zero rule (cairo's default). Characters stand one after another at their plain advances, as
    with the original's toy text; neither kerning nor shaping.

    Raises:
      UserError: the font lacks a character.
    """
    if not is_bold:
        return outline(font.regular, text)
    # Some bold faces lack letters of their regular face; those are thickened too.
    if font.bold is not None and covers(font.bold, text):
        return outline(font.bold, text)
    return outline(font.regular, text, EMBOLDEN)


@functools.lru_cache(_OUTLINES)
def outline(face: Face, text: str, embolden: float = 0.0) -> Outline:
    """Returns the outline of one line of text in one face.

    Args:
      embolden: thickness to add to every stem, as a share of the font size.

    Raises:
      UserError: the face lacks a character, or its file cannot be read.
    """
    font = hb_font(face, embolden)
    glyphs = [font.get_nominal_glyph(ord(c)) for c in text]
    for char, glyph in zip(text, glyphs):
        if not glyph:
            raise UserError(f"the font {face.path} has no character {char!r} (U+{ord(char):04X})")
    return _draw(font, glyphs)


@functools.lru_cache(_OPEN_FACES)
def notdef_outline(face: Face) -> Outline:
    """Returns what a face shows in place of characters that it lacks."""
    return _draw(hb_font(face), [0])


def covers(face: Face, text: str) -> bool:
    """Returns whether a face has a glyph for every character of a text.

    Raises:
      UserError: its file cannot be read.
    """
    glyph = hb_font(face).get_nominal_glyph
    return all(glyph(ord(c)) for c in text)


def code_points(face: Face) -> frozenset[int]:
    """Returns all characters of a face; quicker than `covers` for thousands of characters."""
    return frozenset(hb_face(face.path, face.index).unicodes)


def glyph_box(face: Face, char: str | None) -> tuple[float, float, float, float]:
    """Returns x, y, width and height of a glyph's ink in units of the file, y up; of the missing glyph for None."""
    font = hb_font(face)
    extents = font.get_glyph_extents(font.get_nominal_glyph(ord(char)) if char else 0)
    return tuple(extents) if extents else (0, 0, 0, 0)


@functools.lru_cache(_OPEN_FACES)
def hb_face(path: str, index: int = 0) -> Any:
    """Returns the opened uharfbuzz.Face of a file."""
    try:
        import uharfbuzz
    except ImportError as error:
        raise UserError("reading fonts needs HarfBuzz: pip install uharfbuzz") from error
    try:
        return uharfbuzz.Face(uharfbuzz.Blob.from_file_path(path), index)
    except (OSError, uharfbuzz.HarfBuzzError) as error:
        raise UserError(f"cannot read the font file {path}: {error}") from error


@functools.lru_cache(_OPEN_FACES)
def hb_font(face: Face, embolden: float = 0.0) -> Any:
    """Returns the opened uharfbuzz.Font of a face, in units of its file."""
    import uharfbuzz

    font = uharfbuzz.Font(hb_face(face.path, face.index))
    if face.location:
        font.set_variations(dict(face.location))
    if embolden:
        font.synthetic_bold = (embolden, embolden, False)
    return font


@functools.cache
def _pen() -> Any:
    """Returns callbacks that draw into a cairo context; HarfBuzz turns quadratic curves into cubic ones."""
    import uharfbuzz

    pen = uharfbuzz.DrawFuncs()
    pen.set_move_to_func(lambda x, y, context: context.move_to(x, y))
    pen.set_line_to_func(lambda x, y, context: context.line_to(x, y))
    pen.set_cubic_to_func(lambda x1, y1, x2, y2, x, y, context: context.curve_to(x1, y1, x2, y2, x, y))
    pen.set_close_path_func(lambda context: context.close_path())
    return pen


@functools.cache
def _scratch() -> Any:
    """Returns a surface on which nothing is drawn; a context needs one."""
    import cairo

    return cairo.ImageSurface(cairo.FORMAT_A8, 1, 1)


def _draw(font: Any, glyphs: list[int]) -> Outline:
    import cairo

    context = cairo.Context(_scratch())
    unit = _DEVICE_PER_EM / font.face.upem
    context.scale(unit, -unit)
    for glyph in glyphs:
        font.draw_glyph(glyph, _pen(), context)
        context.translate(font.get_glyph_h_advance(glyph), 0)
    context.set_matrix(cairo.Matrix(_DEVICE_PER_EM, 0, 0, _DEVICE_PER_EM, 0, 0))
    left, top, right, bottom = context.path_extents()
    return Outline(context.copy_path(), (left, top, right - left, bottom - top))
