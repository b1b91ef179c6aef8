"""Checks of single values at the border: each says in one line what was given and what is allowed."""

import math
import operator
from typing import Any

import numpy as np

from jaxrepro.errors import UserError


def flag(name: str, value: Any) -> bool:
    """Returns True or False (also for NumPy's, and for 0 and 1); texts are no flags: bool("False") is True."""
    if type(value) is bool:
        return value
    if isinstance(value, np.bool_ | int | np.integer) and value in (0, 1):
        return bool(value)
    raise UserError(f"{name} is {value!r}; it must be True or False")


def whole(name: str, value: Any, least: int) -> int:
    """Returns a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise UserError(f"{name} is {value!r}; it must be a whole number of {least} or more")
    return number


def texts(name: str, values: Any) -> tuple[str, ...]:
    """Returns several texts, such as names of classes."""
    try:
        found = tuple(values)
    except TypeError:
        found = (None,)
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"{name} is {values!r}; it must be a list of texts")
    return tuple(map(str, found))


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Returns a finite number of [low, high]."""
    try:
        found = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if math.isfinite(found) and low <= found <= high:
        return found
    shown = f"{value:g}" if isinstance(value, int | float | np.number) else repr(value)
    allowed = f"{low:g} or more" if math.isinf(high) else f"between {low:g} and {high:g}"
    raise UserError(f"{name} is {shown}; it must be {'a finite number' if math.isinf(low) else allowed}")
