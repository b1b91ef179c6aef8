"""Fonts: outlines equal to another reader's, families put together rightly, damaged files named, letters checked."""

import os
import pickle
import shutil
from dataclasses import replace

import pytest
from box_fonts import box_font, sizes
from fontTools.pens.areaPen import AreaPen
from fontTools.pens.boundsPen import BoundsPen
from fontTools.ttLib import TTFont

from jaxrepro.errors import UserError
from jaxrepro.synbols.fonts import Face, Font, FontSet, find_fonts, fingerprint, installed_fonts, text_outline
from jaxrepro.synbols.fonts.checks import broken, supported

CORE = {
    "Abril Fatface", "Anton", "Bebas Neue", "Crimson Text", "Indie Flower", "Lobster", "Pacifico", "Poppins",
    "Press Start 2P", "Space Mono",
}  # fmt: skip


def plain(path, bold=None) -> Font:
    return Font("Boxes", Face(str(path)), None if bold is None else Face(str(bold)), "", "")


def families(folder, **options) -> dict[str, Font]:
    """Returns the fonts that a folder adds to the installed ones."""
    return {f.name: f for f in find_fonts([folder], **options) if str(folder) in f.regular.path}


def area(path) -> float:
    """Returns the signed area within a path of lines and cubic curves, by the pen of another library."""
    pen = AreaPen()
    for kind, points in path:
        pairs = list(zip(points[::2], points[1::2]))
        (pen.moveTo, pen.lineTo, pen.curveTo, lambda *_: pen.closePath())[kind](*pairs)
    return pen.value


# --- Outlines ---
def test_outlines_are_those_that_another_reader_finds():
    checked = 0
    for font in installed_fonts():
        if font.regular.location:
            continue  # fontTools is slow there; a variable font is tested below
        file = TTFont(font.regular.path, fontNumber=font.regular.index)
        em, glyphs, names = file["head"].unitsPerEm, file.getGlyphSet(), file.getBestCmap()
        for char in "agQß":
            if ord(char) not in names:
                continue
            bounds, expected_area = BoundsPen(glyphs), AreaPen(glyphs)
            for pen in (bounds, expected_area):
                glyphs[names[ord(char)]].draw(pen)
            path, (x, y, width, height) = text_outline(font, char)
            # The box comes from the flattened curve, whose tolerance is 1e-4 em.
            assert (x, -y - height, x + width, -y) == pytest.approx([b / em for b in bounds.bounds], abs=2e-4), (
                font.name
            )
            assert -area(path) == pytest.approx(expected_area.value / em**2, abs=1e-4), font.name
            checked += 1
        if checked > 60:
            break  # the extra `fonts` is installed
    assert checked >= 30


def test_characters_stand_at_their_advances_without_kerning(tmp_path):
    font = plain(box_font(tmp_path / "a.ttf", "Boxes", {"a": (300, 500), "b": (400, 600), " ": (0, 0)}))
    for text, left, right in (
        ("a", 0.05, 0.35),
        ("b", 0.05, 0.45),
        ("ab", 0.05, 0.4 + 0.45),
        ("a b", 0.05, 0.5 + 0.45),
    ):
        _, (x, y, width, height) = text_outline(font, text)
        tall = 0.6 if "b" in text else 0.5
        assert (x, x + width) == pytest.approx((left, right), abs=1e-5), text
        assert (y, height) == pytest.approx((-tall, tall), abs=1e-5)
    assert text_outline(font, " ").box == (0, 0, 0, 0)


def test_a_family_without_bold_is_thickened_by_a_24th_of_the_em(tmp_path):
    font = plain(box_font(tmp_path / "a.ttf", "Boxes", {"a": (300, 500)}))
    _, regular = text_outline(font, "a")
    _, bold = text_outline(font, "a", is_bold=True)
    assert (bold[2] - regular[2], bold[3] - regular[3]) == pytest.approx((1 / 24, 1 / 24), abs=2e-3)


def test_bold_is_the_bold_face_except_for_letters_that_it_lacks(tmp_path):
    regular = box_font(tmp_path / "a.ttf", "Boxes", {"a": (300, 500), "b": (300, 500)})
    font = plain(regular, box_font(tmp_path / "b.ttf", "Boxes", {"a": (450, 510)}, weight=700))
    assert text_outline(font, "a", is_bold=True).box[2:] == pytest.approx((0.45, 0.51), abs=1e-5)
    assert text_outline(font, "b", is_bold=True).box[2] == pytest.approx(0.3 + 1 / 24, abs=2e-3)


