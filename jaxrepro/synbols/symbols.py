"""Latent values: what an image shows, before anything is drawn.

    letter = Symbol("g", font, foreground=SolidColor((1, 0, 0)), rotation=0.2, scale=0.6)
    image = Image((letter,), background=Gradient(seed=7), resolution=(64, 48), seed=1)
    attributes_of(image)

Both classes are immutable and hold plain values, so an image can be changed with `dataclasses.replace`, sent to
another process, and drawn any number of times with the same result. Source: Synbols (Lacoste et al., 2020), section 3.
"""

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.checks import flag, number
from jaxrepro.synbols.distributions import Distribution, declared, plain
from jaxrepro.synbols.fonts import Font
from jaxrepro.synbols.languages import Alphabet
from jaxrepro.synbols.patterns import NoPattern, Pattern, SolidColor, checked_pattern

SMALLEST, LARGEST = 4, 4096  # pixels of a side
_NUMBER = (int, float, np.number)
COMPAT = (None, "v1")


@dataclass(frozen=True)
class Symbol:
    """One character, or a string of them, and how it is drawn.

    Attributes:
      char: the text; several characters stand on one line with their plain advances.
      font: a family, or None for the built-in shapes ■ ▲ ● of the occlusions.
      alphabet: where the character came from; only its name is recorded.
      foreground: the colour source, in coordinates of the image. Under NoPattern the symbol is left out: nothing
        is drawn and its mask is empty.
      is_slant: oblique, sheared by 0.2. The family's own italics are not used, as in the original.
      rotation: radians, clockwise on the screen.
      scale: longer side of the upright glyph box, as a share of the image's shorter side.
      translation: (x, y); -1, 0 and 1 put the glyph box flush left or top, in the middle, flush right or bottom.
        One number stands for both axes.
      label: what is recorded as `char`, if it is not what is drawn (label noise).

    Raises:
      UserError: an empty text, a font or pattern that is none, a scale that is not positive, a value that is not
        finite, a flag that is neither True nor False.
    """

    char: str
    font: Font | None
    alphabet: Alphabet | None = None
    foreground: Pattern = SolidColor()
    is_bold: bool = False
    is_slant: bool = False
    rotation: float = 0.0
    scale: float = 0.6
    translation: tuple[float, float] = (0.0, 0.0)
    label: str | None = None

    def __post_init__(self):
        if not self.char or not isinstance(self.char, str):
            raise UserError(f"char is {self.char!r}; a symbol needs one character or more")
        if self.font is not None and not isinstance(self.font, Font):
            raise UserError(f"font is {self.font!r}; it must be a Font, such as find_fonts()[0], or None")
        if self.label is not None and not isinstance(self.label, str):
            raise UserError(f"label is {self.label!r}; it must be a text or None")
        checked_pattern("foreground", self.foreground)
        try:
            x, y = (self.translation,) * 2 if isinstance(self.translation, _NUMBER) else self.translation
            scale, rotation, x, y = float(self.scale), float(self.rotation), float(x), float(y)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"scale {self.scale!r}, rotation {self.rotation!r}, translation {self.translation!r}: "
                "the first two are numbers, the last is two numbers or one"
            ) from error
        if not 0 < scale < math.inf:
            raise UserError(f"scale is {scale:g}; it must be positive (1 fills the image's shorter side)")
        if not math.isfinite(rotation + x + y):
            raise UserError(f"rotation is {rotation:g} and translation ({x:g}, {y:g}); they must be finite")
        # NumPy's numbers and arrays become plain ones: they are hashed, compared and written as JSON.
        self.__dict__.update(
            is_bold=flag("is_bold", self.is_bold), is_slant=flag("is_slant", self.is_slant),
            rotation=rotation, scale=scale, translation=(x, y),
        )  # fmt: skip


@dataclass(frozen=True)
class Image:
    """Symbols over a background, and what happens to the finished pixels.

    Attributes:
      symbols: drawn in this order, so later ones cover earlier ones.
      resolution: (width, height) in pixels; one number means a square.
      inverse_color: v becomes 1 - v.
      max_contrast: the values are stretched to 0 … 1, over all channels together.
      pixel_noise_scale: standard deviation of the noise on each value, on the scale 0 … 1.
      is_gray: one channel, the mean of three.
      seed: of the pixel noise. Every random pattern has a seed of its own.
      compat: None, or "v1" for the original's oddities; the package's text lists them.

    Raises:
      UserError: a resolution or noise out of range, a background that is no pattern, an unknown `compat`.
    """

    symbols: tuple[Symbol, ...]
    background: Pattern = NoPattern()
    resolution: tuple[int, int] = (32, 32)
    inverse_color: bool = False
    max_contrast: bool = True
    pixel_noise_scale: float = 0.01
    is_gray: bool = False
    seed: int = 0
    compat: str | None = None

    def __post_init__(self):
        resolution = checked_resolution(self.resolution)
        noise = number("pixel_noise_scale", self.pixel_noise_scale, 0.0)
        checked_pattern("background", self.background)
        if self.compat not in COMPAT:
            raise unknown("value of compat", self.compat, ("v1",))
        self.__dict__.update(
            symbols=tuple(self.symbols), resolution=resolution, pixel_noise_scale=noise,
            inverse_color=flag("inverse_color", self.inverse_color),
            max_contrast=flag("max_contrast", self.max_contrast), is_gray=flag("is_gray", self.is_gray),
        )  # fmt: skip


