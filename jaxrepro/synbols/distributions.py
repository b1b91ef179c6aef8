"""Distributions of attributes, declared: they can be compared, hashed, printed, stored, and drawn by any back end.

    LogNormal(0.6, 0.2)                                        # median 0.6
    Uniform(-0.9, 0.9, size=2)                                 # two numbers
    Choice((0.3, 0.0), weights=(0.1, 0.9))
    Mixture(("a", AnySymbol()), weights=(0.7, 0.3))            # constants need no Constant(…)
    Joint({"char": Choice(("no", "yes")), "scale": 0.5})       # several attributes drawn together
    Function(lambda rng: rng.beta(2, 5))                       # what has no name

    LogNormal(0.6, 0.2)(np.random.default_rng(0))              # a draw
    print(LogNormal(0.6, 0.2))                                 # 0.6 exp(N(0, 0.2))

Here stands what there is to draw; `draws` draws it with NumPy, `jaxrepro.data.synbols_draws` with JAX.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from jaxrepro.errors import UserError

_MOST_SHOWN = 8  # values of a choice in a line of text


class Distribution:
    """Something to draw: a frozen dataclass of plain values; called with a NumPy generator, or a seed, it draws."""

    def __call__(self, rng: np.random.Generator | int) -> Any:
        if isinstance(rng, int | np.integer) and rng >= 0:
            rng = np.random.default_rng(rng)
        elif not hasattr(rng, "standard_normal"):
            raise UserError(f"a draw takes a NumPy generator, or a seed of 0 or more, not {rng!r}")
        return self._draw(rng)

    @functools.cached_property
    def _draw(self) -> Callable[[np.random.Generator], Any]:
        return drawer(self)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # not the compiled draw, which cannot be pickled


@functools.singledispatch
def drawer(distribution: Distribution) -> Callable[[np.random.Generator], Any]:
    """Returns the function that draws from a distribution; `draws` says how for each kind."""
    raise TypeError(f"no way to draw from {distribution!r}")


@dataclass(frozen=True)
class Constant(Distribution):
    """Always the same value; draws nothing."""

    value: Any

    def __str__(self):
        return shown(self.value)


@dataclass(frozen=True)
class Uniform(Distribution):
    """A number of [low, high), or a tuple of `size` such numbers."""

    low: float = 0.0
    high: float = 1.0
    size: int | None = None

    def __post_init__(self):
        _check_numbers(self, "low", "high")
        if self.low > self.high:
            raise UserError(f"Uniform({self.low:g}, {self.high:g}): the first number must not exceed the second")
        _check_size(self)

    def __str__(self):
        return f"U({self.low:g}, {self.high:g}){_power(self.size)}"


@dataclass(frozen=True)
class Normal(Distribution):
    """A normal number of this mean and standard deviation, or a tuple of `size` of them."""

    mean: float = 0.0
    std: float = 1.0
    size: int | None = None

    def __post_init__(self):
        _check_numbers(self, "mean", "std")
        if self.std < 0:
            raise UserError(f"Normal: std is {self.std:g}; it must be 0 or more")
        _check_size(self)

    def __str__(self):
        return f"N({self.mean:g}, {self.std:g}){_power(self.size)}"


@dataclass(frozen=True)
class LogNormal(Distribution):
    """median · exp(N(0, std)): a positive number."""

    median: float
    std: float

    def __post_init__(self):
        _check_numbers(self, "median", "std")
        if self.median <= 0 or self.std < 0:
            raise UserError(f"{self!r}: median must be positive, std 0 or more")

    def __str__(self):
        return f"{self.median:g} exp(N(0, {self.std:g}))"


@dataclass(frozen=True)
class Choice(Distribution):
    """One of several values, equally likely or by weights."""

    values: tuple[Any, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self):
        self.__dict__["values"] = tuple(map(plain, _several(self, self.values)))
        _check_weights(self, self.values)

    def __str__(self):
        return _alternatives(self.values, self.weights)


@dataclass(frozen=True)
class Mixture(Distribution):
    """A draw of one of several distributions, equally likely or by weights."""

    components: tuple[Distribution, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self):
        self.__dict__["components"] = tuple(map(declared, _several(self, self.components)))
        _check_weights(self, self.components)

    def __str__(self):
        return _alternatives(self.components, self.weights)


@dataclass(frozen=True)
class Joint(Distribution):
    """Several named attributes, drawn together and in this order; a draw is a dict. Takes a mapping."""

    attributes: tuple[tuple[str, Distribution], ...]

    def __post_init__(self):
        pairs = self.attributes.items() if isinstance(self.attributes, Mapping) else self.attributes
        pairs = [tuple(_several(self, pair)) for pair in _several(self, pairs)]
        if any(len(pair) != 2 for pair in pairs):
            raise UserError(f"Joint of {self.attributes!r}; give a dict of attributes")
        self.__dict__["attributes"] = tuple((str(name), declared(value)) for name, value in pairs)

    def __str__(self):
        return "(" + ", ".join(f"{name} {value}" for name, value in self.attributes) + ")"


@dataclass(frozen=True)
class Function(Distribution):
    """Any function of the generator: it draws, but only its name can be told.

    Two are equal if they hold the same function. One that was read from a file has none, and cannot be drawn.
    """

    function: Callable[[np.random.Generator], Any] | None
    name: str = ""

    def __post_init__(self):
        named = getattr(self.function, "func", self.function)  # of functools.partial
        self.__dict__["name"] = self.name or getattr(named, "__qualname__", type(named).__qualname__)

    def __str__(self):
        return f"function {self.name}"


@dataclass(frozen=True)
class AnySymbol(Distribution):
    """One of the symbols of the alphabet at hand, equally likely."""

    def __str__(self):
        return "any symbol of the alphabet"


@dataclass(frozen=True)
class AnyFont(Distribution):
    """One of the fonts of the alphabet at hand, equally likely."""

    def __str__(self):
        return "any font of the alphabet"


def declared(value: Any) -> Distribution:
    """Returns a distribution: itself, a Function of a function, or a Constant of anything else."""
    if isinstance(value, Distribution):
        return value
    return Function(value) if callable(value) else Constant(plain(value))


def plain(value: Any) -> Any:
    """Returns NumPy's numbers, arrays and lists as numbers and tuples, which can be compared and hashed."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def resolved(distribution: Distribution, alphabet: Any) -> Distribution:
    """Returns the distribution with an alphabet's symbols and fonts in place of AnySymbol and AnyFont."""
    match distribution:
        case AnySymbol():
            return Choice(alphabet.symbols)
        case AnyFont():
            return Choice(alphabet.fonts)
        case Mixture(components, weights):
            return Mixture(tuple(resolved(c, alphabet) for c in components), weights)
        case Joint(attributes):
            return Joint({name: resolved(value, alphabet) for name, value in attributes})
    return distribution


