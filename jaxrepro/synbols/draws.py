"""Draws from declared distributions with NumPy.

    draw = drawer(LogNormal(0.6, 0.2))      # once; `drawer` stands in `distributions`
    draw(rng)                               # a microsecond

Numbers are made of `random()` and `standard_normal()` one by one, so that a draw takes the same random bits whatever
stands around it.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.distributions import (
    AnyFont,
    AnySymbol,
    Choice,
    Constant,
    Function,
    Joint,
    LogNormal,
    Mixture,
    Normal,
    Uniform,
    drawer,
)

Draw = Callable[[np.random.Generator], Any]


@drawer.register
def _(distribution: Constant) -> Draw:
    value = distribution.value
    return lambda rng: value


@drawer.register
def _(distribution: Uniform) -> Draw:
    low, span, size = distribution.low, distribution.high - distribution.low, distribution.size
    if size is None:
        return lambda rng: low + span * rng.random()
    return lambda rng: tuple([low + span * u for u in rng.random(size).tolist()])


@drawer.register
def _(distribution: Normal) -> Draw:
    mean, std, size = distribution.mean, distribution.std, distribution.size
    if size is None:
        return lambda rng: mean + std * rng.standard_normal()
    return lambda rng: tuple([mean + std * z for z in rng.standard_normal(size).tolist()])


@drawer.register
def _(distribution: LogNormal) -> Draw:
    median, std = distribution.median, distribution.std
    return lambda rng: median * math.exp(std * rng.standard_normal())


@drawer.register
def _(distribution: Choice) -> Draw:
    values, place = distribution.values, _place(len(distribution.values), distribution.weights)
    return lambda rng: values[place(rng.random())]


@drawer.register
def _(distribution: Mixture) -> Draw:
    draws = [drawer(component) for component in distribution.components]
    place = _place(len(draws), distribution.weights)
    return lambda rng: draws[place(rng.random())](rng)


@drawer.register
def _(distribution: Joint) -> Draw:
    draws = [(name, drawer(value)) for name, value in distribution.attributes]
    return lambda rng: {name: draw(rng) for name, draw in draws}


@drawer.register
def _(distribution: Function) -> Draw:
    if distribution.function is None:
        raise UserError(f"the function {distribution.name} is known by its name only and cannot be drawn from")
    return distribution.function


@drawer.register
def _(distribution: AnySymbol | AnyFont) -> Draw:
    raise UserError(f"{type(distribution).__name__} needs an alphabet; it stands for char, font or label in a sampler")


def draw_seed(rng: np.random.Generator) -> int:
    """Returns a seed of 32 bits."""
    return int(rng.random() * 0x1_0000_0000)


def _place(count: int, weights: Sequence[float] | None) -> Callable[[float], int]:
    """Returns the map from [0, 1) to the number of a value."""
    if weights is None:
        return lambda u: int(u * count)
    total = float(np.sum(weights))
    bounds = [bound / total for bound in itertools.accumulate(weights)]
    return lambda u: min(bisect.bisect_right(bounds, u), count - 1)
