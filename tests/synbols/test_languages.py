"""Alphabets: the character sets of 16 languages, and which fonts and characters stay."""

import string
from dataclasses import replace

import pytest
from box_fonts import box_font, sizes

from jaxrepro.errors import UserError
from jaxrepro.synbols import languages
from jaxrepro.synbols.fonts import Face, Font, FontSet, installed_fonts, similar
from jaxrepro.synbols.fonts.duplicates import NEAR_DUPLICATES
from jaxrepro.synbols.languages import LANGUAGES, alphabet, exemplars

# What CLDR has, lower case, everyday and with auxiliary characters. The original's ICU of 2020 had, where it is known:
# English 26, Russian 33, Greek 36, Hebrew 27, Thai 73, Korean 11,172 everyday characters.
COUNTS = {
    "arabic": (49, 62), "bangla": (68, 78), "chinese": (2210, 2689), "english": (26, 65), "greek": (36, 99),
    "gujarati": (63, 64), "hebrew": (27, 45), "japanese": (2307, 2382), "khmer": (72, 78), "korean": (11172, 11994),
    "malayalam": (71, 71), "russian": (33, 33), "tamil": (48, 48), "telugu": (72, 82), "thai": (73, 73),
    "vietnamese": (93, 93),
}  # fmt: skip


def fonts_of(tmp_path, **letters: str) -> FontSet:
    """Returns one font per keyword, which has these letters."""
    faces = {name: Face(str(box_font(tmp_path / f"{name}.ttf", name, sizes(has)))) for name, has in letters.items()}
    return FontSet(tuple(Font(name, face, None, "", "") for name, face in sorted(faces.items())))


# --- Characters ---
@pytest.mark.parametrize("language", LANGUAGES)
def test_characters_of_each_language(language):
    everyday, every = exemplars(language, auxiliary=False), exemplars(language)
    # A later version of gflanguages may add or drop a few.
    assert len(everyday) == pytest.approx(COUNTS[language][0], rel=0.05, abs=3)
    assert len(every) == pytest.approx(COUNTS[language][1], rel=0.05, abs=3)
    assert every[: len(everyday)] == everyday
    assert len(set(every)) == len(every)
    assert all(len(c) == 1 and c.isprintable() and not c.isspace() and c != "◌" for c in every)


def test_some_alphabets_known_by_heart():
    assert "".join(exemplars("english", auxiliary=False)) == string.ascii_lowercase
    assert "".join(exemplars("russian")) == "абвгдежзийклмнопрстуфхцчшщъыьэюяё"
    assert exemplars("korean", auxiliary=False) == tuple(chr(c) for c in range(0xAC00, 0xD7A4))
    assert set("αβγδεζηθικλμνξοπρσςτυφχψωάέ") <= set(exemplars("greek", auxiliary=False))
    assert set("אבגדהוזחטיכלמנסעפצקרשתךםןףץ") == set(exemplars("hebrew", auxiliary=False))


def test_vowel_signs_are_letters_where_they_are_written_as_such():
    assert {"ะ", "ั", "่"} <= set(exemplars("thai"))
    assert {"ा", "ી"} & set(exemplars("gujarati"))
    assert not set(exemplars("english")) & set("\u0300\u0301\u0302\u0308")


def test_cases_and_kinds_come_in_the_order_of_the_original():
    everything = "".join(exemplars("english", upper=True))
    assert everything.startswith(string.ascii_lowercase + string.ascii_uppercase + "à")
    lower, upper = exemplars("english"), exemplars("english", lower=False, upper=True)
    assert {c.upper() for c in lower if len(c.upper()) == 1} - {"ʻ"} == set(upper)
    only_auxiliary = exemplars("english", standard=False)
    assert set(only_auxiliary) == set(lower) - set(string.ascii_lowercase)
    assert {"é", "ñ", "ç", "æ"} <= set(only_auxiliary)


def test_letters_without_case_count_as_lower():
    assert exemplars("thai", lower=False, upper=True) == ()


# --- Which fonts and characters stay ---
def test_a_font_with_four_fifths_of_the_letters_stays_and_costs_the_others(tmp_path):
    letters = string.ascii_lowercase  # 26: four fifths are 20.8
    fonts = fonts_of(tmp_path, all=letters, enough=letters[:21], few=letters[:20])
    found = alphabet(auxiliary=False, fonts=fonts)
    assert [f.name for f in found.fonts] == ["all", "enough"]
    assert found.symbols == tuple(letters[:21])