def walk(distribution: Distribution) -> Iterator[Distribution]:
    """Yields a distribution and those that it is made of."""
    yield distribution
    match distribution:
        case Mixture(components, _):
            parts = components
        case Joint(attributes):
            parts = [value for _, value in attributes]
        case _:
            parts = ()
    for part in parts:
        yield from walk(part)


def shown(value: Any) -> str:
    """Returns a value as a reader wants it: numbers short, a font by its name, a pattern without what is usual."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    if isinstance(value, Distribution) or not is_dataclass(value):
        return str(value)
    if hasattr(value, "name"):
        sizes = [f"{len(getattr(value, k))} {k}" for k in ("fonts", "symbols") if hasattr(value, k)]
        return f"{value.name} ({', '.join(sizes)})" if sizes else value.name
    held = [(f, plain(getattr(value, f.name))) for f in fields(value)]
    unusual = {f.name: v for f, v in held if v != f.default}
    return f"{type(value).__name__}({', '.join(f'{k}={shown(v)}' for k, v in unusual.items())})"


def _alternatives(values: Sequence[Any], weights: Sequence[float] | None) -> str:
    are_whole = weights is None and len(values) > 2 and all(type(v) is int for v in values)
    if are_whole and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} … {values[-1]}"
    texts = list(map(shown, values))
    if weights is not None:
        total = sum(weights)
        texts = [f"{text} ({100 * w / total:.3g} %)" for text, w in zip(texts, weights)]
    if len(texts) > _MOST_SHOWN:
        texts = [*texts[: _MOST_SHOWN - 1], f"… {len(texts)} in all"]
    return " or ".join(texts) if len(texts) < 4 else "one of " + ", ".join(texts)


def _power(size: int | None) -> str:
    return "" if size is None else "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] for d in str(size))


def _check_numbers(distribution: Distribution, *names: str) -> None:
    for name in names:
        try:
            value = float(getattr(distribution, name))
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            kind = type(distribution).__name__
            raise UserError(f"{kind}: {name} is {getattr(distribution, name)!r}; it must be a finite number")
        distribution.__dict__[name] = value


def _check_size(distribution: Any) -> None:
    size = distribution.size
    if size is not None:
        if isinstance(size, bool) or not (isinstance(size, int | np.integer) and size >= 1):
            raise UserError(f"{type(distribution).__name__}: size is {size!r}; it must be a whole number of 1 or more")
        distribution.__dict__["size"] = int(size)


def _several(distribution: Distribution, values: Any) -> Iterable[Any]:
    try:
        return list(values)
    except TypeError as error:
        kind = type(distribution).__name__
        what = "a dict of attributes" if kind == "Joint" else "a tuple of what can be drawn"
        raise UserError(f"{kind} of {values!r}; give {what}") from error


def _check_weights(distribution: Any, values: Sequence[Any]) -> None:
    kind, weights = type(distribution).__name__, distribution.weights
    if not values:
        raise UserError(f"{kind} of nothing; give it one value or more")
    if weights is None:
        return
    try:
        weights = tuple(map(float, weights))
        good = len(weights) == len(values) and min(weights) >= 0 and 0 < sum(weights) < math.inf
    except (TypeError, ValueError):
        good = False
    if not good:
        raise UserError(
            f"{kind}: weights are {distribution.weights!r}; they must be {len(values)} numbers of 0 or more"
        )
    distribution.__dict__["weights"] = weights


def integers(low: int, high: int) -> Choice:
    """Returns a uniform whole number, both ends included."""
    return Choice(tuple(range(low, high + 1)))


COIN = Choice((True, False))
