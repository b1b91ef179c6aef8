"""The predefined datasets: the released generator's, and those of the paper that it has no key for.

    dataset("camouflage").sampler(rng)
    dataset("counting", auxiliary=False, resolution=(64, 64), compat="v1")

Every function here takes `language` and `fonts` (None: all that are found), and the options
  auxiliary    False: standard letters only (English: the paper's 26; True: the reproduction's set with accents)
  resolution   (width, height) or one number
  compat       "v1" for the original's oddities
Numbers are the code's, source: specification of release 1.0.2; a name that ends in "paper" follows the paper where
the two differ. Values left out are those of `attribute_sampler`.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.attributes import Sampler, add_occlusion, attribute_sampler, coin, pick
from jaxrepro.synbols.drawing import draw_masks
from jaxrepro.synbols.languages import LANGUAGES, Alphabet, alphabet
from jaxrepro.synbols.masks import flatten_mask, flatten_mask_except_first, overlap_score
from jaxrepro.synbols.patterns import Camouflage, ImagePattern, MultiGradient, NoPattern, SolidColor
from jaxrepro.synbols.symbols import Image

BLACK, WHITE = SolidColor((0.0, 0.0, 0.0)), SolidColor((1.0, 1.0, 1.0))
OPTIONS = ("language", "fonts", "auxiliary", "resolution", "compat", "pictures")
MOST_FONTS = MOST_SYMBOLS = 200  # of a language, where all languages are mixed
MOST_DRAWS = 10_000  # of one image, before giving up on a condition
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
    make = DATASETS[name]
    for option in options:
        if option not in OPTIONS:
            raise unknown("option of a Synbols dataset", option, OPTIONS)
        named = option in inspect.signature(make).parameters
        if not named and (option in ("language", "pictures") or "options" not in inspect.signature(make).parameters):
            raise UserError(f"the dataset {name} has no option {option!r}")
    return make(**options)


# Variations of one letter


def default(language="english", fonts=None, **options) -> Dataset:
    return _letters(language, fonts, options)


def default_1m(language="english", fonts=None, **options) -> Dataset:
    return dataclasses.replace(default(language, fonts, **options), n_samples=1_000_000)


def plain(language="english", fonts=None, **options) -> Dataset:
    return _letters(
        language, fonts, options, scale=1.0, rotation=0.0, translation=0.0, is_bold=False, is_slant=False,
        foreground=WHITE, background=NoPattern(), inverse_color=False, pixel_noise_scale=0.0,
    )  # fmt: skip


def default_bw(language="english", fonts=None, **options) -> Dataset:
    return _letters(language, fonts, options, foreground=WHITE, background=BLACK)


def less_variations(language="english", fonts=None, **options) -> Dataset:
    return _letters(
        language, fonts, options, scale=_log_normal(0.5, 0.1), rotation=lambda rng: 0.1 * rng.standard_normal(),
        is_bold=False, is_slant=False,
    )  # fmt: skip


def tiny(language="english", fonts=None, resolution=(8, 8), **options) -> Dataset:
    return _letters(
        language, fonts, options, scale=1.0, is_bold=False, is_slant=False, foreground=WHITE, background=BLACK,
        resolution=resolution, is_gray=True,
    )  # fmt: skip


def large_translation(language="english", fonts=None, **options) -> Dataset:
    return _letters(language, fonts, options, scale=0.5, translation=lambda rng: rng.uniform(-2, 2, 2))


# Textures


def camouflage(language="english", fonts=None, **options) -> Dataset:
    strokes = Camouflage(stroke_angle=0.0, stroke_width=0.1, stroke_length=0.6, stroke_noise=0.0)
    across = dataclasses.replace(strokes, stroke_angle=math.pi / 2)
    return _bold_upright(language, fonts, options, foreground=strokes, background=across)


def non_camou_bw(language="english", fonts=None, **options) -> Dataset:
    return _bold_upright(language, fonts, options, foreground=WHITE, background=BLACK)


def non_camou_shade(language="english", fonts=None, **options) -> Dataset:
    return _bold_upright(language, fonts, options)


def natural_patterns(language="english", fonts=None, pictures=None, **options) -> Dataset:
    pattern = ImagePattern(root=None if pictures is None else str(pictures))
    made = _letters(language, fonts, options, foreground=pattern, background=pattern)
    return made if pictures else dataclasses.replace(made, note="only two photographs: give a folder of `pictures`")


# Faults of the data


def pixel_noise(language="english", fonts=None, **options) -> Dataset:
    return _letters(language, fonts, options, pixel_noise_scale=lambda rng: 0.3 * (rng.random() < 0.1))


def pixel_noise_paper(language="english", fonts=None, **options) -> Dataset:
    return _letters(language, fonts, options, pixel_noise_scale=lambda rng: 0.7 * coin(rng))


def label_noise(language="english", fonts=None, **options) -> Dataset:
    """A tenth of the images carries a label drawn anew from the alphabet; `drawn_char` records what is seen."""
    clean = default(language, fonts, **options)

    def sampler(rng: np.random.Generator) -> Image:
        image = clean.sampler(rng)
        if rng.random() >= 0.1:
            return image
        return _with_first(image, label=pick(rng, clean.symbols))

    return dataclasses.replace(clean, sampler=sampler)


def missing_symbol(language="english", fonts=None, **options) -> Dataset:
    """A tenth of the symbols is moved far away; the largest of those can still be seen, as in the original."""
    return _letters(
        language, fonts, options, background=MultiGradient(),
        translation=lambda rng: rng.uniform(-1, 1, 2) if rng.random() >= 0.1 else 10.0,
    )  # fmt: skip


def missing_symbol_paper(language="english", fonts=None, **options) -> Dataset:
    """A tenth of the symbols is left out; their label stays."""
    complete = default(language, fonts, **options)

    def sampler(rng: np.random.Generator) -> Image:
        image = complete.sampler(rng)
        return _with_first(image, foreground=NoPattern()) if rng.random() < 0.1 else image

    return dataclasses.replace(complete, sampler=sampler)


def some_large_occlusion(language="english", fonts=None, **options) -> Dataset:
    return _occluded(
        default(language, fonts, **options), n_occlusion=lambda rng: int(rng.random() < 0.2),
        scale=_log_normal(0.6, 0.1), translation=lambda rng: rng.uniform(-3, 3, 2),
    )  # fmt: skip


def many_small_occlusion(language="english", fonts=None, **options) -> Dataset:
    return _occluded(default(language, fonts, **options), n_occlusion=lambda rng: int(5 * rng.random()))


# Many symbols


def segmentation(language="english", fonts=None, **options) -> Dataset:
    letters = alphabet(language, auxiliary=options.pop("auxiliary", True), fonts=fonts)
    return _many(letters, options, scale=_log_normal(0.1, 0.4), n_symbols=_between(3, 9))


def counting(language="english", fonts=None, **options) -> Dataset:
    return _counting(language, fonts, options, scale=_log_normal(0.1, 0.5), n_symbols=_between(3, 9))


def counting_fix_scale(language="english", fonts=None, **options) -> Dataset:
    return _counting(language, fonts, options, scale=0.1, n_symbols=_between(3, 9))


def counting_crowded(language="english", fonts=None, **options) -> Dataset:
    return _counting(language, fonts, options, scale=_log_normal(0.1, 0.1), n_symbols=_between(30, 49))


def counting_crowded_paper(language="english", fonts=None, **options) -> Dataset:
    return _counting(language, fonts, options, scale=0.1, n_symbols=_between(30, 50))


def counting_overlap(language="english", fonts=None, **options) -> Dataset:
    return _selected(counting(language, fonts, **options), overlapping=True)


def counting_no_overlap(language="english", fonts=None, **options) -> Dataset:
    return _selected(counting(language, fonts, **options), overlapping=False)


def counting_fix_scale_overlap(language="english", fonts=None, **options) -> Dataset:
    return _selected(counting_fix_scale(language, fonts, **options), overlapping=True)


def counting_fix_scale_no_overlap(language="english", fonts=None, **options) -> Dataset:
    return _selected(counting_fix_scale(language, fonts, **options), overlapping=False)


# Many characters and languages


def korean_1k(fonts=None, **options) -> Dataset:
    letters = alphabet("korean", auxiliary=options.pop("auxiliary", True), support_bold=True, fonts=fonts)
    chosen = dataclasses.replace(letters, symbols=letters.symbols[:1000])
    note = (
        "" if len(letters.symbols) >= 1000 else f"only {len(letters.symbols)} of 1000 syllables: the fonts lack others"
    )
    return _from_alphabets([chosen], None, options, note=note)


def all_chars(fonts=None, **options) -> Dataset:
    """Uniform over the first 200 symbols of every language, then over the fonts of the symbol's language."""
    letters, note = _alphabets(tuple(LANGUAGES), fonts, options)
    by_symbols = _weighted(letters, [len(a.symbols) for a in letters])
    return _from_alphabets(letters, by_symbols, options, note=note)