def test_exactly_four_fifths_are_enough(tmp_path):
    letters = string.ascii_lowercase[:25]
    fonts = fonts_of(tmp_path, all=letters, part=letters[:20], less=letters[:19])
    assert [f.name for f in alphabet(auxiliary=False, fonts=fonts).fonts] == ["all", "part"]


def test_the_share_is_of_what_the_best_font_has(tmp_path):
    fonts = fonts_of(tmp_path, best=string.ascii_lowercase[:10], other=string.ascii_lowercase[:8])
    assert len(alphabet(auxiliary=False, fonts=fonts).fonts) == 2


def test_support_bold_drops_fonts_whose_bold_looks_the_same(tmp_path):
    fonts = fonts_of(tmp_path, a=string.ascii_lowercase, b=string.ascii_lowercase)
    same = Font("same", fonts[0].regular, fonts[0].regular, "", "")
    fonts = FontSet((*fonts.fonts, same))
    assert len(alphabet(auxiliary=False, fonts=fonts).fonts) == 3
    assert [f.name for f in alphabet(auxiliary=False, fonts=fonts, support_bold=True).fonts] == ["a", "b"]


def test_the_installed_fonts_write_english():
    found = alphabet(auxiliary=False)
    assert "".join(found.symbols) == string.ascii_lowercase
    assert {"Poppins", "Anton", "Lobster"} <= {f.name for f in found.fonts}
    assert set(found.symbols) < set(alphabet().symbols)
    assert alphabet() is alphabet(fonts=installed_fonts())


# --- Errors ---
def test_an_unknown_language_is_answered_with_a_near_one():
    with pytest.raises(UserError, match="unknown language 'koraen'; did you mean 'korean'"):
        alphabet("koraen")


def test_a_language_without_fonts_says_where_to_find_some(tmp_path):
    with pytest.raises(UserError, match=r"none of the 1 fonts found can write korean; .*fonts --language=korean"):
        alphabet("korean", fonts=fonts_of(tmp_path, latin="abc"))


@pytest.mark.parametrize("options", [{"standard": False, "auxiliary": False}, {"lower": False}])
def test_choosing_no_characters_is_an_error(options):
    with pytest.raises(UserError, match="no characters of 'thai' are chosen"):
        alphabet("thai", **options)


def test_fonts_without_a_common_letter_are_an_error(tmp_path):
    with pytest.raises(UserError, match="have no character in common"):
        alphabet(auxiliary=False, fonts=fonts_of(tmp_path, a="abcd", b="efgh"))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(languages.importlib.util, "find_spec", lambda name: None)
    languages._exemplar_sets.cache_clear()
    with pytest.raises(UserError, match="pip install gflanguages"):
        exemplars("english")


# --- Near-duplicates ---
def test_near_duplicates_in_latin_letters_are_left_out_where_the_other_font_is_there(tmp_path):
    letters, greek = string.ascii_lowercase, "".join(exemplars("greek"))
    fonts = fonts_of(tmp_path, Roboto=letters + greek, Heebo=letters + greek, Arvo=letters)
    assert [f.name for f in alphabet("english", auxiliary=False, fonts=fonts).fonts] == ["Arvo", "Roboto"]
    assert [f.name for f in alphabet("greek", fonts=fonts).fonts] == ["Heebo", "Roboto"]
    every = replace(fonts, near_duplicates=True)
    assert [f.name for f in alphabet("english", auxiliary=False, fonts=every).fonts] == ["Arvo", "Heebo", "Roboto"]
    alone = fonts.without(["Roboto"])
    assert [f.name for f in alphabet("english", auxiliary=False, fonts=alone).fonts] == ["Arvo", "Heebo"]


def test_the_near_duplicates_are_those_that_the_command_finds_in_the_extra(tmp_path):
    fonts = installed_fonts()
    if sum(f.package.startswith("fontpkg-") for f in fonts) < 200:
        pytest.skip("the extra `fonts` is not installed")
    similar.write_list(tmp_path / "similar.txt", fonts, num_merges=16)
    found, kept = {}, ""
    for line in (tmp_path / "similar.txt").read_text().splitlines():
        if line.startswith("# like "):
            kept = line.removeprefix("# like ").removesuffix(":")
        elif line and not line.startswith("#"):
            found[line.partition("  #")[0]] = kept
    assert found == NEAR_DUPLICATES
