"""Finding font families: installed packages, folders, and the system.

    fonts = find_fonts(folders=["google/fonts"])
    fonts.skipped           # files that could not be used, with the reason

Packages announce themselves under the entry point `fontpkg.family` and are read without importing them. A folder is
searched with its subfolders, so a checkout of google/fonts works as it is. What a file holds is taken from the file
itself; unreadable ones are skipped and reported, never fatal.
"""

import bisect
import functools
import hashlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

from jaxrepro.errors import UserError
from jaxrepro.synbols.fonts.faces import Font
from jaxrepro.synbols.fonts.files import Style, read_styles

SYSTEM_FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts",
    "/Library/Fonts", "/System/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")

MEDIUM, REGULAR = 500, 400  # weights of letters that are not bold
_BOLD = 700
# fontconfig's weights 0 … 215 at OpenType's 100 … 950: it takes the face nearest on this scale.
_OPENTYPE = (100, 200, 300, 350, 380, 400, 500, 600, 700, 800, 900, 950)
_FONTCONFIG = (0, 40, 50, 55, 75, 80, 100, 180, 200, 205, 210, 215)
_SPDX = {"OFL": "OFL-1.1", "APACHE2": "Apache-2.0", "UFL": "Ubuntu-font-1.0"}  # of google/fonts' METADATA.pb


class Skipped(NamedTuple):
    """A font file that is not used."""

    name: str  # its path
    reason: str


@dataclass(frozen=True)
class FontSet:
    """Fonts sorted by name, what could not be used, and whether alphabets take near-duplicates, too."""

    fonts: tuple[Font, ...]
    skipped: tuple[Skipped, ...] = ()
    near_duplicates: bool = False

    def __iter__(self) -> Iterator[Font]:
        return iter(self.fonts)

    def __len__(self) -> int:
        return len(self.fonts)

    def __getitem__(self, i):
        return self.fonts[i]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fonts)

    def without(self, names: Iterable[str]) -> "FontSet":
        """Returns the set less the fonts of these names; unknown names do not matter."""
        dropped = frozenset(names)
        return replace(self, fonts=tuple(f for f in self.fonts if f.name not in dropped))


def find_fonts(
    folders: Sequence[str | Path] = (), system: bool = False, instances: bool = False, *, normal_weight: int = MEDIUM,
    near_duplicates: bool = False,
) -> FontSet:  # fmt: skip
    """Returns the fonts of installed packages, of folders and of the system.

    Where two sources have a family of the same name, the first of packages, folders in the order given, and system
    provides the whole family. Upright styles are preferred; italics serve only families that have nothing else.

    Args:
      folders: searched for font files, subfolders included.
      system: also search the usual folders of the system.
      instances: also give each other weight and width of a family (static file, or named instance of a variable font)
        as a font of its own, such as "Poppins Thin". By default a family is one font with its normal and bold style.
      normal_weight: 500 takes for letters that are not bold what the original takes: Medium where a family has it,
        else Regular, because cairo asks fontconfig for Medium; 400 takes Regular.
      near_duplicates: let alphabets of Latin letters keep the families of `duplicates.NEAR_DUPLICATES`, too.

    Raises:
      UserError: a folder does not exist, or another weight.
    """
    if normal_weight not in (MEDIUM, REGULAR):
        raise UserError(f"normal_weight is {normal_weight!r}; it must be {MEDIUM} (Medium) or {REGULAR} (Regular)")
    if not isinstance(folders, Iterable) or isinstance(folders, str):
        raise UserError(f"folders is {folders!r}; it must be a list of folders")
    found: dict[str, tuple[Font, ...]] = {}
    skipped: list[Skipped] = []
    for source in _sources(folders, system):
        families: dict[str, list[Style]] = {}
        for path in source.files:
            try:
                styles = read_styles(path)
            except UserError as error:
                skipped.append(Skipped(path, str(error)))
                continue
            for style in styles:
                families.setdefault(style.family, []).append(style)
        for name, styles in families.items():
            if name not in found:
                found[name] = _fonts_of_family(name, styles, source, instances, normal_weight)
    if skipped:
        logging.warning("skipped %d font file(s); the first: %s: %s", len(skipped), *skipped[0])
    fonts = sorted((f for fonts in found.values() for f in fonts), key=lambda f: f.name)
    return FontSet(tuple(fonts), tuple(skipped), near_duplicates)


@functools.cache
def installed_fonts() -> FontSet:
    """Returns `find_fonts()`, searched once per process."""
    return find_fonts()


