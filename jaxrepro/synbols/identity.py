"""Whether a sampler still draws what a file holds, so that an edited one is refused and no file mixes two.

A declared sampler is told by what it declares. Of a function only the name can be told, so what it draws is compared:
a header holds a hash of the attributes of every sample, or of 20,000 spread over a larger dataset; of a file that is
there the first sample is rendered and compared; and pieces that an interrupted call left are drawn again, every sample.
Of an aggregator of masks that is a function of the user's, eight samples of each piece, or of the file that is there,
are rendered, and their masks must be equal.
Folders of pictures are told by a hash of their contents.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.blocks import pad_mask
from jaxrepro.synbols.declared_json import is_opaque, to_json
from jaxrepro.synbols.distributions import Distribution, declared
from jaxrepro.synbols.fonts.discovery import fingerprint_of_files
from jaxrepro.synbols.masks import flatten_mask, flatten_mask_except_first
from jaxrepro.synbols.patterns import ImagePattern, picture_files
from jaxrepro.synbols.predefined import Dataset
from jaxrepro.synbols.sampling import generator, image_of
from jaxrepro.synbols.symbols import attributes_json, attributes_of, flatten_attributes

_PROBED = 20_000  # samples, a few seconds' work
_DRAWN_TWICE = 200  # of them, to find samplers that draw from something else than their generator
_AGGREGATED = 8  # samples of a piece
_DIGITS = 9  # of numbers that are compared: mathematical libraries differ in the last ones
_MOST_DIFFERENCE = 4.0  # mean levels of 255 between two renderings of one sample; libraries of graphics differ, too


def declaration(made: Dataset) -> str:
    """Returns as JSON what the sampler and the aggregator of masks declare."""
    return to_json({"sampler": declared(made.sampler), "mask_aggregator": made.mask_aggregator})


def draws_freely(made: Dataset) -> bool:
    """Returns whether functions take part in drawing, of which a declaration tells the name only."""
    return is_opaque(declared(made.sampler))


def aggregates_freely(made: Dataset) -> bool:
    """Returns whether a function of the user's makes the masks, of which a declaration tells the name only."""
    return made.mask_aggregator not in (None, flatten_mask, flatten_mask_except_first)


def rendered_rows(made: Dataset, first: int, stop: int) -> list[int]:
    """Returns which of the samples first … stop-1, if they are there already, to render and compare."""
    return _spread(first, stop, _AGGREGATED) if aggregates_freely(made) else [first]


def probe(made: Dataset, seed: int, num_samples: int) -> str:
    """Returns a hash of what a sampler that `draws_freely` draws; "" for others.

    Raises:
      UserError: the sampler is not determined by its generator.
    """
    if not draws_freely(made):
        return ""
    rows = _spread(0, num_samples, _PROBED)
    lines, roots = [], set()
    for row in rows:
        image = image_of(made.sampler, generator(seed, row))
        lines.append(json.dumps(_rounded(attributes_of(image)), sort_keys=True))
        roots |= _roots((image.background, *[symbol.foreground for symbol in image.symbols]))
    twice = _spread(0, len(rows), _DRAWN_TWICE)
    again = _drawn(made, seed, [rows[i] for i in twice])
    if any(json.dumps(_rounded(drawn), sort_keys=True) != lines[i] for i, drawn in zip(twice, again)):
        raise UserError(
            f"the sampler {declared(made.sampler)} draws something else from the same generator each time; "
            "it must draw from its argument only"
        )
    if roots:
        lines.append(_fingerprint(roots))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def pictures(made: Dataset) -> str:
    """Returns a hash of the pictures in the folders that a sampler declares; "" if there are none."""
    roots = _roots(declared(made.sampler))
    return _fingerprint(roots) if roots else ""


def _fingerprint(roots: set[str]) -> str:
    return fingerprint_of_files(path for root in sorted(roots) for path in picture_files(root))


def _roots(value: Any) -> set[str]:
    """Returns the folders of the ImagePatterns that a declared value holds."""
    if isinstance(value, ImagePattern):
        return set() if value.root is None else {str(value.root)}
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, tuple | list):
        parts = value
    elif isinstance(value, Distribution):
        parts = [getattr(value, f.name) for f in dataclasses.fields(value)]
    else:
        parts = ()
    return set().union(*map(_roots, parts))


def check_drawn(path: Path, made: Dataset, seed: int, rows: Sequence[int], stored: Sequence[bytes]) -> None:
    """Raises UserError unless the sampler draws the stored attributes (JSON) of these samples."""
    for row, text, drawn in zip(rows, stored, _drawn(made, seed, rows), strict=True):
        if found := _first_difference(json.loads(text), drawn):
            raise UserError(_message(path, row, found))


def check_rendered(
    path: Path, row: int, stored: tuple[Any, Any, bytes], sample: tuple[Any, Any, Any], *, same_mask: bool
) -> None:
    """Raises UserError unless a stored sample (x, mask, JSON) looks like one rendered now (x, mask, attributes).

    Args:
      same_mask: the masks must be equal, and no attribute may be stored that is not there now.
    """
    one, other = json.loads(stored[2]), json.loads(attributes_json(sample[2]))
    found = _first_difference(one, other)
    if same_mask and not found:
        more = [name for name in one if name not in other]
        found = f"{more[0]}, which is not there now" if more else ""
        if not found and not _equal_masks(np.asarray(stored[1]), np.asarray(sample[1])):
            found = "another mask (was the aggregator of masks edited?)"
    for name, old, new in zip(("image", "mask"), stored, sample):
        channels = min(np.shape(a)[-1] for a in (old, new)) if np.ndim(new) == 3 else None  # padded in the file
        old, new = (np.asarray(a, np.float32)[..., :channels] for a in (old, new))
        if not found and (old.shape != new.shape or np.abs(old - new).mean() > _MOST_DIFFERENCE):
            found = f"another {name}"
    if found:
        raise UserError(_message(path, row, found))


def _message(path: Path, row: int, found: str) -> str:
    return (
        f"{path} holds other samples than are drawn now: number {row} has {found}; if the sampler was edited, "
        "delete the file or choose another name"
    )


def _spread(first: int, stop: int, most: int) -> list[int]:
    """Returns up to `most` numbers of first … stop-1, both ends included."""
    return np.unique(np.linspace(first, stop - 1, most).astype(int)).tolist()


def _equal_masks(one: np.ndarray, other: np.ndarray) -> bool:
    """Returns whether masks are equal but for empty channels, with which a file pads them."""
    if one.ndim == other.ndim == 3:
        channels = max(one.shape[-1], other.shape[-1])
        one, other = pad_mask(one, channels), pad_mask(other, channels)
    return np.array_equal(one, other)


def _drawn(made: Dataset, seed: int, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield attributes_of(image_of(made.sampler, generator(seed, row)))


def _first_difference(stored: dict[str, Any], drawn: dict[str, Any]) -> str:
    """Returns such as "scale 0.9, not 0.8"; "" if all that was drawn is stored. (Masks add to what is stored.)"""
    one, other = flatten_attributes(stored), flatten_attributes(drawn)
    for name, value in other.items():
        if name not in one:
            return f"no {name}"
        if not _same(one[name], value):
            return f"{name} {one[name]}, not {value}"
    return ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=10.0**-_DIGITS)
    return one == other


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value
