"""A report for people: which fonts were found, what they can write, and which packages would add more.

print(report(None, find_fonts()))
print(report("korean", find_fonts(system=True)))
"""

from collections import Counter
from collections.abc import Iterable

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.fonts.checks import supported
from jaxrepro.synbols.fonts.discovery import FontSet
from jaxrepro.synbols.fonts.duplicates import NEAR_DUPLICATES
from jaxrepro.synbols.fonts.faces import Font
from jaxrepro.synbols.languages import LANGUAGES, Alphabet, alphabet, exemplars, is_latin

# Families on PyPI (fontpkg-NAME) and packages of Debian that write a language. Russian, Greek, Vietnamese and English
# are written by many more of those in the extra `fonts`.
PYPI = {
    "arabic": "almarai amiri cairo ibm-plex-sans-arabic noto-kufi-arabic noto-sans-arabic rubik tajawal",
    "bangla": "hind-siliguri",
    "english": "open-sans lora caveat",
    "greek": "alegreya-sans arimo eb-garamond fira-sans inter literata noto-serif open-sans roboto vollkorn",
    "hebrew": "arimo assistant cardo frank-ruhl-libre fredoka heebo open-sans rubik varela-round",
    "khmer": "noto-sans-khmer",
    "russian": "alegreya-sans caveat comfortaa fira-sans lora merriweather montserrat oswald play roboto",
    "tamil": "catamaran noto-sans-tamil",
    "telugu": "anek-telugu noto-sans-telugu ramabhadra",
    "thai": "chakra-petch kanit noto-sans-thai prompt sarabun",
    "vietnamese": "alegreya-sans be-vietnam-pro dancing-script eb-garamond lora montserrat nunito oswald roboto",
}
# Packages made for other ends that hold free fonts of scripts which fontpkg does not have, and their folders.
OTHER_PYPI = {
    "chinese": ("cvttf-notosanscjk-regular", "cvttf_NotoSansCJK_Regular"),
    "japanese": ("matplotlib-fontja", "matplotlib_fontja"),
    "korean": ("koreanize-matplotlib", "koreanize_matplotlib"),
}
DEBIAN = {
    "arabic": "fonts-arabeyes fonts-hosny-amiri fonts-kacst",
    "bangla": "fonts-beng-extra fonts-lohit-beng-bengali",
    "chinese": "fonts-arphic-ukai fonts-arphic-uming fonts-lxgw-wenkai fonts-noto-cjk fonts-wqy-zenhei",
    "english": "fonts-dejavu fonts-liberation",
    "greek": "fonts-gfs-artemisia fonts-gfs-complutum fonts-gfs-neohellenic",
    "gujarati": "fonts-gujr-extra fonts-kalapi fonts-lohit-gujr fonts-samyak-gujr fonts-yrsa-rasa",
    "hebrew": "culmus",
    "japanese": "fonts-horai-umefont fonts-ipafont fonts-noto-cjk fonts-sawarabi-mincho fonts-vlgothic",
    "khmer": "fonts-khmeros fonts-sil-mondulkiri fonts-sil-mondulkiri-extra",
    "korean": "fonts-alee fonts-baekmuk fonts-nanum fonts-nanum-extra fonts-noto-cjk fonts-unfonts-extra",
    "malayalam": "fonts-lohit-mlym fonts-rit-sundar fonts-samyak-mlym fonts-smc",
    "russian": "fonts-dejavu fonts-noto-core",
    "tamil": "fonts-lohit-taml fonts-meera-inimai fonts-samyak-taml",
    "telugu": "fonts-lohit-telu fonts-telu-extra fonts-teluguvijayam",
    "thai": "fonts-arundina fonts-thai-tlwg-ttf",
    "vietnamese": "fonts-dejavu fonts-noto-core",
}

_PACK = 100  # families; whoever has as many from PyPI has installed the extra `fonts`
_FEW = 10  # of a long list, so many are printed


def report(language: str | None, fonts: FontSet) -> str:
    """Returns the text that `python -m jaxrepro.synbols fonts` prints.

    Args:
      language: details of one language; None: a table of all.

    Raises:
      UserError: the language is unknown.
    """
    if language is None:
        return "\n".join([*_summary(fonts), "", *_table(fonts)])
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES, most=len(LANGUAGES))
    return "\n".join([*_summary(fonts), "", *_details(language, fonts)])


