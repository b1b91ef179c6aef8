"""The predefined datasets: the released generator's, and those of the paper that it has no key for.

    dataset("camouflage").sampler(rng)
    dataset("counting", auxiliary=False, resolution=(64, 64), compat="v1")
    print(dataset("counting").sampler)

`DATASETS` is the table: each entry says in what it differs from `attribute_sampler`'s defaults. The options are
  language     whose letters; English if not said
  fonts        None: all that are found
  auxiliary    False: standard letters only (English: the paper's 26; True: the reproduction's set with accents)
  resolution   (width, height) or one number
  compat       "v1" for the original's oddities
  pictures     a folder, for natural-patterns
Numbers are the code's, source: specification of release 1.0.2; a name that ends in "paper" follows the paper where
the two differ.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.attributes import Overlapping, Sampler, add_occlusion, attribute_sampler
from jaxrepro.synbols.distributions import (
    AnySymbol,
    Choice,
    Constant,
    Distribution,
    LogNormal,
    Mixture,
    Normal,
    Uniform,
    integers,
)
from jaxrepro.synbols.fonts import FontSet
from jaxrepro.synbols.languages import LANGUAGES, Alphabet, alphabet
from jaxrepro.synbols.masks import flatten_mask, flatten_mask_except_first
from jaxrepro.synbols.patterns import Camouflage, ImagePattern, MultiGradient, NoPattern, SolidColor

MOST_FONTS = MOST_SYMBOLS = 200  # of a language, where all languages are mixed
# The paper's 14: those of the release with ten fonts or more, and Korean (inferred from its count of symbols).
FEW_SHOT_LANGUAGES = (
    "english", "telugu", "thai", "vietnamese", "arabic", "hebrew", "khmer", "tamil", "gujarati", "bangla",
    "malayalam", "greek", "russian", "korean",
)  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """A named distribution of images.

    Attributes:
      sampler: generator -> Image.
      symbols, font_names: every character and family that it can draw; a label is a position in them.
      mask_aggregator: what is stored of the masks [H, W, n]; None: all of them.
      n_samples: the published size.
      note: in what it falls short of the published one for want of fonts or pictures, or "".
    """

    sampler: Sampler
    symbols: tuple[str, ...]
    font_names: tuple[str, ...]
    mask_aggregator: Callable[[np.ndarray], tuple[np.ndarray, dict[str, Any]]] | None = None
    n_samples: int = 100_000
    note: str = ""


@dataclass(frozen=True)
class Letters:
    """Alphabets, the distribution of a symbol's alphabet over them, and what the fonts found lack, or ""."""

    alphabets: tuple[Alphabet, ...]
    draw: Distribution
    note: str = ""


# Where letters come from: functions of language, fonts and auxiliary


def one_language(language: str, fonts: FontSet | None, auxiliary: bool, **options: Any) -> Letters:
    letters = alphabet(language, auxiliary=auxiliary, fonts=fonts, **options)
    return Letters((letters,), Constant(letters))


def bold_fonts(language: str, fonts: FontSet | None, auxiliary: bool) -> Letters:
    """Fonts whose bold letters differ from the others."""
    return one_language(language, fonts, auxiliary, support_bold=True)


def letters_and_a(language: str, fonts: FontSet | None, auxiliary: bool) -> Letters:
    """Bold fonts that have the letter 'a', too, in any language."""
    (letters,) = bold_fonts(language, fonts, auxiliary).alphabets
    if "a" not in letters.symbols:
        latin = set(alphabet("english", auxiliary=False, support_bold=True, fonts=fonts).fonts)
        both = tuple(font for font in letters.fonts if font in latin)
        if not both:
            raise UserError(f"no font has both the letter 'a' and {language}; counting needs one")
        letters = dataclasses.replace(letters, fonts=both)
    return Letters((letters,), Constant(letters))


def korean_thousand(language: None, fonts: FontSet | None, auxiliary: bool) -> Letters:
    letters = alphabet("korean", auxiliary=auxiliary, support_bold=True, fonts=fonts)
    first = dataclasses.replace(letters, symbols=letters.symbols[:1000])
    found = len(first.symbols)
    note = "" if found == 1000 else f"only {found} of 1000 syllables: the fonts lack others"
    return Letters((first,), Constant(first), note)