def test_a_missing_character_is_named_with_its_font(tmp_path):
    font = plain(box_font(tmp_path / "few.ttf", "Boxes", {"a": (300, 500)}))
    with pytest.raises(UserError, match=r"few\.ttf has no character 'ж' \(U\+0436\)"):
        text_outline(font, "aж")


def test_an_outline_is_drawn_once(tmp_path):
    font = plain(box_font(tmp_path / "a.ttf", "Boxes", {"a": (300, 500)}))
    assert text_outline(font, "a").path is text_outline(pickle.loads(pickle.dumps(font)), "a").path


# --- Finding families ---
def test_the_packages_of_this_project_are_found_and_sorted():
    fonts = find_fonts()
    assert set(fonts.names) >= CORE
    assert list(fonts.names) == sorted(fonts.names)
    by_name = dict(zip(fonts.names, fonts))
    assert (by_name["Lobster"].package, by_name["Lobster"].licence) == ("fontpkg-lobster", "OFL-1.1")
    assert by_name["Poppins"].regular.path.endswith("Poppins-Medium.ttf")
    assert by_name["Poppins"].bold.path.endswith("Poppins-Bold.ttf")
    assert by_name["Lobster"].bold is None


def test_a_family_is_its_medium_or_regular_and_its_bold_upright_style(tmp_path):
    for style, weight, width, italic in (
        ("Light", 300, 5, False), ("Regular", 400, 5, False), ("Medium", 500, 5, False), ("Bold", 700, 5, False),
        ("Italic", 400, 5, True), ("Bold Italic", 700, 5, True), ("Condensed", 400, 3, False),
        ("Condensed Bold", 700, 3, False),
    ):  # fmt: skip
        name = style.replace(" ", "")
        box_font(tmp_path / f"{name}.ttf", "Boxes", sizes("ab"), style=style, weight=weight, width=width, italic=italic)
    for weight, name in ((500, "Medium"), (400, "Regular")):
        (font,) = families(tmp_path, normal_weight=weight).values()
        assert [os.path.basename(f.path) for f in (font.regular, font.bold)] == [f"{name}.ttf", "Bold.ttf"]
    assert families(tmp_path)["Boxes"].regular.path.endswith("Medium.ttf")  # as in the original
    every = families(tmp_path, instances=True, normal_weight=400)
    assert set(every) == {"Boxes", "Boxes Light", "Boxes Medium", "Boxes Condensed", "Boxes Condensed Bold"}
    assert every["Boxes Light"].bold is None


@pytest.mark.parametrize(
    ("weights", "normal"), [((300, 600), 300), ((380, 600), 380), ((300, 400), 400), ((600, 900), 600)]
)
def test_without_medium_the_nearest_weight_of_fontconfig_is_normal(tmp_path, weights, normal):
    # 300 and 600 are as near to 500 as 400 is to 700, but fontconfig counts 50, 100 and 180.
    for weight in weights:
        box_font(tmp_path / f"{weight}.ttf", "Boxes", sizes("ab"), style=f"Style {weight}", weight=weight)
    assert families(tmp_path)["Boxes"].regular.path.endswith(f"{normal}.ttf")


def test_another_normal_weight_is_refused():
    with pytest.raises(UserError, match=r"normal_weight is 450; it must be 500 \(Medium\) or 400 \(Regular\)"):
        find_fonts(normal_weight=450)


def test_semibold_is_bold_enough_and_medium_is_not(tmp_path):
    for weight, has_bold in ((500, False), (600, True)):
        folder = tmp_path / str(weight)
        folder.mkdir()
        box_font(folder / "r.ttf", "Boxes", sizes("ab"))
        box_font(folder / "b.ttf", "Boxes", sizes("ab"), style="Heavier", weight=weight)
        assert (families(folder)["Boxes"].bold is not None) is has_bold


