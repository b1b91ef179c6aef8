"""Samplers: random images from distributions of their attributes.

    sampler = attribute_sampler(scale=0.5, translation=lambda rng: rng.uniform(-2, 2, 2))
    image = sampler(np.random.default_rng(0))

A sampler maps a generator to an `Image`. Each attribute is None (the default distribution), a function of the
generator, or anything else: a constant. Joint distributions are samplers that call samplers:

    def sampler(rng):
        scale = math.exp(rng.normal())
        return attribute_sampler(scale=scale, rotation=0.1 / scale)(rng)

Source: Synbols, section 3, and the defaults of its code.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.languages import alphabet as find_alphabet
from jaxrepro.synbols.patterns import Gradient
from jaxrepro.synbols.shapes import SHAPES
from jaxrepro.synbols.symbols import COMPAT, Image, Symbol, checked_resolution

Sampler = Callable[[np.random.Generator], Image]


def attribute_sampler(
    *, alphabet: Any = None, char: Any = None, font: Any = None, is_bold: Any = None, is_slant: Any = None,
    rotation: Any = None, scale: Any = None, translation: Any = None, foreground: Any = None, background: Any = None,
    inverse_color: Any = None, max_contrast: Any = None, pixel_noise_scale: Any = None,
    resolution: Any = (32, 32), is_gray: bool = False, n_symbols: Any = 1, compat: str | None = None,
) -> Sampler:  # fmt: skip
    """Returns a sampler of images whose attributes are drawn independently.

    An attribute may be None, a function of the generator that is called once per symbol (or per image), or a constant.

    Args:
      alphabet: characters and fonts that the defaults of char and font draw from; None: English, lower case,
        standard and auxiliary letters, families with a bold face.
      char: a text; None: uniform over the alphabet.
      font: a Font or the name of one of the alphabet's; None: uniform over the alphabet.
      is_bold, is_slant: None: with probability 1/2.
      rotation: radians, clockwise; None: N(0, 0.3).
      scale: longer side of the upright glyph box; None: 0.6 exp(N(0, 0.2)).
      translation: (x, y) or one number for both; None: U(-0.9, 0.9)².
      foreground, background: a pattern; None: Gradient. A pattern without a seed gets a new one each time.
      inverse_color: per image; None: with probability 1/2.
      max_contrast: per image; None: True.
      pixel_noise_scale: per image; None: 0.01.
      resolution: (width, height) or one number; a constant.
      is_gray: a constant.
      n_symbols: a number or a function of the generator.
      compat: "v1" for the original's oddities.

    Raises:
      UserError: at once for a bad constant or a font that the alphabet has not; from the sampler for a bad draw.
    """
    resolution = checked_resolution(resolution)
    if compat not in COMPAT:
        raise unknown("value of compat", compat, ("v1",))
    if alphabet is None and (char is None or font is None or isinstance(font, str)):
        alphabet = find_alphabet(support_bold=True)
    draw_alphabet, draw_char, draw_font = _drawer(alphabet, None), _drawer(char, None), _drawer(font, None)
    draw_bold, draw_slant = _drawer(is_bold, coin), _drawer(is_slant, coin)
    draw_rotation = _drawer(rotation, lambda rng: 0.3 * rng.standard_normal())
    draw_scale = _drawer(scale, lambda rng: 0.6 * math.exp(0.2 * rng.standard_normal()))
    draw_translation = _drawer(translation, lambda rng: (1.8 * rng.random() - 0.9, 1.8 * rng.random() - 0.9))
    draw_foreground, draw_background = _drawer(foreground, _gradient), _drawer(background, _gradient)
    draw_inverse, draw_contrast = _drawer(inverse_color, coin), _drawer(max_contrast, lambda rng: True)
    draw_noise = _drawer(pixel_noise_scale, lambda rng: 0.01)
    draw_count = _drawer(n_symbols, None)

    def symbol(rng: np.random.Generator) -> Symbol:
        letters = draw_alphabet(rng)
        return Symbol(
            alphabet=letters,
            char=pick(rng, letters.symbols) if char is None else draw_char(rng),
            font=pick(rng, letters.fonts) if font is None else _named(draw_font(rng), letters),
            is_bold=draw_bold(rng),
            is_slant=draw_slant(rng),
            rotation=draw_rotation(rng),
            scale=draw_scale(rng),
            translation=draw_translation(rng),
            foreground=_with_seed(draw_foreground(rng), rng),
        )

    def sampler(rng: np.random.Generator) -> Image:
        count = draw_count(rng)
        if count < 0:
            raise UserError(f"n_symbols is {count}; it must be 0 or more")
        return Image(
            symbols=tuple([symbol(rng) for _ in range(count)]),
            background=_with_seed(draw_background(rng), rng),
            inverse_color=draw_inverse(rng),
            pixel_noise_scale=draw_noise(rng),
            max_contrast=draw_contrast(rng),
            seed=draw_seed(rng),
            resolution=resolution,
            is_gray=is_gray,
            compat=compat,
        )

    # Bad constants are found here and not in the middle of a long run.
    _check_constants(scale=scale, rotation=rotation, translation=translation)
    if not callable(pixel_noise_scale) and pixel_noise_scale is not None:
        Image((), pixel_noise_scale=pixel_noise_scale)
    if isinstance(font, str) and not callable(alphabet):
        _named(font, alphabet)
    return sampler


def add_occlusion(
    sampler: Sampler, *, n_occlusion: Any = None, char: Any = None, rotation: Any = None, scale: Any = None,
    translation: Any = None, foreground: Any = None,
) -> Sampler:  # fmt: skip
    """Returns a sampler that puts shapes in front of another sampler's symbols.

    Args:
      n_occlusion: None: 1, 2, 3 or 4.
      char: None: a square ■, triangle ▲ or disc ●.
      rotation: None: U(0, 2π).
      scale: None: 0.3 exp(N(0, 0.1)).
      translation: None: U(-1.5, 1.5)².
      foreground: None: Gradient.
    """
    draw_count = _drawer(n_occlusion, lambda rng: 1 + int(4 * rng.random()))
    draw_scale = _drawer(scale, lambda rng: 0.3 * math.exp(0.1 * rng.standard_normal()))
    draw_translation = _drawer(translation, lambda rng: (3 * rng.random() - 1.5, 3 * rng.random() - 1.5))
    draw_char = _drawer(char, lambda rng: pick(rng, SHAPES))
    draw_rotation = _drawer(rotation, lambda rng: 2 * math.pi * rng.random())
    draw_foreground = _drawer(foreground, _gradient)
    _check_constants(scale=scale, rotation=rotation, translation=translation)

    def occlusion(rng: np.random.Generator) -> Symbol:
        return Symbol(
            scale=draw_scale(rng),
            translation=draw_translation(rng),
            char=draw_char(rng),
            rotation=draw_rotation(rng),
            foreground=_with_seed(draw_foreground(rng), rng),
            font=None,
        )

    def occluded(rng: np.random.Generator) -> Image:
        image = sampler(rng)
        shapes = tuple([occlusion(rng) for _ in range(draw_count(rng))])
        return dataclasses.replace(image, symbols=image.symbols + shapes)

    return occluded


def coin(rng: np.random.Generator) -> bool:
    """Returns True with probability 1/2."""
    return rng.random() < 0.5


def pick(rng: np.random.Generator, values: Any) -> Any:
    """Returns one of a sequence, all equally likely."""
    return values[int(rng.random() * len(values))]


def draw_seed(rng: np.random.Generator) -> int:
    """Returns a seed of 32 bits."""
    return int(rng.random() * 0x1_0000_0000)


def _drawer(value: Any, default: Callable | None) -> Callable[[np.random.Generator], Any]:
    if value is None and default is not None:
        return default
    return value if callable(value) else lambda rng: value


def _gradient(rng: np.random.Generator) -> Gradient:
    return Gradient(draw_seed(rng))


def _with_seed(pattern: Any, rng: np.random.Generator) -> Any:
    if getattr(pattern, "seed", 0) is None:
        return dataclasses.replace(pattern, seed=draw_seed(rng))
    return pattern


def _named(font: Any, letters: Any) -> Any:
    if not isinstance(font, str):
        return font
    for candidate in letters.fonts:
        if candidate.name == font:
            return candidate
    raise unknown(f"font of the alphabet {letters.name}", font, [f.name for f in letters.fonts])


def _check_constants(**values: Any) -> None:
    constants = {k: v for k, v in values.items() if v is not None and not callable(v)}
    Symbol(SHAPES[0], None, **constants)
