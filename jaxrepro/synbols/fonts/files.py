"""What a font file holds: its family, weight, width and slope, read from the tables of the file."""

import struct
from typing import BinaryIO, NamedTuple

from jaxrepro.errors import UserError
from jaxrepro.synbols.fonts.faces import Face, hb_face

_WIDTHS = (50, 62.5, 75, 87.5, 100, 112.5, 125, 150, 200)  # per cent, of usWidthClass 1 to 9
_FAMILY, _SUBFAMILY, _LICENCE = 16, 17, 13  # numbers in the table `name`; 1 and 2 where 16 and 17 are missing
_LICENCES = (
    ("open font license", "OFL-1.1"), ("apache", "Apache-2.0"), ("ubuntu font licen", "Ubuntu-font-1.0"),
    ("gpl", "GPL"), ("gnu general public", "GPL"), ("bitstream vera", "Bitstream-Vera"),
    ("public domain", "LicenseRef-public-domain"),
)  # fmt: skip


class Style(NamedTuple):
    """One style of a family."""

    family: str
    name: str  # such as "Light Condensed"
    weight: float  # 100 to 1000; 400 regular, 700 bold
    width: float  # per cent of normal
    italic: bool
    named: bool  # the file itself names it; otherwise a place on the axes that we chose
    face: Face
    licence: str


def read_styles(path: str) -> list[Style]:
    """Returns the styles in a font file; of a variable font its named instances, regular, medium and bold.

    Raises:
      UserError: the file is no whole font file.
    """
    return [style for i in range(_check_file(path)) for style in _styles_of_face(path, i)]


def _check_file(path: str) -> int:
    """Returns the number of faces in a file whose tables all lie within it.

    HarfBuzz reads a damaged file as a font without glyphs, so damage must be looked for.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            offsets = _face_offsets(file)
            for offset in offsets:
                _check_tables(file, offset, size)
    except (OSError, struct.error) as error:
        raise UserError(f"not a font file ({error})") from error
    return len(offsets)


def _face_offsets(file: BinaryIO) -> list[int]:
    """Returns where the faces of a file begin: several in a collection, one at 0 otherwise."""
    file.seek(0)
    if file.read(4) != b"ttcf":
        return [0]
    _, count = struct.unpack(">II", file.read(8))
    return list(struct.unpack(f">{count}I", file.read(4 * count)))


def _check_tables(file: BinaryIO, offset: int, size: int) -> None:
    """Raises UserError unless a face has the tables that outlines need, all within the file."""
    file.seek(offset)
    magic, count = struct.unpack(">4sH6x", file.read(12))
    if magic not in (b"\0\1\0\0", b"OTTO", b"true"):
        raise UserError("not a font file")
    tables = set()
    for tag, start, length in struct.iter_unpack(">4s4xII", file.read(16 * count)):
        if start + length > size:
            raise UserError(f"truncated: the table {tag.decode('latin-1')!r} ends after the file")
        tables.add(tag)
    if missing := {b"cmap", b"head", b"hhea", b"hmtx", b"maxp"} - tables:
        raise UserError(f"lacks the table {min(missing).decode()!r}")
    if not tables & {b"glyf", b"CFF ", b"CFF2"}:
        raise UserError("no outlines")


def _styles_of_face(path: str, index: int) -> list[Style]:
    face = hb_face(path, index)
    family = face.get_name(_FAMILY) or face.get_name(1)
    if not family or not face.glyph_count or not len(face.unicodes):
        raise UserError("has no name" if not family else "has no characters")
    name = face.get_name(_SUBFAMILY) or face.get_name(2) or "Regular"
    text = (face.get_name(_LICENCE) or "").lower()
    licence = next((spdx for key, spdx in _LICENCES if key in text), "")
    weight, width, italic = _style_bits(face)

    def style(name: str, weight: float, width: float, italic: bool, named: bool, location=()) -> Style:
        return Style(family, name, weight, width, italic, named, Face(path, index, location), licence)

    axes = {a.tag: a for a in face.axis_infos}
    if not axes:
        return [style(name, weight, width, italic, True)]
    defaults = {tag: a.default_value for tag, a in axes.items()}
    styles = []
    for instance in face.named_instances:
        values = dict(zip(defaults, instance.design_coords))
        slanted = italic or values.get("ital", 0) > 0 or values.get("slnt", 0) != 0
        label = face.get_name(instance.subfamily_name_id) or f"instance {len(styles) + 1}"
        location = tuple((tag, v) for tag, v in values.items() if v != defaults[tag])
        styles.append(style(label, values.get("wght", weight), values.get("wdth", width), slanted, True, location))
    # Some files name no instance for these weights; their places on the axis are well defined all the same.
    for target, label in ((400, "Regular"), (500, "Medium"), (700, "Bold")):
        if "wght" in axes:
            value = min(max(target, axes["wght"].min_value), axes["wght"].max_value)
        else:
            value = weight
        location = (("wght", float(value)),) if "wght" in axes and value != defaults["wght"] else ()
        if not any(s.face.location == location for s in styles):
            styles.append(style(label, value, defaults.get("wdth", width), italic, False, location))
    return styles


def _style_bits(face) -> tuple[float, float, bool]:
    """Returns weight, width in per cent and slope of a face, from OS/2 and head."""
    head, os2 = face.reference_table("head").data, face.reference_table("OS/2").data
    mac_style = struct.unpack_from(">H", head, 44)[0] if len(head) >= 46 else 0
    if len(os2) < 64:
        return (700.0 if mac_style & 1 else 400.0), 100.0, bool(mac_style & 2)
    weight, width = struct.unpack_from(">HH", os2, 4)
    selection = struct.unpack_from(">H", os2, 62)[0]
    # Some old files count weights from 1 to 9.
    weight = weight * 100 if weight < 10 else weight
    return float(weight), _WIDTHS[min(max(width, 1), 9) - 1], bool(selection & 0x201 or mac_style & 2)