def balanced_font_chars(fonts=None, **options) -> Dataset:
    return _balanced(tuple(LANGUAGES), fonts, options)


def few_shot(fonts=None, **options) -> Dataset:
    return _balanced(FEW_SHOT_LANGUAGES, fonts, options)


DATASETS: dict[str, Callable[..., Dataset]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        plain, default, default_1m, default_bw, korean_1k, camouflage, non_camou_bw, non_camou_shade, segmentation,
        counting, counting_fix_scale, counting_crowded, counting_crowded_paper, counting_overlap, counting_no_overlap,
        counting_fix_scale_overlap, counting_fix_scale_no_overlap, missing_symbol, missing_symbol_paper,
        some_large_occlusion, many_small_occlusion, large_translation, pixel_noise, pixel_noise_paper, label_noise,
        less_variations, tiny, all_chars, balanced_font_chars, few_shot, natural_patterns,
    )
}  # fmt: skip


# What they are made of


def _letters(language, fonts, options: dict, *, support_bold=False, **attributes) -> Dataset:
    options = dict(options)
    letters = alphabet(language, auxiliary=options.pop("auxiliary", True), support_bold=support_bold, fonts=fonts)
    return _from_alphabets([letters], None, {**attributes, **options})


def _from_alphabets(letters: list[Alphabet], draw, attributes: dict, **fields) -> Dataset:
    """Returns the dataset over some alphabets; `draw` picks one of them per symbol."""
    names = sorted({font.name for a in letters for font in a.fonts})
    return Dataset(
        attribute_sampler(alphabet=draw or letters[0], **attributes),
        symbols=tuple(dict.fromkeys(s for a in letters for s in a.symbols)),
        font_names=tuple(names),
        **fields,
    )


