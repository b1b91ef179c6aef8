"""Draws letters as the original does, with cairo's toy text, and prints how far the masks of "v1" are from them.

    FONTCONFIG_FILE=fonts.conf python toy_text.py FOLDER

A program of its own, because fontconfig reads its configuration once per process. Prints, as JSON, the share of letters
whose masks differ only at the edges, for upright letters and for turned and slanted ones.
"""

import json
import math
import sys

import cairo
import numpy as np

from jaxrepro.synbols.drawing import draw_masks
from jaxrepro.synbols.fonts import find_fonts
from jaxrepro.synbols.symbols import Image, Symbol

FAMILY, SIDE = "DejaVu Sans", 32


def toy_mask(symbol: Symbol) -> np.ndarray:
    surface = cairo.ImageSurface(cairo.FORMAT_A8, SIDE, SIDE)
    context = cairo.Context(surface)
    context.scale(SIDE, SIDE)
    options = cairo.FontOptions()
    options.set_hint_style(cairo.HINT_STYLE_NONE)
    context.set_font_options(options)
    context.select_font_face(FAMILY, cairo.FONT_SLANT_NORMAL, int(symbol.is_bold))
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
    return np.ndarray((SIDE, SIDE), np.uint8, surface.get_data())


def main() -> None:
    font = next(f for f in find_fonts([sys.argv[1]]) if f.name == FAMILY)
    rng = np.random.default_rng(0)
    shares = []
    for is_upright in (True, False):
        same = []
        for k in range(260):
            symbol = Symbol(
                "abcdefghijklmnopqrstuvwxyz"[k % 26], font, is_bold=k % 2 == 0, is_slant=k % 3 == 0 and not is_upright,
                rotation=0 if is_upright else 0.3 * rng.standard_normal(),
                scale=0.6 * math.exp(0.2 * rng.standard_normal()), translation=rng.uniform(-0.9, 0.9, 2),
            )  # fmt: skip
            mine = draw_masks(Image((symbol,), resolution=(SIDE, SIDE), compat="v1"))[..., 0]
            theirs = toy_mask(symbol)
            same.append(np.abs(mine.astype(int) - theirs).sum() < 0.03 * theirs.sum())
        shares.append(float(np.mean(same)))
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
