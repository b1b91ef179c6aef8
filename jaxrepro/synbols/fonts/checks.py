"""Letters that a font claims to have and does not draw.

A font may map a character to an empty glyph, to its "missing glyph" box, or, as placeholder and barcode fonts do, map
many characters to one shape. Such letters must not be labels of a dataset.
"""

import re
from collections.abc import Sequence

from jaxrepro.synbols.fonts.faces import (
    Face,
    Font,
    Outline,
    code_points,
    covers,
    glyph_box,
    notdef_outline,
    text_outline,
)

# Families of google/fonts that draw bars or blocks instead of letters. Their shapes differ, so only the names tell.
_NO_LETTERS = re.compile(r"\bBarcode\b|^Redacted\b|^Flow (Block|Circular|Rounded)$")
_SAMPLE = 100  # characters looked at first; a font in which these are sound is taken as sound


def supported(font: Font, symbols: Sequence[str], *, support_bold: bool = False) -> tuple[str, ...]:
    """Returns the symbols that a font really draws, in the order given.

    Up to 100 symbols, evenly spaced, are looked at; only if one of them is broken are all. (The original draws 100
    at random and gives up the font if one is empty.) A font that gives most characters the same shape supports none.

    Args:
      symbols: strings of one or more characters.
      support_bold: count a symbol whose bold form looks like the regular one as broken.
    """
    if _NO_LETTERS.search(font.name):
        return ()
    available = code_points(font.regular)
    mapped = [s for s in symbols if available.issuperset(map(ord, s))]
    sample = mapped[:: -(-len(mapped) // _SAMPLE)] if mapped else []
    if _mostly_alike(font, sample):
        return ()
    if not any(broken(font, s, support_bold=support_bold) for s in sample):
        return tuple(mapped)
    return tuple(s for s in mapped if not broken(font, s, support_bold=support_bold))


def broken(font: Font, symbol: str, *, support_bold: bool = False) -> str:
    """Returns why a symbol is unusable: "missing", "empty", "notdef" or "same in bold"; "" if it is sound."""
    if not covers(font.regular, symbol):
        return "missing"
    bold = font.bold if font.bold is not None and covers(font.bold, symbol) else None
    for face in (font.regular, bold):
        if face is not None and not any(_has_ink(face, c) for c in symbol):
            return "empty"
    like_notdef = len(symbol) == 1 and _same_box(font.regular, symbol, font.regular, None)
    if like_notdef and same(text_outline(font, symbol), notdef_outline(font.regular)):
        return "notdef"
    # A thickened outline always differs from the one that was thickened.
    if support_bold and bold is not None and all(_same_box(font.regular, c, bold, c) for c in symbol):
        return "same in bold" if same(text_outline(font, symbol), text_outline(font, symbol, is_bold=True)) else ""
    return ""


def same(one: Outline, other: Outline) -> bool:
    """Returns whether two outlines are equal, point by point."""
    return one.box == other.box and list(one.path) == list(other.path)


def _has_ink(face: Face, char: str) -> bool:
    _, _, width, height = glyph_box(face, char)
    return bool(width and height)


def _same_box(one: Face, char: str, other: Face, other_char: str | None) -> bool:
    # Asking for boxes is many times faster than drawing, and they tell most glyphs apart.
    return glyph_box(one, char) == glyph_box(other, other_char)


def _mostly_alike(font: Font, symbols: Sequence[str]) -> bool:
    """Returns whether there are at most half as many shapes as symbols, as in placeholder fonts."""
    boxes = {tuple(glyph_box(font.regular, c) for c in s) for s in symbols}
    if len(symbols) < 3 or 2 * len(boxes) > len(symbols):
        return False
    return 2 * len({str(text_outline(font, s).path) for s in symbols}) <= len(symbols)
