"""HTML from the templates of this folder: every value is escaped, every picture embedded."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxrepro import __version__
from jaxrepro.report.text import sentence

MAX_EMBEDDED_BYTES = 40_000_000  # a page that a browser still opens at once
SMALL_PIXELS = 700  # narrower pictures that are not plots are enlarged by whole factors
PNG = b"\x89PNG\r\n\x1a\n"
PNG_HEADER_BYTES = 24  # to the end of width and height
PLOT_PIXELS = 1000  # wider ones are plots with small letters: a phone scrolls them instead of shrinking them


def fill(template: str, **values: Any) -> str:
    """Returns a page: the template with its values, escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("jaxrepro.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=__version__, **values)


@dataclass(frozen=True)
class Picture:
    """A picture of a page: `data` is the PNG in base64, "" where the page would get too large, or it is damaged."""

    name: str
    caption: str
    kind: str
    width: int
    height: int
    data: str


def read_pictures(paths: Sequence[Path], captions: Mapping[str, str]) -> list[Picture]:
    """Returns pictures with captions; beyond a total size without their data."""
    found, left = [], MAX_EMBEDDED_BYTES
    for path in paths:
        data = path.read_bytes()
        if not data.startswith(PNG) or len(data) < PNG_HEADER_BYTES:
            caption = f"{caption_of(path.stem, captions)} (the file is damaged; --mode=eval draws it again)"
            found.append(Picture(path.name, caption, "picture", 1, 1, ""))
            continue
        left -= len(data)
        width, height = png_size(data)
        factor = min(4, max(1, SMALL_PIXELS // max(width, 1))) if width < PLOT_PIXELS else 1
        kind = "pixels" if factor > 1 else "plot" if width >= PLOT_PIXELS else "picture"
        text = base64.b64encode(data).decode() if left >= 0 else ""
        caption = caption_of(path.stem, captions)
        found.append(Picture(path.name, caption, kind, width * factor, height * factor, text))
    return found


def png_size(data: bytes) -> tuple[int, int]:
    """Returns width and height of a PNG from its header."""
    return struct.unpack(">II", data[16:24])


def caption_of(stem: str, captions: Mapping[str, str]) -> str:
    """Returns a picture's caption: its own, that of the name without "_seed3", or the name in words."""
    name, separator, seed = stem.rpartition("_seed")
    if stem in captions or not (separator and seed.isdigit()):
        return captions.get(stem) or sentence(stem)
    return f"{captions.get(name) or sentence(name)} (seed {seed})"
