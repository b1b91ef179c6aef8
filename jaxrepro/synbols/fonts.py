"""Installed font families and the outlines of their letters.

Families come from packages fontpkg-*, which announce themselves under the entry point `fontpkg.family` and
hold metadata.json beside the font files. Outlines are read with fontTools, so neither fontconfig nor system
fonts matter.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from jaxrepro.errors import UserError


@dataclass(frozen=True)
class Family:
    """One font family: its name, and file and weight of its two upright styles."""

    name: str
    regular: tuple[Path, int]
    bold: tuple[Path, int] | None  # None: no bold face, so bold is the regular outline thickened


@functools.cache
def families(alphabet: str) -> tuple[Family, ...]:
    """Returns the installed families that have every character of `alphabet`, sorted by name.

    Raises:
      UserError: there is none.
    """
    found = []
    for entry in entry_points(group="fontpkg.family"):
        root = Path(entry.load().__file__).parent
        family = _family(root, json.loads((root / "metadata.json").read_text(encoding="utf-8")))
        if family is not None and set(map(ord, alphabet)) <= set(_font(family.regular[0]).getBestCmap()):
            found.append(family)
    if not found:
        raise UserError("no fonts found; install some families: pip install fontpkg-poppins fontpkg-lobster …")
    return tuple(sorted(found, key=lambda f: f.name))


def fingerprint(chosen: Sequence[Family]) -> str:
    """Returns a hash of the families' files, for the keys of caches."""
    digest = hashlib.sha256()
    for family in chosen:
        for path, weight in filter(None, (family.regular, family.bold)):
            digest.update(f"{family.name}/{path.name}/{path.stat().st_size}/{weight}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def outline(face: tuple[Path, int], char: str) -> tuple[Any, tuple[float, float, float, float]]:
    """Returns a glyph as cairo path and box (x, y, width, height), y down, in units of the font size."""
    import cairo
    from fontTools.pens.cairoPen import CairoPen
    from fontTools.pens.transformPen import TransformPen

    path, weight = face
    font = _font(path)
    glyphs = font.getGlyphSet(location={"wght": weight} if "fvar" in font else None)
    context = cairo.Context(cairo.RecordingSurface(cairo.CONTENT_COLOR_ALPHA, None))
    context.set_tolerance(1e-3)  # in ems, fine enough for glyphs of 100 pixels
    unit = 1 / font["head"].unitsPerEm
    glyphs[font.getBestCmap()[ord(char)]].draw(TransformPen(CairoPen(glyphs, context), (unit, 0, 0, -unit, 0, 0)))
    x1, y1, x2, y2 = context.path_extents()
    return context.copy_path(), (x1, y1, x2 - x1, y2 - y1)


def _family(root: Path, metadata: dict) -> Family | None:
    upright = [f for f in metadata["files"] if f["style"] == "normal"]
    if not upright:
        return None
    variable = next((f for f in upright if f["variable"]), None)
    if variable is not None:
        path = root / variable["path"]
        heaviest = max((a.maxValue for a in _font(path)["fvar"].axes if a.axisTag == "wght"), default=400)
        return Family(metadata["family"], (path, 400), (path, min(700, int(heaviest))) if heaviest >= 600 else None)
    regular = min(upright, key=lambda f: abs(f["weight"] - 400))
    bold = min(upright, key=lambda f: abs(f["weight"] - 700))
    has_bold = bold["weight"] >= max(600, regular["weight"] + 200)
    return Family(
        metadata["family"],
        (root / regular["path"], regular["weight"]),
        (root / bold["path"], bold["weight"]) if has_bold else None,
    )


@functools.cache
def _font(path: Path) -> Any:
    from fontTools.ttLib import TTFont

    return TTFont(path, lazy=True)
