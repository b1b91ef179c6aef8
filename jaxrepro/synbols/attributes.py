"""Samplers: random images from distributions of their attributes.

    sampler = attribute_sampler(scale=0.5, translation=Uniform(-2, 2, size=2), rotation=lambda rng: rng.beta(2, 5))
    image = sampler(np.random.default_rng(0))
    print(sampler)                                      # a line for every attribute

A sampler maps a generator to an `Image`. Each attribute is None (its default), a distribution, a function of the
generator, or anything else: a constant. Samplers are declared values as distributions are: equal ones compare equal,
and files record them. Attributes that depend on each other are a `Joint`, or a function that calls samplers:

    attribute_sampler(Mixture((Joint({"char": "maybe", "scale": 0.9}), Joint({"char": "no", "scale": 0.4}))))

    def sampler(rng):
        scale = math.exp(rng.normal())
        return attribute_sampler(scale=scale, rotation=0.1 / scale)(rng)

Source: Synbols, section 3, and the defaults of its code.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.checks import flag, whole
from jaxrepro.synbols.distributions import (
    COIN,
    AnyFont,
    AnySymbol,
    Choice,
    Constant,
    Distribution,
    Joint,
    LogNormal,
    Normal,
    Uniform,
    declared,
    drawer,
    integers,
    resolved,
    shown,
    walk,
)
from jaxrepro.synbols.drawing import draw_masks
from jaxrepro.synbols.draws import Draw, draw_seed
from jaxrepro.synbols.languages import alphabet as find_alphabet
from jaxrepro.synbols.masks import overlap_score
from jaxrepro.synbols.patterns import Gradient, NoPattern
from jaxrepro.synbols.shapes import SHAPES
from jaxrepro.synbols.symbols import COMPAT, Image, Symbol, checked_resolution

Sampler = Callable[[np.random.Generator], Image]

# Drawn for each symbol, and once for an image; in this order.
OF_SYMBOL = {
    "char": AnySymbol(),
    "font": AnyFont(),
    "is_bold": COIN,
    "is_slant": COIN,
    "rotation": Normal(0.0, 0.3),
    "scale": LogNormal(0.6, 0.2),
    "translation": Uniform(-0.9, 0.9, size=2),
    "foreground": Constant(Gradient()),
}
OF_IMAGE = {
    "background": Constant(Gradient()),
    "inverse_color": COIN,
    "pixel_noise_scale": Constant(0.01),
    "max_contrast": Constant(True),
}
_MOST_DRAWS = 10_000  # of one image, before giving up on a condition
_MOST_ALPHABETS = 64  # whose draws are kept at hand


@dataclass(frozen=True, repr=False)
class AttributeSampler(Distribution):
    """What `attribute_sampler` makes of its arguments: a distribution, or None, for each attribute."""

    joint: Distribution | None
    alphabet: Distribution
    char: Distribution
    font: Distribution
    is_bold: Distribution
    is_slant: Distribution
    rotation: Distribution
    scale: Distribution
    translation: Distribution
    foreground: Distribution
    background: Distribution
    inverse_color: Distribution
    pixel_noise_scale: Distribution
    max_contrast: Distribution
    n_symbols: Distribution
    label: Distribution | None
    is_missing: Distribution | None
    resolution: tuple[int, int]
    is_gray: bool
    compat: str | None

    def __str__(self):
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return "\n".join(f"{name:21} {shown(value)}" for name, value in values.items() if value is not None)

    def __repr__(self):
        return f"attribute_sampler({'; '.join(' '.join(line.split()) for line in str(self).splitlines())})"


@dataclass(frozen=True)
class Occluded(Distribution):
    """What `add_occlusion` makes of its arguments."""

    sampler: Distribution
    n_occlusion: Distribution
    char: Distribution
    rotation: Distribution
    scale: Distribution
    translation: Distribution
    foreground: Distribution

    def __str__(self):
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "sampler"}
        lines = [f"{'occlusion ' * (name[:2] != 'n_') + name:21} {value}" for name, value in own.items()]
        return "\n".join([str(self.sampler), *lines])


@dataclass(frozen=True)
class Overlapping(Distribution):
    """The images of a sampler whose symbols overlap (`overlap_score` is positive), or do not: drawn until one fits."""

    sampler: Distribution
    is_overlapping: bool

    def __str__(self):
        return f"{self.sampler}\n{'only':21} images whose symbols {'' if self.is_overlapping else 'do not '}overlap"


def attribute_sampler(
    joint: Any = None, *, alphabet: Any = None, char: Any = None, font: Any = None, is_bold: Any = None,
    is_slant: Any = None, rotation: Any = None, scale: Any = None, translation: Any = None, foreground: Any = None,
    background: Any = None, inverse_color: Any = None, max_contrast: Any = None, pixel_noise_scale: Any = None,
    resolution: Any = (32, 32), is_gray: bool = False, n_symbols: Any = 1, label: Any = None, is_missing: Any = None,
    compat: str | None = None,
) -> AttributeSampler:  # fmt: skip
    """Returns a sampler of images.

    An attribute may be None, a distribution, a function of the generator that is called once per symbol (or per
    image), or a constant.

    Args:
      joint: draws a dict of attributes of a symbol, char to foreground, that take the place of those below.
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
      label: what is recorded as char, `drawn_char` then being what is to be seen; a draw of None is the character
        itself. None: no labels.
      is_missing: leave the symbol out and keep its attributes; None: never. Label and is_missing are drawn last, so
        the image is otherwise that of a sampler without them.
      compat: "v1" for the original's oddities.

    Raises:
      UserError: at once for a bad constant or a font that the alphabet has not; from the sampler for a bad draw.
    """
    given = {
        "char": char, "font": font, "is_bold": is_bold, "is_slant": is_slant, "rotation": rotation, "scale": scale,
        "translation": translation, "foreground": foreground, "background": background,
        "inverse_color": inverse_color, "pixel_noise_scale": pixel_noise_scale, "max_contrast": max_contrast,
    }  # fmt: skip
    defaults = OF_SYMBOL | OF_IMAGE
    attributes = {name: defaults[name] if value is None else declared(value) for name, value in given.items()}
    joint, label, is_missing = (None if v is None else declared(v) for v in (joint, label, is_missing))
    parts = [d for v in (attributes["char"], attributes["font"], joint, label) if v is not None for d in walk(v)]
    if alphabet is None and (isinstance(font, str) or any(isinstance(d, AnySymbol | AnyFont) for d in parts)):
        alphabet = find_alphabet(support_bold=True)
    if compat not in COMPAT:
        raise unknown("value of compat", compat, ("v1",))
    made = AttributeSampler(
        joint=joint, alphabet=declared(alphabet), **attributes, n_symbols=declared(n_symbols), label=label,
        is_missing=is_missing, resolution=checked_resolution(resolution), is_gray=is_gray, compat=compat,
    )  # fmt: skip
    _check_constants(made)
    return made


def add_occlusion(
    sampler: Sampler, *, n_occlusion: Any = None, char: Any = None, rotation: Any = None, scale: Any = None,
    translation: Any = None, foreground: Any = None,
) -> Occluded:  # fmt: skip
    """Returns a sampler that puts shapes in front of another sampler's symbols.

    Args:
      n_occlusion: None: 1, 2, 3 or 4.
      char: None: a square ■, triangle ▲ or disc ●.
      rotation: None: U(0, 2π).
      scale: None: 0.3 exp(N(0, 0.1)).
      translation: None: U(-1.5, 1.5)².
      foreground: None: Gradient.
    """
    defaults = {
        "n_occlusion": integers(1, 4), "char": Choice(SHAPES), "rotation": Uniform(0.0, 2 * math.pi),
        "scale": LogNormal(0.3, 0.1), "translation": Uniform(-1.5, 1.5, size=2), "foreground": Constant(Gradient()),
    }  # fmt: skip
    given = {
        "n_occlusion": n_occlusion, "char": char, "rotation": rotation, "scale": scale, "translation": translation,
        "foreground": foreground,
    }  # fmt: skip
    attributes = {name: defaults[name] if value is None else declared(value) for name, value in given.items()}
    constants = {name: d.value for name, d in attributes.items() if isinstance(d, Constant)}
    if "n_occlusion" in constants:
        whole("n_occlusion", constants.pop("n_occlusion"), 0)
    Symbol(**{"char": SHAPES[0], "font": None, **constants})
    return Occluded(declared(sampler), **attributes)


# How they are drawn


@drawer.register
def _(sampler: AttributeSampler) -> Draw:
    symbol = _symbol_drawer(sampler)
    count, background, inverse, noise, contrast = (
        getattr(sampler, name)._draw
        for name in ("n_symbols", "background", "inverse_color", "pixel_noise_scale", "max_contrast")
    )
    label = sampler.label and _per_alphabet(sampler.label)
    missing = sampler.is_missing and sampler.is_missing._draw
    fixed = {"resolution": sampler.resolution, "is_gray": sampler.is_gray, "compat": sampler.compat}

    def labelled(symbol: Symbol, rng: np.random.Generator) -> Symbol:
        drawn = label(symbol.alphabet, rng)
        return dataclasses.replace(symbol, label=symbol.char if drawn is None else drawn)

    def draw(rng: np.random.Generator) -> Image:
        drawn = [symbol(rng) for _ in range(whole("n_symbols", count(rng), 0))]
        rest = {
            "background": _with_seed(background(rng), rng), "inverse_color": inverse(rng),
            "pixel_noise_scale": noise(rng), "max_contrast": contrast(rng), "seed": draw_seed(rng),
        }  # fmt: skip
        if label is not None:
            drawn = [labelled(s, rng) for s in drawn]
        if missing is not None:
            drawn = [
                dataclasses.replace(s, foreground=NoPattern()) if flag("is_missing", missing(rng)) else s for s in drawn
            ]
        return Image(symbols=tuple(drawn), **rest, **fixed)

    return draw


@drawer.register
def _(occluded: Occluded) -> Draw:
    sampler, count = occluded.sampler._draw, occluded.n_occlusion._draw
    draws = {n: getattr(occluded, n)._draw for n in ("scale", "translation", "char", "rotation", "foreground")}

    def occlusion(rng: np.random.Generator) -> Symbol:
        values = {name: draw(rng) for name, draw in draws.items()}
        return Symbol(**values | {"foreground": _with_seed(values["foreground"], rng)}, font=None)

    def draw(rng: np.random.Generator) -> Image:
        image = sampler(rng)
        shapes = tuple([occlusion(rng) for _ in range(whole("n_occlusion", count(rng), 0))])
        return dataclasses.replace(image, symbols=image.symbols + shapes)

    return draw


@drawer.register
def _(chosen: Overlapping) -> Draw:
    sampler = chosen.sampler._draw

    def draw(rng: np.random.Generator) -> Image:
        for _ in range(_MOST_DRAWS):
            image = sampler(rng)
            if (overlap_score(draw_masks(image)) > 0) == chosen.is_overlapping:
                return image
        verb = "overlap" if chosen.is_overlapping else "do not overlap"
        raise UserError(f"none of {_MOST_DRAWS} images has symbols that {verb}")

    return draw


def _symbol_drawer(sampler: AttributeSampler) -> Draw:
    alphabet, joint = sampler.alphabet._draw, sampler.joint and _per_alphabet(sampler.joint)
    char, font = _per_alphabet(sampler.char), _per_alphabet(sampler.font)
    names = [name for name in OF_SYMBOL if name not in ("char", "font")]
    bold, slant, rotation, scale, translation, foreground = draws = [getattr(sampler, name)._draw for name in names]

    def draw(rng: np.random.Generator) -> Symbol:
        letters = alphabet(rng)
        return Symbol(  # arguments are drawn in this order
            alphabet=letters, char=char(letters, rng), font=_named(font(letters, rng), letters), is_bold=bold(rng),
            is_slant=slant(rng), rotation=rotation(rng), scale=scale(rng), translation=translation(rng),
            foreground=_with_seed(foreground(rng), rng),
        )  # fmt: skip

    def draw_jointly(rng: np.random.Generator) -> Symbol:
        letters = alphabet(rng)
        values = dict(_checked_joint(joint(letters, rng)))
        for name, draw_one in (("char", char), ("font", font)):
            if name not in values:
                values[name] = draw_one(letters, rng)
        for name, draw_one in zip(names, draws):
            if name not in values:
                values[name] = draw_one(rng)
        values["foreground"] = _with_seed(values["foreground"], rng)
        values["font"] = _named(values["font"], letters)
        return Symbol(alphabet=letters, **values)

    return draw if joint is None else draw_jointly


def _per_alphabet(distribution: Distribution) -> Callable[[Any, np.random.Generator], Any]:
    """Returns `(alphabet, rng) -> draw`; what AnySymbol and AnyFont stand for depends on the alphabet."""
    match distribution:
        case AnySymbol():
            return lambda letters, rng: letters.symbols[int(rng.random() * len(letters.symbols))]
        case AnyFont():
            return lambda letters, rng: letters.fonts[int(rng.random() * len(letters.fonts))]
    if not any(isinstance(part, AnySymbol | AnyFont) for part in walk(distribution)):
        draw = distribution._draw
        return lambda letters, rng: draw(rng)
    at_hand: dict[int, tuple[Any, Draw]] = {}  # held here, an alphabet keeps its number

    def draw(letters: Any, rng: np.random.Generator) -> Any:
        if id(letters) not in at_hand:
            if len(at_hand) >= _MOST_ALPHABETS:
                at_hand.clear()
            at_hand[id(letters)] = letters, drawer(resolved(distribution, letters))
        return at_hand[id(letters)][1](rng)

    return draw


def _with_seed(pattern: Any, rng: np.random.Generator) -> Any:
    if getattr(pattern, "seed", 0) is not None:
        return pattern
    seeded = object.__new__(type(pattern))  # quicker than dataclasses.replace, which would check everything again
    seeded.__dict__.update(pattern.__dict__, seed=draw_seed(rng))
    return seeded


def _named(font: Any, letters: Any) -> Any:
    if not isinstance(font, str):
        return font
    for candidate in letters.fonts:
        if candidate.name == font:
            return candidate
    raise unknown(f"font of the alphabet {letters.name}", font, [f.name for f in letters.fonts])


def _checked_joint(drawn: Any) -> dict[str, Any]:
    if not isinstance(drawn, dict):
        raise UserError(f"the joint distribution gave {drawn!r}; it must give a dict of attributes, as Joint does")
    for name in drawn:
        if name not in OF_SYMBOL:
            raise unknown("attribute of a symbol", name, OF_SYMBOL)
    return drawn


def _check_constants(sampler: AttributeSampler) -> None:
    """Finds bad constants here and not in the middle of a long run."""
    names = (*OF_SYMBOL, *OF_IMAGE, "n_symbols", "alphabet", "is_missing")
    constant = {n: getattr(sampler, n).value for n in names if isinstance(getattr(sampler, n), Constant)}
    if "n_symbols" in constant:
        whole("n_symbols", constant["n_symbols"], 0)
    if "is_missing" in constant:
        flag("is_missing", constant["is_missing"])
    letters = constant.get("alphabet")
    if letters is not None and not (hasattr(letters, "fonts") and hasattr(letters, "symbols")):
        raise UserError(f'alphabet is {letters!r}; it must be one, such as alphabet("english")')
    if isinstance(constant.get("font"), str):
        font = constant.pop("font")
        if letters is not None:
            _named(font, letters)
    Symbol(**{"char": SHAPES[0], "font": None} | {n: v for n, v in constant.items() if n in OF_SYMBOL})
    Image((), is_gray=sampler.is_gray, **{n: v for n, v in constant.items() if n in OF_IMAGE})
    for part in [] if sampler.joint is None else walk(sampler.joint):
        if isinstance(part, Joint):
            _checked_joint(dict(part.attributes))