def all_languages(language: None, fonts: FontSet | None, auxiliary: bool) -> Letters:
    """Uniform over the first 200 symbols of every language, then over the fonts of the symbol's language."""
    found, note = _alphabets(tuple(LANGUAGES), fonts, auxiliary)
    return Letters(found, _by_size(found, "symbols"), note)


def balanced(language: None, fonts: FontSet | None, auxiliary: bool, languages=tuple(LANGUAGES)) -> Letters:
    """Half the images are uniform over the fonts of all languages, half over the symbols of all languages.

    Whatever of the two is drawn first gives the language, within which the other is uniform.
    """
    found, note = _alphabets(languages, fonts, auxiliary)
    found = tuple(dataclasses.replace(a, fonts=a.fonts[:MOST_FONTS]) for a in found)
    return Letters(found, Mixture((_by_size(found, "fonts"), _by_size(found, "symbols"))), note)


def balanced_few_shot(language: None, fonts: FontSet | None, auxiliary: bool) -> Letters:
    return balanced(language, fonts, auxiliary, FEW_SHOT_LANGUAGES)


def _alphabets(languages: tuple[str, ...], fonts: FontSet | None, auxiliary: bool) -> tuple[tuple[Alphabet, ...], str]:
    """Returns the first 200 symbols of each language that there are fonts for, and a note that names the others."""
    found, absent = [], []
    for language in languages:
        try:
            letters = alphabet(language, auxiliary=auxiliary, fonts=fonts)
        except UserError:
            absent.append(language)
            continue
        found.append(dataclasses.replace(letters, symbols=letters.symbols[:MOST_SYMBOLS]))
    if not found:
        raise UserError(f"no fonts for any of {', '.join(languages)}; see python -m jaxrepro.synbols fonts")
    fewer = f"only {len(found)} of {len(languages)} languages: no fonts for {', '.join(absent)}"
    return tuple(found), fewer if absent else ""


def _by_size(alphabets: tuple[Alphabet, ...], what: str) -> Choice:
    return Choice(alphabets, [len(getattr(a, what)) for a in alphabets])


# The table


@dataclass(frozen=True)
class Entry:
    """What a dataset is made of.

    Attributes:
      text: one line about it.
      attributes: of `attribute_sampler`, where they are not its defaults.
      letters: where its letters come from, one of the functions above.
      occlusion: of `add_occlusion`, for images with shapes in front.
      is_overlapping: keep only images whose symbols overlap, or do not; None: all.
      mask_aggregator, n_samples: of `Dataset`.
    """

    text: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    letters: Callable[..., Letters] = one_language
    occlusion: Mapping[str, Any] | None = None
    is_overlapping: bool | None = None
    mask_aggregator: Callable | None = None
    n_samples: int = 100_000


OPTIONS = ("language", "fonts", "auxiliary", "resolution", "compat", "pictures")

BLACK, WHITE = SolidColor((0.0, 0.0, 0.0)), SolidColor((1.0, 1.0, 1.0))
UPRIGHT = {"is_bold": False, "is_slant": False}
BOLD = {"scale": LogNormal(0.7, 0.1), "is_bold": True, "is_slant": False}
WHITE_ON_BLACK = {"foreground": WHITE, "background": BLACK}
STROKES = {"stroke_width": 0.1, "stroke_length": 0.6, "stroke_noise": 0.0}
MANY = {"is_bold": False, "resolution": (128, 128)}
# 'a' with probability 0.7, else any letter of the alphabet, which holds 'a' and accented letters too.
COUNTED = MANY | {"char": Mixture(("a", AnySymbol()), (0.7, 0.3))}
FEW, CROWDED = {"n_symbols": integers(3, 9)}, {"n_symbols": integers(30, 49)}
COUNTING = COUNTED | FEW | {"scale": LogNormal(0.1, 0.5)}
FIX_SCALE = COUNTED | FEW | {"scale": 0.1}
RARELY = (0.1, 0.9)

