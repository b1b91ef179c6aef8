"""The report on fonts: what was found, what is missing, where to find more."""

import re
from dataclasses import replace

import pytest
from box_fonts import box_font, sizes

from jaxrepro.errors import UserError
from jaxrepro.synbols.fonts import find_fonts
from jaxrepro.synbols.fonts.discovery import FontSet, Skipped
from jaxrepro.synbols.fonts.listing import DEBIAN, OTHER_PYPI, PYPI, report
from jaxrepro.synbols.languages import LANGUAGES, exemplars


def test_the_table_counts_fonts_and_letters_of_every_language(tmp_path):
    box_font(tmp_path / "thai.ttf", "Boxes", sizes("".join(exemplars("thai"))))
    fonts = FontSet(tuple(f for f in find_fonts([tmp_path]) if f.name == "Boxes"), (Skipped("bad.ttf", "truncated"),))
    text = report(None, fonts)
    assert "1 fonts found: 0 with a bold face, 1 thickened" in text
    assert "1 not stated" in text
    assert "bad.ttf: truncated" in text
    assert re.search(r"^thai +1 +73 +1 +73$", text, re.MULTILINE)
    assert re.search(r"^korean +0 +- +0 +-$", text, re.MULTILINE)
    assert all(language in text for language in LANGUAGES)


def test_the_details_of_a_language_name_fonts_lost_letters_and_packages(tmp_path):
    box_font(tmp_path / "all.ttf", "Whole", sizes("абвгдежзийклмнопрстуфхцчшщъыьэюяё"))
    box_font(tmp_path / "old.ttf", "Without Yo", sizes("абвгдежзийклмнопрстуфхцчшщъыьэюя"))
    fonts = FontSet(tuple(f for f in find_fonts([tmp_path]) if f.package == str(tmp_path)))
    text = report("russian", fonts)
    assert "2 fonts, 32 of 33 letters" in text
    assert "left out: ё" in text
    assert "lacked by: Without Yo (1)" in text
    assert re.search(r"Whole +thickened +licence\? ", text)
    assert "pip install fontpkg-" in text
    assert f"apt-get install {DEBIAN['russian']}" in text


def test_installed_packages_are_not_recommended():
    assert "pip install fontpkg-hind-siliguri" in report("bangla", FontSet(()))
    installed = FontSet((replace(find_fonts()[0], package="fontpkg-hind-siliguri"),))
    assert "pip install" not in report("bangla", installed)


def test_the_extra_is_recommended_until_it_is_installed():
    font = find_fonts()[0]
    fonts = FontSet(tuple(replace(font, name=f"F{i}", package=f"fontpkg-f{i}") for i in range(100)))
    text = report(None, FontSet(fonts[:99]))
    assert "pip install '.[fonts]'" in text
    assert "'./packages/synbols[fonts]'" in text
    assert "[fonts]" not in report(None, fonts)


def test_korean_is_pointed_to_packages_of_both_kinds():
    text = report("korean", find_fonts())
    assert "pip install koreanize-matplotlib" in text
    assert "fonts-nanum" in text


def test_every_language_has_a_package_to_recommend():
    assert set(DEBIAN) == set(LANGUAGES)
    assert set(PYPI) | set(OTHER_PYPI) <= set(LANGUAGES)


def test_an_unknown_language_is_answered_with_a_near_one():
    with pytest.raises(UserError, match="did you mean 'hebrew'"):
        report("hebrev", find_fonts())