def fingerprint(fonts: Iterable[Font]) -> str:
    """Returns a hash of names and contents: equal where the same letters are drawn, wherever the files lie."""
    digest = hashlib.sha256()
    for font in fonts:
        faces = [[_file_hash(f.path), f.index, f.location] if f else None for f in (font.regular, font.bold)]
        digest.update(json.dumps([font.name, faces]).encode())
    return digest.hexdigest()[:16]


def fingerprint_of_files(paths: Iterable[str]) -> str:
    """Returns a hash of the contents of some files, in this order, wherever they lie."""
    return hashlib.sha256(json.dumps([_file_hash(path) for path in paths]).encode()).hexdigest()[:16]


def _file_hash(path: str) -> str:
    status = os.stat(path)
    return _hash_of_version(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _hash_of_version(path: str, mtime: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- Where fonts come from ---
class _Source(NamedTuple):
    package: str
    licence: str
    files: list[str]


def _sources(folders: Sequence[str | Path], system: bool) -> Iterator[_Source]:
    """Yields the places to search, the most important first; one per folder of files, which share a licence."""
    yield from _packages()
    chosen = []
    for given in folders:
        if not isinstance(given, str | Path):
            raise UserError(f"one of folders is {given!r}; it must be the name of a folder")
        folder = Path(os.path.expanduser(given))
        chosen.append(folder)
        if not folder.is_dir():
            raise UserError(f"no folder of fonts at {folder}")
        if not any(
            name.lower().endswith(SUFFIXES) for _, _, names in os.walk(folder, followlinks=True) for name in names
        ):
            raise UserError(f"no font ({' '.join(SUFFIXES)}) in the folder {folder}")
    if system:
        chosen += [p for p in (Path(os.path.expanduser(f)) for f in SYSTEM_FOLDERS) if p.is_dir()]
    for folder in chosen:
        for place, subfolders, names in os.walk(folder, followlinks=True):
            subfolders.sort()
            files = sorted(os.path.join(place, n) for n in names if n.lower().endswith(SUFFIXES))
            if files:
                yield _Source(place, _google_licence(Path(place)), files)


def _packages() -> Iterator[_Source]:
    for entry in sorted(entry_points(group="fontpkg.family"), key=lambda e: e.name):
        spec = importlib.util.find_spec(entry.module)
        if spec is None or not spec.origin:
            continue  # uninstalled by hand
        root = Path(spec.origin).parent
        try:
            metadata = json.loads((root / "metadata.json").read_text(encoding="utf-8"))
            files = sorted(str(root / f["path"]) for f in metadata["files"])
            yield _Source(entry.dist.name if entry.dist else entry.module, metadata.get("license", ""), files)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logging.warning("skipped the font package %s: %s", entry.module, error)


def _google_licence(folder: Path) -> str:
    """Returns the licence that google/fonts notes beside a family, "" elsewhere."""
    try:
        note = re.search(r'^license: "(\w+)"', (folder / "METADATA.pb").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return ""
    return _SPDX.get(note[1], note[1]) if note else ""


# --- From styles to fonts ---
def _fonts_of_family(
    name: str, styles: list[Style], source: _Source, instances: bool, normal_weight: int
) -> tuple[Font, ...]:
    """Returns the family's main font and, with `instances`, one for each other style."""
    upright = [s for s in styles if not s.italic] or styles
    normal = min(upright, key=_distance(normal_weight))
    bold = min(upright, key=_distance(_BOLD))
    has_bold = bold.weight >= 600 and bold.weight > normal.weight
    licence = source.licence or normal.licence
    fonts = [Font(name, normal.face, bold.face if has_bold else None, source.package, licence)]
    if instances:
        used, names = {normal.face, bold.face if has_bold else None}, {name}
        for style in sorted(upright, key=lambda s: (s.weight, s.width, s.face)):
            label = f"{name} {style.name}"
            if style.face not in used and label not in names and style.named:
                used.add(style.face)
                names.add(label)
                fonts.append(Font(label, style.face, None, source.package, licence))
    return tuple(fonts)


def _distance(weight: int):
    """Returns a sort key: normal width, the family's own name for it, then the nearest weight, then the path."""
    name = {_BOLD: "Bold", MEDIUM: "Medium", REGULAR: "Regular"}[weight]
    wanted = _on_scale(weight)
    return lambda s: (abs(s.width - 100), s.name != name, abs(_on_scale(s.weight) - wanted), not s.named, s.face)


def _on_scale(weight: float) -> float:
    """Returns an OpenType weight on fontconfig's scale, linear between its names."""
    i = min(max(bisect.bisect_right(_OPENTYPE, weight), 1), len(_OPENTYPE) - 1)
    (x0, x1), (y0, y1) = _OPENTYPE[i - 1 : i + 1], _FONTCONFIG[i - 1 : i + 1]
    return y0 + (y1 - y0) * (weight - x0) / (x1 - x0)
