"""The alphabets of 16 languages, and which fonts can write them.

    korean = alphabet("korean")
    korean.symbols, korean.fonts

Characters are the exemplar sets of Unicode's CLDR as the package gflanguages keeps them. The original takes them from
ICU, of 2020; its counts and ours differ by a few characters in some languages, and a font set changes an alphabet more.
"""

import functools
import importlib.util
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from jaxrepro.errors import MissingData, UserError, unknown
from jaxrepro.synbols.fonts import Font, FontSet, installed_fonts
from jaxrepro.synbols.fonts.checks import supported
from jaxrepro.synbols.fonts.duplicates import distinct

LANGUAGES = {
    "arabic": "ar_Arab",
    "bangla": "bn_Beng",
    "chinese": "zh_Hans",
    "english": "en_Latn",
    "greek": "el_Grek",
    "gujarati": "gu_Gujr",
    "hebrew": "he_Hebr",
    "japanese": "ja_Jpan",
    "khmer": "km_Khmr",
    "korean": "ko_Kore",
    "malayalam": "ml_Mlym",
    "russian": "ru_Cyrl",
    "tamil": "ta_Taml",
    "telugu": "te_Telu",
    "thai": "th_Thai",
    "vietnamese": "vi_Latn",
}
# CLDR counts vowel signs among the letters of these scripts; gflanguages lists them apart. In the other languages
# marks are parts of accented letters, which are listed themselves, or (Hebrew) auxiliary.
_MARKS_ARE_LETTERS = frozenset({"Arab", "Beng", "Gujr", "Khmr", "Mlym", "Taml", "Telu", "Thai"})
# Vowels that Unicode keeps for old texts; fonts draw them as nothing.
_INVISIBLE = frozenset("\u17b4\u17b5")


@dataclass(frozen=True)
class Alphabet:
    """Symbols of a language, and fonts each of which has all of them."""

    name: str
    fonts: tuple[Font, ...]
    symbols: tuple[str, ...]


def alphabet(
    language: str = "english", *, standard: bool = True, auxiliary: bool = True, lower: bool = True,
    upper: bool = False, support_bold: bool = False, fonts: FontSet | None = None,
) -> Alphabet:  # fmt: skip
    """Returns the symbols of a language and the fonts that have all of them.

    A font stays if it has at least 80 % of what the best font has of the chosen characters; a character stays if all
    fonts that stayed have it. So the result depends on the set of fonts, as in the original. Last, fonts whose Latin
    letters look like another one's are left out (`fonts.duplicates`), unless `fonts.near_duplicates`.

    Args:
      language: a key of LANGUAGES.
      standard: take the characters in everyday use.
      auxiliary: take those of foreign words, such as é in English.
      lower: take lower-case letters and those without case.
      upper: take upper-case letters.
      support_bold: only fonts whose bold letters differ from the regular ones.
      fonts: default: those of the installed packages.

    Raises:
      UserError: the language is unknown, nothing is chosen, or no font has these characters.
    """
    chosen = exemplars(language, standard=standard, auxiliary=auxiliary, lower=lower, upper=upper)
    if not chosen:
        raise UserError(f"no characters of {language!r} are chosen; allow standard or auxiliary, and lower or upper")
    return _alphabet(language, chosen, support_bold, installed_fonts() if fonts is None else fonts)


@functools.lru_cache(64)
def _alphabet(language: str, chosen: tuple[str, ...], support_bold: bool, fonts: FontSet) -> Alphabet:
    has = {font: supported(font, chosen, support_bold=support_bold) for font in fonts}
    most = max(map(len, has.values()), default=0)
    if most < 2:
        raise MissingData(
            f"none of the {len(fonts)} fonts found can write {language}; "
            f"`python -m jaxrepro.synbols fonts --language={language}` lists packages that can"
        )
    kept = {font: set(symbols) for font, symbols in has.items() if 5 * len(symbols) >= 4 * most and len(symbols) > 1}
    common = set.intersection(*kept.values())
    symbols = tuple(s for s in chosen if s in common)
    if not symbols:
        raise UserError(f"the {len(kept)} fonts for {language} have no character in common; leave some of them out")
    stay = tuple(kept) if fonts.near_duplicates or not is_latin(language) else distinct(tuple(kept))
    return Alphabet(language, stay, symbols)


def is_latin(language: str) -> bool:
    """Returns whether a language of LANGUAGES is written in Latin letters."""
    return LANGUAGES[language].endswith("_Latn")


def exemplars(
    language: str, *, standard: bool = True, auxiliary: bool = True, lower: bool = True, upper: bool = False
) -> tuple[str, ...]:
    """Returns characters of a language, whether or not a font has them.

    Order: standard lower case, standard upper case, auxiliary lower case, auxiliary upper case; each by code point.
    Only single characters; combinations of several are left out, as in the original.
    """
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES, most=len(LANGUAGES))
    sets = [s for s, wanted in zip(_exemplar_sets(LANGUAGES[language]), (standard, auxiliary)) if wanted]
    cases = [low for low, wanted in ((True, lower), (False, upper)) if wanted]
    return tuple(c for s in sets for low in cases for c in sorted(s) if (c == c.lower()) is low)


def language_of(symbol: str) -> str:
    """Returns the first language that writes a character, English before the others; "other" if none does."""
    order = sorted(LANGUAGES, key=lambda language: language != "english")
    return next((name for name in order if symbol in _characters_of(name)), "other")


@functools.cache
def _characters_of(language: str) -> frozenset[str]:
    return frozenset(exemplars(language, upper=True))


@functools.cache
def _exemplar_sets(locale: str) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the standard and the auxiliary characters of a locale; no character is in both."""
    package = importlib.util.find_spec("gflanguages")
    if package is None:
        raise UserError("alphabets need the character sets of gflanguages: pip install gflanguages")
    # Its messages are plain text; reading them here spares the import of protobuf.
    text = (Path(package.origin).parent / "data" / "languages" / f"{locale}.textproto").read_text(encoding="utf-8")
    fields = dict(re.findall(r'^  (base|auxiliary|marks): "((?:[^"\\]|\\.)*)"', text, re.MULTILINE))
    standard = _characters(fields.get("base", ""))
    if locale.partition("_")[2] in _MARKS_ARE_LETTERS:
        standard |= _characters(fields.get("marks", ""))
    return frozenset(standard), frozenset(_characters(fields.get("auxiliary", "")) - standard)


def _characters(text: str) -> set[str]:
    """Returns the single characters of an exemplar set such as "a b {ch} 가-힣 ◌ា", with both cases of letters."""
    found: set[str] = set()
    for token in text.split():
        token = token.replace("\u25cc", "")  # the dotted circle under a mark
        if re.fullmatch(r".-.", token):
            found.update(chr(i) for i in range(ord(token[0]), ord(token[2]) + 1))
        elif not token.startswith("{"):
            found.update(token)
    found |= {c for f in found for c in (f.lower(), f.upper()) if len(c) == 1}
    return {c for c in found if c not in _INVISIBLE and unicodedata.category(c) not in ("Cf", "Cn", "Zs")}