def _summary(fonts: FontSet) -> list[str]:
    bold = sum(f.bold is not None for f in fonts)
    licences = Counter(f.licence or "not stated" for f in fonts).most_common()
    lines = [f"{len(fonts)} fonts found: {bold} with a bold face, {len(fonts) - bold} thickened for bold"]
    if fonts:
        lines.append("licences: " + ", ".join(f"{n} {licence}" for licence, n in licences))
    if fonts.skipped:
        lines.append(f"{len(fonts.skipped)} files skipped:")
        lines += [f"  {s.name}: {s.reason}" for s in fonts.skipped[:_FEW]]
    return lines


def _table(fonts: FontSet) -> list[str]:
    """Returns one line per language: fonts and symbols, with and without auxiliary characters."""
    lines = [
        f"{'':12}{'everyday letters':>20}{'and auxiliary':>20}",
        f"{'language':12}" + 2 * f"{'fonts':>10}{'letters':>10}",
    ]
    poor = []
    for language in LANGUAGES:
        both = [_alphabet(language, fonts, auxiliary=a) for a in (False, True)]
        numbers = "".join(f"{len(a.fonts):10d}{len(a.symbols):10d}" if a else f"{0:10d}{'-':>10}" for a in both)
        lines.append(f"{language:12}{numbers}")
        if both[0] is None or len(both[0].fonts) < _FEW:
            poor.append(language)
    if poor:
        lines += ["", "more fonts for " + ", ".join(poor) + ":"]
        if sum(f.package.startswith("fontpkg-") for f in fonts) < _PACK:
            lines.append(
                "  in a checkout: pip install '.[fonts]', or './packages/synbols[fonts]' for the generator alone"
            )
        lines.append(f"  python -m jaxrepro.synbols fonts --language={poor[0]}    # names the packages of a language")
    return lines


def _details(language: str, fonts: FontSet) -> list[str]:
    lines = []
    for auxiliary, kind in ((False, "everyday letters"), (True, "everyday and auxiliary letters")):
        found = _alphabet(language, fonts, auxiliary=auxiliary)
        if found is None:
            lines.append(f"{language}, {kind}: no font")
            continue
        wanted = exemplars(language, auxiliary=auxiliary)
        lines.append(f"{language}, {kind}: {len(found.fonts)} fonts, {len(found.symbols)} of {len(wanted)} letters")
        lines += _left_out(found, wanted)
        if not auxiliary:
            lines += map(_line, found.fonts)
    if is_latin(language) and not fonts.near_duplicates:
        names = {f.name for f in fonts}
        near = [f"{n} (like {like})" for n, like in NEAR_DUPLICATES.items() if {n, like} <= names]
        if near:
            lines.append(f"  near-duplicates left out, --near_duplicates brings them back: {', '.join(near)}")
    return [*lines, "", *_more(language, fonts)]


def _line(font: Font) -> str:
    bold = "bold face" if font.bold else "thickened"
    return f"  {font.name:28} {bold:10} {font.licence or 'licence?':14} {font.package}"


def _left_out(found: Alphabet, wanted: tuple[str, ...]) -> list[str]:
    """Returns lines on letters that are no symbols because a font lacks them, with the fonts to blame."""
    lost = [s for s in wanted if s not in frozenset(found.symbols)]
    if not lost:
        return []
    lacking = Counter({f.name: len(lost) - len(supported(f, lost)) for f in found.fonts})
    blamed = [f"{name} ({n})" for name, n in lacking.most_common(_FEW) if n]
    return [f"  left out: {_few(lost, ' ')}", f"  lacked by: {', '.join(blamed)}"]


def _more(language: str, fonts: FontSet) -> list[str]:
    have = {f.package for f in fonts}
    pypi = [f"fontpkg-{name}" for name in PYPI.get(language, "").split() if f"fontpkg-{name}" not in have]
    lines = [f"more fonts for {language}:"]
    if pypi:
        lines.append(f"  pip install {' '.join(pypi)}")
    if other := OTHER_PYPI.get(language):
        lines.append(f"  pip install {other[0]}    # then: --fonts_dir=…/site-packages/{other[1]}")
    lines.append(f"  apt-get install {DEBIAN[language]}    # then: --system")
    return [*lines, "  any folder of font files, such as a checkout of google/fonts: --fonts_dir=FOLDER"]


def _alphabet(language: str, fonts: FontSet, auxiliary: bool) -> Alphabet | None:
    try:
        return alphabet(language, auxiliary=auxiliary, fonts=fonts)
    except UserError:
        return None


def _few(items: Iterable[str], separator: str) -> str:
    items = list(items)
    more = f" … ({len(items)} in all)" if len(items) > 4 * _FEW else ""
    return separator.join(items[: 4 * _FEW]) + more
