"""Declared values as JSON and back: distributions, samplers, patterns, alphabets.

    text = to_json(attribute_sampler(scale=LogNormal(0.7, 0.1)))
    from_json(text, fonts=find_fonts()) == attribute_sampler(scale=LogNormal(0.7, 0.1))

A dataclass is {"type": its name, …} with the fields that are not at their default; numbers, texts, flags and None are
themselves; so is a Constant of one of them. A font is its name, an alphabet the names of its fonts, and a function only
its name: what is read back names it and cannot draw from it.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols import attributes, distributions, patterns
from jaxrepro.synbols.distributions import Constant, Distribution, Function, declared, plain
from jaxrepro.synbols.fonts import Font, FontSet
from jaxrepro.synbols.languages import Alphabet


def to_json(value: Any) -> str:
    """Returns a declared value, or a function, as one line."""
    return json.dumps(_encoded(value), sort_keys=True)


def from_json(text: str, fonts: FontSet | None = None) -> Any:
    """Returns what `to_json` was given; functions come back as names.

    Args:
      fonts: where the fonts of alphabets are looked up by name.

    Raises:
      UserError: text of something else, or a font that is not among `fonts`.
    """
    try:
        return _decoded(json.loads(text), {font.name: font for font in fonts or ()})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{text[:80]!r} is no declared value ({error!r})") from error


def is_opaque(value: Any) -> bool:
    """Returns whether JSON tells only the name of some part: a function, or someone's own kind of pattern."""

    def parts(encoded: Any) -> Iterator[dict]:
        if isinstance(encoded, dict):
            yield encoded
        for part in encoded.values() if isinstance(encoded, dict) else encoded if isinstance(encoded, list) else ():
            yield from parts(part)

    return any(part.get("type") not in _types() or part["type"] == "Function" for part in parts(_encoded(value)))


@functools.cache
def _types() -> dict[str, type]:
    """Returns name -> class of all that can be declared."""
    found = [Alphabet, Font]
    for module in (distributions, attributes, patterns):
        found += [c for c in vars(module).values() if isinstance(c, type) and dataclasses.is_dataclass(c)]
    return {c.__name__: c for c in found}


def _encoded(value: Any) -> Any:
    if isinstance(value, Constant):
        return _encoded(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_encoded(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _encoded(v) for k, v in value.items()}
    if isinstance(value, Function) or (callable(value) and not isinstance(value, Distribution)):
        return {"type": "Function", "name": declared(value).name}
    if isinstance(value, Font):
        return {"type": "Font", "name": value.name}
    if isinstance(value, Alphabet):
        fonts = [font.name for font in value.fonts]
        return {"type": "Alphabet", "name": value.name, "fonts": fonts, "symbols": list(value.symbols)}
    if dataclasses.is_dataclass(value):
        held = [(f, plain(getattr(value, f.name))) for f in dataclasses.fields(value)]
        unusual = {f.name: _encoded(v) for f, v in held if v != f.default}
        return {"type": type(value).__name__, **unusual}
    return {"type": type(value).__qualname__}  # someone's own kind of value: told, not read back


def _decoded(value: Any, fonts: Mapping[str, Font]) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(v, fonts) for v in value)
    if not isinstance(value, dict):
        return value
    fields = {k: _decoded(v, fonts) for k, v in value.items() if k != "type"}
    kind = value["type"]
    if kind not in _types():
        raise unknown("kind of declared value", kind, _types())
    if kind == "Function":
        return Function(None, fields["name"])
    if kind == "Font":
        return _font(fields["name"], fonts)
    if kind == "Alphabet":
        return Alphabet(fields["name"], tuple(_font(name, fonts) for name in fields["fonts"]), fields["symbols"])
    return _made(_types()[kind], fields)


def _made(kind: type, fields: dict[str, Any]) -> Any:
    """Returns the object; where a distribution is meant, a plain value is a Constant."""
    for field in dataclasses.fields(kind):
        is_given = field.name in fields and (fields[field.name] is not None or field.type is Distribution)
        if is_given and field.type in (Distribution, Distribution | None):
            fields[field.name] = declared(fields[field.name])
    return kind(**fields)


def _font(name: str, fonts: Mapping[str, Font]) -> Font:
    if name not in fonts:
        raise unknown("font", name, fonts)
    return fonts[name]
