"""Draws letters as the original does, with cairo's toy text, and prints how far "v1" and the default are from them.

    FONTCONFIG_FILE=fonts.conf python toy_text.py FOLDER

A program of its own, because fontconfig reads its configuration once per process. Prints JSON:

  same      share of letters of DejaVu Sans whose masks differ only at the edges, without hints: [upright, turned]
  coverage  for 8 and 32 pixels, coverage of all installed families over the original's, with hints: [v1, default]
"""

import json
import math
import sys

import cairo
import numpy as np

from jaxrepro.synbols import drawing
from jaxrepro.synbols.fonts import find_fonts, installed_fonts
from jaxrepro.synbols.symbols import Image, Symbol

FAMILY, LETTERS = "DejaVu Sans", "abcdefghijklmnopqrstuvwxyz"


def toy_mask(symbol: Symbol, side: int, hint_style: int) -> np.ndarray:
    surface = cairo.ImageSurface(cairo.FORMAT_A8, side, side)
    context = cairo.Context(surface)
    context.scale(side, side)
    options = cairo.FontOptions()
    options.set_hint_style(hint_style)
    context.set_font_options(options)
    context.select_font_face(symbol.font.name, cairo.FONT_SLANT_NORMAL, int(symbol.is_bold))
    context.set_font_size(1)
    upright = context.text_extents(symbol.char)
    size = symbol.scale / max(upright.width, upright.height, 0.1)
    cosine, sine = math.cos(symbol.rotation), math.sin(symbol.rotation)
    matrix = cairo.Matrix(cosine, sine, -sine, cosine)
    if symbol.is_slant:
        matrix = matrix.multiply(cairo.Matrix(1, 0.2, 0, 1))
    context.set_font_matrix(cairo.Matrix(size, 0, 0, size).multiply(matrix))
    box = context.text_extents(symbol.char)
    x, y = symbol.translation
    context.translate((x + 1) / 2 * (1 - box.width) - box.x_bearing, (y + 1) / 2 * (1 - box.height) - box.y_bearing)
    context.show_text(symbol.char)
    surface.flush()
    return np.ndarray((side, side), np.uint8, bytes(surface.get_data()), strides=(surface.get_stride(), 1))


def mask(symbol: Symbol, side: int, compat: str | None) -> np.ndarray:
    return drawing.draw_masks(Image((symbol,), resolution=(side, side), compat=compat))[..., 0].astype(int)


def share_alike(font, is_upright: bool) -> float:
    rng, same, covers = np.random.default_rng(0), [], drawing.covers
    drawing.covers = lambda *_: False  # no letter o to be hinted by
    for k in range(260):
        symbol = Symbol(
            LETTERS[k % 26], font, is_bold=k % 2 == 0, is_slant=k % 3 == 0 and not is_upright,
            rotation=0 if is_upright else 0.3 * rng.standard_normal(),
            scale=0.6 * math.exp(0.2 * rng.standard_normal()), translation=rng.uniform(-0.9, 0.9, 2),
        )  # fmt: skip
        theirs = toy_mask(symbol, 32, cairo.HINT_STYLE_NONE)
        same.append(np.abs(mask(symbol, 32, "v1") - theirs).sum() < 0.03 * theirs.sum())
    drawing.covers = covers
    return float(np.mean(same))


def coverage(side: int) -> list[float]:
    rng, sums = np.random.default_rng(1), np.zeros(3)
    for k, font in enumerate(installed_fonts()):
        for char in LETTERS:
            symbol = Symbol(char, font, is_bold=k % 2 == 0, rotation=0.3 * rng.standard_normal(), scale=0.8)
            masks = (*(mask(symbol, side, c) for c in ("v1", None)), toy_mask(symbol, side, cairo.HINT_STYLE_SLIGHT))
            sums += [m.sum() for m in masks]
    return (sums[:2] / sums[2]).tolist()


def main() -> None:
    font = next(f for f in find_fonts([sys.argv[1]]) if f.name == FAMILY)
    found = {
        "same": [share_alike(font, is_upright) for is_upright in (True, False)],
        "coverage": {side: coverage(side) for side in (8, 32)},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