def test_the_style_named_bold_is_bold_whatever_its_weight(tmp_path):
    for style, weight in (("Regular", 400), ("Bold", 800), ("ExtraBold", 700)):
        box_font(tmp_path / f"{style}.ttf", "Boxes", sizes("ab"), style=style, weight=weight)
    assert families(tmp_path)["Boxes"].bold.path.endswith("/Bold.ttf")


def test_only_a_family_without_upright_style_is_italic(tmp_path):
    box_font(tmp_path / "i.ttf", "Boxes", sizes("ab"), style="Italic", italic=True)
    assert families(tmp_path)["Boxes"].regular.path.endswith("i.ttf")


def test_a_variable_font_gives_regular_bold_and_its_named_instances(tmp_path):
    box_font(tmp_path / "v.ttf", "Boxes", {"a": (200, 500)}, style="Light", weight=300, max_weight=800)
    font = families(tmp_path)["Boxes"]
    assert (font.regular.location, font.bold.location) == ((("wght", 500.0),), (("wght", 700.0),))
    # 100 units wider over 500 of weight.
    assert text_outline(font, "a").box[2] == pytest.approx(0.24, abs=1e-3)
    regular = families(tmp_path, normal_weight=400)["Boxes"]
    assert (regular.regular.location, regular.bold) == ((("wght", 400.0),), font.bold)
    assert text_outline(font, "a", is_bold=True).box[2] == pytest.approx(0.28, abs=1e-3)
    every = families(tmp_path, instances=True)
    assert set(every) == {"Boxes", "Boxes Light", "Boxes Regular"}
    assert text_outline(every["Boxes Light"], "a").box[2] == pytest.approx(0.2, abs=1e-3)


def test_bold_of_a_variable_font_need_not_be_a_named_instance(tmp_path):
    box_font(tmp_path / "v.ttf", "Boxes", sizes("ab"), weight=400, max_weight=650)
    font = families(tmp_path)["Boxes"]
    assert (font.regular.location, font.bold.location) == ((("wght", 500.0),), (("wght", 650.0),))
    assert set(families(tmp_path, instances=True)) == {"Boxes", "Boxes Regular"}


def test_a_variable_font_that_cannot_be_bold_is_thickened(tmp_path):
    box_font(tmp_path / "v.ttf", "Boxes", sizes("ab"), style="Light", weight=300, max_weight=500)
    assert families(tmp_path)["Boxes"].bold is None