def _bold_upright(language, fonts, options, **attributes) -> Dataset:
    return _letters(
        language, fonts, options, support_bold=True, scale=_log_normal(0.7, 0.1), is_bold=True, is_slant=False,
        **attributes,
    )  # fmt: skip


def _occluded(clear: Dataset, **occlusion) -> Dataset:
    sampler = add_occlusion(clear.sampler, **occlusion)
    return dataclasses.replace(clear, sampler=sampler, mask_aggregator=flatten_mask_except_first)


def _many(letters: Alphabet, options: dict, **attributes) -> Dataset:
    attributes = {"is_bold": False, "resolution": (128, 128), **attributes, **options}
    return _from_alphabets([letters], None, attributes, mask_aggregator=flatten_mask)


def _counting(language, fonts, options, **attributes) -> Dataset:
    """The letter 'a' with probability 0.7, else uniform over the alphabet, which holds 'a' too."""
    options = dict(options)
    letters = alphabet(language, auxiliary=options.pop("auxiliary", True), support_bold=True, fonts=fonts)
    if "a" not in letters.symbols:
        latin = set(alphabet("english", auxiliary=False, support_bold=True, fonts=fonts).fonts)
        both = tuple(font for font in letters.fonts if font in latin)
        if not both:
            raise UserError(f"no font has both the letter 'a' and {language}; counting needs one")
        letters = dataclasses.replace(letters, fonts=both)

    def char(rng: np.random.Generator) -> str:
        return "a" if rng.random() < 0.7 else pick(rng, letters.symbols)

    made = _many(letters, options, char=char, **attributes)
    return dataclasses.replace(made, symbols=tuple(dict.fromkeys(("a", *made.symbols))))


def _selected(every: Dataset, overlapping: bool) -> Dataset:
    """Returns the images whose `overlap_score` is positive, or zero: the paper's selection, by drawing again."""

    def sampler(rng: np.random.Generator) -> Image:
        for _ in range(MOST_DRAWS):
            image = every.sampler(rng)
            if (overlap_score(draw_masks(image)) > 0) == overlapping:
                return image
        raise UserError(f"none of {MOST_DRAWS} images has symbols that {'' if overlapping else 'do not '}overlap")

    return dataclasses.replace(every, sampler=sampler)


def _balanced(languages, fonts, options) -> Dataset:
    """Half the images are uniform over the fonts of all languages, half over the symbols of all languages.

    Whatever of the two is drawn first gives the language, within which the other is uniform.
    """
    letters, note = _alphabets(languages, fonts, options)
    letters = [dataclasses.replace(a, fonts=a.fonts[:MOST_FONTS]) for a in letters]
    by_fonts = _weighted(letters, [len(a.fonts) for a in letters])
    by_symbols = _weighted(letters, [len(a.symbols) for a in letters])
    return _from_alphabets(
        letters, lambda rng: (by_fonts if coin(rng) else by_symbols)(rng),
        {"is_bold": False, "is_slant": False, **options}, n_samples=1_000_000, note=note,
    )  # fmt: skip


def _alphabets(languages, fonts, options: dict) -> tuple[list[Alphabet], str]:
    """Returns the first 200 symbols of each language that there are fonts for, and a note that names the others."""
    auxiliary, found, absent = options.pop("auxiliary", True), [], []
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
    return found, fewer if absent else ""


def _weighted(values: list, weights: list[int]) -> Callable[[np.random.Generator], Any]:
    bounds = np.cumsum(weights) / np.sum(weights)
    return lambda rng: values[int(np.searchsorted(bounds, rng.random(), side="right"))]


def _with_first(image: Image, **changes) -> Image:
    first = dataclasses.replace(image.symbols[0], **changes)
    return dataclasses.replace(image, symbols=(first, *image.symbols[1:]))


def _log_normal(median: float, spread: float) -> Callable[[np.random.Generator], float]:
    return lambda rng: median * math.exp(spread * rng.standard_normal())


def _between(low: int, high: int) -> Callable[[np.random.Generator], int]:
    """Returns a uniform integer, both ends included."""
    return lambda rng: low + int((high - low + 1) * rng.random())