def checked_resolution(resolution: Any) -> tuple[int, int]:
    """Returns (width, height) as integers; one number means a square; else a UserError says what is allowed."""
    try:
        width, height = (resolution, resolution) if np.isscalar(resolution) else resolution
        if all(int(side) == side and SMALLEST <= side <= LARGEST for side in (width, height)):
            return int(width), int(height)
    except (TypeError, ValueError):
        pass
    raise UserError(
        f"resolution is {resolution!r}; it must be (width, height), or one number for both, "
        f"of {SMALLEST} to {LARGEST} pixels"
    )


def attributes_of(image: Image) -> dict[str, Any]:
    """Returns the image's latent values as a dict of JSON types.

    The layout is the original's: values of the image, those of the first symbol beside them, and the list `symbols`
    with everything of every symbol. `inverse_color`, `max_contrast` and `is_gray`, which the original forgets, are
    there too. Where a symbol has a label, `char` is the label and `drawn_char` what is to be seen.
    Under compat="v1" is_bold and is_slant are the strings "True" and "False".
    """
    symbols = [_symbol_attributes(symbol, image.compat) for symbol in image.symbols]
    return {
        "resolution": list(image.resolution),
        "pixel_noise_scale": image.pixel_noise_scale,
        "seed": image.seed,
        "background": pattern_attributes(image.background),
        "inverse_color": image.inverse_color,
        "max_contrast": image.max_contrast,
        "is_gray": image.is_gray,
        **(symbols[0] if symbols else {}),
        "symbols": symbols,
    }


def pattern_attributes(pattern: Pattern) -> dict[str, Any]:
    """Returns {"style": name of the class} and its seed or colour, and whatever else is not at its default.

    Of somebody's own pattern that is no dataclass only the name.
    """
    attributes: dict[str, Any] = {"style": type(pattern).__name__}
    for name, default in _defaults(type(pattern)):
        value = getattr(pattern, name)
        value = plain(value) if isinstance(value, np.ndarray | np.generic) else value
        if value != default or name in ("seed", "color"):
            is_drawn = isinstance(value, Distribution) or callable(value)
            attributes[name] = str(declared(value)) if is_drawn else list(value) if isinstance(value, tuple) else value
    return attributes


@functools.cache
def _defaults(pattern_type: type) -> tuple[tuple[str, Any], ...]:
    return tuple((f.name, f.default) for f in fields(pattern_type)) if is_dataclass(pattern_type) else ()


def attributes_json(attributes: dict[str, Any]) -> str:
    """Returns the attributes of a sample as JSON, with NumPy's numbers and arrays as plain ones.

    Raises:
      UserError: a pattern or an aggregator of masks adds something that JSON cannot hold.
    """
    return _ENCODER.encode(attributes)


def _plain_for_json(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return plain(value)
    raise UserError(f"an attribute is {value!r}; files hold numbers, texts, flags, lists and dicts of them")


_ENCODER = json.JSONEncoder(default=_plain_for_json)


def flatten_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Returns the leaves of nested dicts and lists under keys like translation[0], symbols[1].foreground.style."""
    return dict(_leaves(attributes, ""))


def _symbol_attributes(symbol: Symbol, compat: str | None) -> dict[str, Any]:
    flag = str if compat == "v1" else bool
    attributes = {
        "alphabet": symbol.alphabet.name if symbol.alphabet else None,
        "char": symbol.char if symbol.label is None else symbol.label,
        "font": symbol.font.name if symbol.font else "shapes",
        "is_bold": flag(symbol.is_bold),
        "is_slant": flag(symbol.is_slant),
        "scale": symbol.scale,
        "translation": list(symbol.translation),
        "rotation": symbol.rotation,
        "foreground": pattern_attributes(symbol.foreground),
    }
    if symbol.label is not None:
        attributes["drawn_char"] = symbol.char
    return attributes


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{key}[{i}]")
    else:
        yield key, value
