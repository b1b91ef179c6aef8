"""Typed values: from the plain ones of a command line or a file to frozen dataclasses, checked at the border.

config = parse(Config, values)      # UserError with the nearest key, the wrong type, the impossible value
values = to_dict(config)            # and back, ready for a ConfigDict or JSON
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from jaxrepro.errors import UserError, unknown

MOST = 2**31 - 1  # of whole numbers; devices count in int32


def to_dict(config: Any) -> dict:
    """Returns a dataclass as plain nested dicts, tuples and strings, ready for a ConfigDict or JSON."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    return str(config) if isinstance(config, StrEnum) else config


def parse(cls: type, values: Mapping[str, Any], path: str = "config") -> Any:
    """Returns `cls(**values)` with nested sections built and every type checked.

    Args:
      cls: a frozen dataclass; its `__post_init__` raises UserError for impossible values.
      values: ConfigDict or dict, with exactly the fields of `cls` (those with a default may be absent).
      path: dotted name of this section, for messages.

    Raises:
      UserError: unknown or missing key, wrong type, impossible value; the message names the key.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in fields:
            raise unknown(f"key in {path}:", name, fields)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"{path}.{name} is missing")
    converted = {name: convert(types[name], value, f"{path}.{name}") for name, value in values.items()}
    try:
        return cls(**converted)
    except UserError as error:
        raise UserError(f"{path}.{error}") from None


def convert(kind: Any, value: Any, path: str) -> Any:
    """Returns `value` as type `kind`: a dataclass, enum, tuple[x, ...], int, float, bool or str."""
    if dataclasses.is_dataclass(kind):
        if not hasattr(value, "items"):
            raise UserError(f"{path} is {value!r}; it is a section, set one of its keys: {path}.KEY=VALUE")
        return parse(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError:
            raise unknown(f"value of {path}", value, list(kind)) from None
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, (tuple, list)):
            raise UserError(f"{path} is {value!r}; write a tuple such as (0,1,2)")
        item = typing.get_args(kind)[0]
        return tuple(convert(item, v, f"{path}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise UserError(f"{path} is {shown(value)}; it is too large for a number with a fraction") from None
    if kind is int and isinstance(value, int) and not -MOST <= value <= MOST:
        raise UserError(f"{path} is {shown(value)}; it must lie between -{MOST} and {MOST}")
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path} is {value}; it must be finite")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{path} is {shown(value)} ({type(value).__name__}); it must be {kind.__name__}")
    return value


def shown(value: Any) -> str:
    """Returns a value as text for a message; a long one is cut."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}… ({len(text)} characters)"