def test_a_package_hides_a_folder_and_a_folder_hides_later_ones(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        for name in ("Poppins", "Boxes"):
            box_font(tmp_path / place / f"{name}.ttf", name, sizes("ab"))
    fonts = find_fonts([tmp_path / "two", tmp_path / "one"])
    by_name = dict(zip(fonts.names, fonts))
    assert len(by_name) == len(fonts)
    assert by_name["Poppins"].package == "fontpkg-poppins"
    assert by_name["Boxes"].regular.path == str(tmp_path / "two" / "Boxes.ttf")


def test_licences_come_from_google_fonts_notes_or_the_font(tmp_path):
    for folder, licence in (
        ("apache/boxesone", ""),
        ("elsewhere", "This is under the SIL Open Font License."),
        ("no", ""),
    ):
        (tmp_path / folder).mkdir(parents=True)
        box_font(tmp_path / folder / "f.ttf", f"Boxes {folder}", sizes("ab"), licence=licence)
    (tmp_path / "apache/boxesone/METADATA.pb").write_text('name: "Boxes"\nlicense: "APACHE2"\n')
    licences = {name: font.licence for name, font in families(tmp_path).items()}
    assert licences == {"Boxes apache/boxesone": "Apache-2.0", "Boxes elsewhere": "OFL-1.1", "Boxes no": ""}


def test_damaged_files_are_skipped_and_named(tmp_path):
    whole = box_font(tmp_path / "whole.ttf", "Boxes", sizes("ab")).read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no font at all" * 20, "stub": whole[:20]}
    for name, content in damaged.items():
        (tmp_path / f"{name}.ttf").write_bytes(content)
    fonts = find_fonts([tmp_path])
    assert "Boxes" in fonts.names
    assert {os.path.basename(s.name) for s in fonts.skipped} == {f"{n}.ttf" for n in damaged}
    assert "truncated" in next(s.reason for s in fonts.skipped if s.name.endswith("cut.ttf"))


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no folder of fonts at .*nowhere"):
        find_fonts([tmp_path / "nowhere"])


def test_a_font_set_can_be_narrowed_and_sent_to_a_worker():
    fonts = find_fonts()
    fewer = fonts.without(["Lobster", "no such font"])
    assert set(fonts.names) - set(fewer.names) == {"Lobster"}
    again = pickle.loads(pickle.dumps(fewer))
    assert again == fewer
    assert hash(again) == hash(fewer)


# --- Fingerprint ---
def test_the_fingerprint_knows_contents_and_no_places(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
    here = box_font(tmp_path / "here/f.ttf", "Boxes", sizes("ab"))
    there = shutil.copy(here, tmp_path / "there/renamed.ttf")
    os.utime(there, (1, 1))
    assert fingerprint([plain(here)]) == fingerprint([plain(there)])
    others = [
        [plain(here), plain(here)],
        [plain(here, bold=here)],
        [Font("Other", Face(str(here)), None, "", "")],
        [Font("Boxes", Face(str(here), 0, (("wght", 500.0),)), None, "", "")],
        [plain(box_font(tmp_path / "wider.ttf", "Boxes", {"a": (300, 500)}))],
    ]
    assert len({fingerprint(f) for f in [[plain(here)], *others]}) == 6


def test_the_fingerprint_notices_a_file_that_was_replaced(tmp_path):
    path = box_font(tmp_path / "f.ttf", "Boxes", sizes("ab"))
    before = fingerprint([plain(path)])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, (2, 2))
    assert fingerprint([plain(path)]) != before


# --- Broken glyphs ---
def test_each_kind_of_broken_glyph_is_told(tmp_path):
    boxes = {"a": (300, 500), "b": (0, 0), "c": (123, 456), "d": (310, 510)}
    regular = box_font(tmp_path / "r.ttf", "Boxes", boxes, notdef=(123, 456))
    font = plain(regular, box_font(tmp_path / "b.ttf", "Boxes", boxes | {"a": (400, 500)}, weight=700))
    assert [broken(font, c, support_bold=True) for c in "abcde"] == ["", "empty", "notdef", "same in bold", "missing"]
    assert broken(font, "d") == ""
    assert broken(plain(regular), "d", support_bold=True) == ""
    assert supported(font, "abcde") == ("a", "d")
    assert supported(font, "abcde", support_bold=True) == ("a",)


def test_a_glyph_empty_in_bold_only_is_broken(tmp_path):
    bold = box_font(tmp_path / "b.ttf", "Boxes", {"a": (0, 0)}, weight=700)
    assert broken(plain(box_font(tmp_path / "r.ttf", "Boxes", {"a": (300, 500)}), bold), "a") == "empty"


def test_a_placeholder_font_supports_nothing(tmp_path):
    same = plain(box_font(tmp_path / "same.ttf", "Boxes", dict.fromkeys("abcdef", (300, 500))))
    assert supported(same, "abcdef") == ()
    some = plain(box_font(tmp_path / "some.ttf", "Boxes", sizes("abcd") | dict.fromkeys("ef", (300, 500))))
    assert supported(some, "abcdef") == tuple("abcdef")


def test_bars_and_blocks_are_no_letters(tmp_path):
    font = plain(box_font(tmp_path / "bars.ttf", "Boxes", sizes("abcd")))
    for name in ("Libre Barcode 39", "Redacted Script", "Flow Block", "Barcelona"):
        assert bool(supported(replace(font, name=name), "abcd")) is (name == "Barcelona")


def test_one_broken_letter_among_thousands_that_are_sampled_brings_a_full_check(tmp_path):
    many = "".join(chr(c) for c in range(0x4E00, 0x4E00 + 300))
    font = plain(box_font(tmp_path / "f.ttf", "Boxes", sizes(many) | {many[0]: (0, 0), many[1]: (0, 0)}))
    assert supported(font, many) == tuple(many[2:])


def test_the_installed_families_draw_their_letters():
    for font in installed_fonts():
        if font.name in CORE:
            assert supported(font, "abcdefghijklmnopqrstuvwxyz", support_bold=True) == tuple(
                "abcdefghijklmnopqrstuvwxyz"
            )


def test_an_empty_set_of_fonts_has_no_names():
    assert FontSet(()).names == ()
