"""Whether a sampler still draws what a file holds, so that an edited one is refused and no file mixes two.

A declared sampler is told by what it declares. Of a function only the name can be told, so what it draws is compared:
a header holds a hash of the attributes of up to 200 samples spread over the dataset; of a file that is there the
first sample is rendered and compared; and pieces that an interrupted call left are drawn again, every sample.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.declared_json import is_opaque, to_json
from jaxrepro.synbols.distributions import declared
from jaxrepro.synbols.predefined import Dataset
from jaxrepro.synbols.sampling import generator, image_of
from jaxrepro.synbols.symbols import attributes_of, flatten_attributes

_PROBED = 200  # samples
_DIGITS = 9  # of numbers that are compared: mathematical libraries differ in the last ones
_MOST_DIFFERENCE = 4.0  # mean levels of 255 between two renderings of one sample; libraries of graphics differ, too


def declaration(made: Dataset) -> str:
    """Returns as JSON what the sampler and the aggregator of masks declare."""
    return to_json({"sampler": declared(made.sampler), "mask_aggregator": made.mask_aggregator})


def draws_freely(made: Dataset) -> bool:
    """Returns whether functions take part in drawing, of which a declaration tells the name only."""
    return is_opaque(declared(made.sampler))


def probe(made: Dataset, seed: int, num_samples: int) -> str:
    """Returns a hash of what a sampler that `draws_freely` draws; "" for others.

    Raises:
      UserError: the sampler is not determined by its generator.
    """
    if not draws_freely(made):
        return ""
    rows = np.unique(np.linspace(0, num_samples - 1, _PROBED).astype(int)).tolist()
    lines = [json.dumps(_rounded(drawn), sort_keys=True) for drawn in _drawn(made, seed, rows)]
    if json.dumps(_rounded(next(_drawn(made, seed, rows))), sort_keys=True) != lines[0]:
        raise UserError(
            f"the sampler {declared(made.sampler)} draws something else from the same generator each time; "
            "it must draw from its argument only"
        )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check_drawn(path: Path, made: Dataset, seed: int, rows: Sequence[int], stored: Sequence[bytes]) -> None:
    """Raises UserError unless the sampler draws the stored attributes (JSON) of these samples."""
    for row, text, drawn in zip(rows, stored, _drawn(made, seed, rows), strict=True):
        if found := _first_difference(json.loads(text), drawn):
            raise UserError(_message(path, row, found))


def check_rendered(path: Path, row: int, stored: tuple[Any, Any, bytes], sample: tuple[Any, Any, Any]) -> None:
    """Raises UserError unless a stored sample (x, mask or None, JSON) looks like one rendered now (…, attributes)."""
    found = _first_difference(json.loads(stored[2]), json.loads(json.dumps(sample[2])))
    for name, old, new in zip(("image", "mask"), stored, sample):
        if old is None:
            continue
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