DATASETS: dict[str, Entry] = {
    # Variations of one letter
    "plain": Entry(
        "upright white letters in the middle of black images, as large as these; only char and font vary",
        UPRIGHT | {"scale": 1.0, "rotation": 0.0, "translation": 0.0, "foreground": WHITE, "background": NoPattern(),
                   "inverse_color": False, "pixel_noise_scale": 0.0},
    ),
    "default": Entry("a letter on a gradient, everything random"),
    "default-1m": Entry("the same, a million images", n_samples=1_000_000),
    "default-bw": Entry("the same in black and white", WHITE_ON_BLACK),
    "less-variations": Entry(
        "smaller, almost upright letters of one weight, to tell fonts apart",
        UPRIGHT | {"scale": LogNormal(0.5, 0.1), "rotation": Normal(0.0, 0.1)},
    ),
    "tiny": Entry(
        "8×8 pixels in gray, a letter as large as the image",
        UPRIGHT | WHITE_ON_BLACK | {"scale": 1.0, "resolution": (8, 8), "is_gray": True},
    ),
    "large-translation": Entry(
        "letters that lie partly outside the image", {"scale": 0.5, "translation": Uniform(-2.0, 2.0, size=2)}
    ),
    # Textures
    "camouflage": Entry(
        "bold letters of horizontal strokes on vertical ones",
        BOLD | {"foreground": Camouflage(stroke_angle=0.0, **STROKES),
                "background": Camouflage(stroke_angle=math.pi / 2, **STROKES)},
        bold_fonts,
    ),
    "non-camou-bw": Entry("the letters of camouflage, black and white", BOLD | WHITE_ON_BLACK, bold_fonts),
    "non-camou-shade": Entry("the letters of camouflage, gradients", BOLD, bold_fonts),
    "natural-patterns": Entry(
        "letters and backgrounds cut from photographs", {"foreground": ImagePattern(), "background": ImagePattern()}
    ),
    # Faults of the data
    "pixel-noise": Entry(
        "strong noise (0.3) on a tenth of the images", {"pixel_noise_scale": Choice((0.3, 0.0), RARELY)}
    ),
    "pixel-noise-paper": Entry("strong noise (0.7) on half of the images", {"pixel_noise_scale": Choice((0.7, 0.0))}),
    "label-noise": Entry(
        "default, but a tenth of the labels are drawn anew; drawn_char is what is seen",
        {"label": Mixture((AnySymbol(), None), RARELY)},
    ),
    "missing-symbol": Entry(
        # The largest of those that are moved can still be seen, as in the original.
        "a tenth of the letters is moved out of the image",
        {"background": MultiGradient(), "translation": Mixture((10.0, Uniform(-1.0, 1.0, size=2)), RARELY)},
    ),
    "missing-symbol-paper": Entry(
        "a tenth of the letters is left out, their labels stay", {"is_missing": Choice((True, False), RARELY)}
    ),
    "some-large-occlusion": Entry(
        "a large shape in front of a fifth of the letters",
        occlusion={"n_occlusion": Choice((1, 0), (0.2, 0.8)), "scale": LogNormal(0.6, 0.1),
                   "translation": Uniform(-3.0, 3.0, size=2)},
        mask_aggregator=flatten_mask_except_first,
    ),
    "many-small-occlusion": Entry(
        "up to four small shapes in front of every letter", occlusion={"n_occlusion": integers(0, 4)},
        mask_aggregator=flatten_mask_except_first,
    ),
    # Many symbols
    "segmentation": Entry(
        "3 to 9 letters of different size, 128×128 pixels", MANY | FEW | {"scale": LogNormal(0.1, 0.4)},
        mask_aggregator=flatten_mask,
    ),
    "counting": Entry(
        "3 to 9 letters of different size, most of them a", COUNTING, letters_and_a, mask_aggregator=flatten_mask
    ),
    "counting-fix-scale": Entry(
        "3 to 9 letters of one size, most of them a", FIX_SCALE, letters_and_a, mask_aggregator=flatten_mask
    ),
    "counting-crowded": Entry(
        "30 to 49 letters, most of them a", COUNTED | CROWDED | {"scale": LogNormal(0.1, 0.1)}, letters_and_a,
        mask_aggregator=flatten_mask,
    ),
    "counting-crowded-paper": Entry(
        "30 to 50 letters of one size, most of them a", COUNTED | {"n_symbols": integers(30, 50), "scale": 0.1},
        letters_and_a, mask_aggregator=flatten_mask,
    ),
    "counting-overlap": Entry(
        "images of counting whose letters overlap", COUNTING, letters_and_a, is_overlapping=True,
        mask_aggregator=flatten_mask,
    ),
    "counting-no-overlap": Entry(
        "images of counting whose letters do not overlap", COUNTING, letters_and_a, is_overlapping=False,
        mask_aggregator=flatten_mask,
    ),
    "counting-fix-scale-overlap": Entry(
        "images of counting-fix-scale whose letters overlap", FIX_SCALE, letters_and_a, is_overlapping=True,
        mask_aggregator=flatten_mask,
    ),
    "counting-fix-scale-no-overlap": Entry(
        "images of counting-fix-scale whose letters do not overlap", FIX_SCALE, letters_and_a, is_overlapping=False,
        mask_aggregator=flatten_mask,
    ),
    # Many characters and languages
    "korean-1k": Entry("the first 1,000 syllables of Korean", letters=korean_thousand),
    "all-chars": Entry("up to 200 symbols of each language, symbols equally likely", letters=all_languages),
    "balanced-font-chars": Entry(
        "up to 200 symbols and 200 fonts of each language, both equally likely", UPRIGHT, balanced, n_samples=1_000_000
    ),
    "few-shot": Entry(
        "the same for the paper's 14 languages, for few-shot learning", UPRIGHT, balanced_few_shot, n_samples=1_000_000
    ),
}  # fmt: skip


def dataset(name: str, **options: Any) -> Dataset:
    """Returns a predefined dataset.

    Args:
      name: a key of DATASETS.
      **options: language, fonts, auxiliary, resolution, compat; for natural-patterns also `pictures`, a folder.

    Raises:
      UserError: no such dataset, language or option, or an option that this dataset has no use for.
    """
    if name not in DATASETS:
        raise unknown("Synbols dataset", name, DATASETS)
    entry = DATASETS[name]
    for option in options:
        if option not in OPTIONS:
            raise unknown("option of a Synbols dataset", option, OPTIONS)
        if option not in options_of(entry):
            raise UserError(f"the dataset {name} has no option {option!r}")
    letters = entry.letters(options.get("language", "english"), options.get("fonts"), options.get("auxiliary", True))
    chosen = {k: options[k] for k in ("resolution", "compat") if k in options}
    return _made(entry, letters, chosen, options.get("pictures"))


def options_of(entry: Entry) -> tuple[str, ...]:
    """Returns the options that a dataset has a use for."""
    useless = set()
    if entry.letters not in (one_language, bold_fonts, letters_and_a):
        useless.add("language")
    if not any(isinstance(value, ImagePattern) for value in entry.attributes.values()):
        useless.add("pictures")
    return tuple(option for option in OPTIONS if option not in useless)


def _made(entry: Entry, letters: Letters, chosen: Mapping[str, Any], pictures: Any) -> Dataset:
    attributes = dict(entry.attributes)
    note = letters.note
    photographed = [name for name, value in attributes.items() if isinstance(value, ImagePattern)]
    if photographed and pictures is None:
        note = "only two photographs: give a folder of `pictures`"
    elif photographed:
        attributes |= {n: dataclasses.replace(attributes[n], root=str(pictures)) for n in photographed}
    sampler = attribute_sampler(alphabet=letters.draw, **attributes | chosen)
    if entry.occlusion is not None:
        sampler = add_occlusion(sampler, **entry.occlusion)
    if entry.is_overlapping is not None:
        sampler = Overlapping(sampler, entry.is_overlapping)
    also = ("a",) if entry.letters is letters_and_a else ()
    return Dataset(
        sampler,
        symbols=tuple(dict.fromkeys((*also, *(s for a in letters.alphabets for s in a.symbols)))),
        font_names=tuple(sorted({font.name for a in letters.alphabets for font in a.fonts})),
        mask_aggregator=entry.mask_aggregator,
        n_samples=entry.n_samples,
        note=note,
    )
