"""Draws from the distributions that `jaxrepro.synbols` declares, on the device.

    draw(LogNormal(0.6, 0.2), key, (1024,))                              # float32 [1024]
    draw(Uniform(-0.9, 0.9, size=2), key, (1024,))                       # float32 [1024, 2]
    draw(Mixture(("a", Choice("abc")), (0.7, 0.3)), key, (1024,), classes="abc")      # int32 [1024]: places in classes

The generator itself draws with NumPy (`jaxrepro.synbols.draws`) and needs no JAX. Both follow the same distributions;
their random numbers differ.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrepro.errors import UserError
from jaxrepro.synbols.distributions import Choice, Constant, Distribution, Joint, LogNormal, Mixture, Normal, Uniform

Shape = tuple[int, ...]


def draw(distribution: Distribution, key: jax.Array, shape: Shape = (), classes: Sequence[Any] = ()) -> Any:
    """Returns independent draws of a distribution.

    Args:
      shape: of the draws.
      classes: what values that are no numbers are counted in, such as an alphabet's symbols or fonts.

    Returns:
      An array `shape`, with one more axis where a draw is a tuple; float32, bool for flags, int32 for whole numbers
      and for places in `classes`. Of a Joint, a dict of such arrays.

    Raises:
      UserError: a function, or a value that is no number and not among `classes`.
    """
    return _drawn(distribution, key, shape, {value: i for i, value in enumerate(classes)})


@functools.singledispatch
def _drawn(distribution: Distribution, key: jax.Array, shape: Shape, places: dict[Any, int]) -> Any:
    raise UserError(f"{distribution} cannot be drawn on a device; declare it as a distribution of jaxrepro.synbols")


@_drawn.register
def _(distribution: Constant, key, shape, places):
    value = jnp.asarray(_number(distribution.value, places))
    return jnp.broadcast_to(value, shape + value.shape)


@_drawn.register
def _(distribution: Uniform, key, shape, places):
    unit = jax.random.uniform(key, shape + _own_shape(distribution.size))
    return distribution.low + (distribution.high - distribution.low) * unit


@_drawn.register
def _(distribution: Normal, key, shape, places):
    return distribution.mean + distribution.std * jax.random.normal(key, shape + _own_shape(distribution.size))


@_drawn.register
def _(distribution: LogNormal, key, shape, places):
    return distribution.median * jnp.exp(distribution.std * jax.random.normal(key, shape))


@_drawn.register
def _(distribution: Choice, key, shape, places):
    values = jnp.asarray([_number(value, places) for value in distribution.values])
    return values[_which(key, shape, len(distribution.values), distribution.weights)]


@_drawn.register
def _(distribution: Mixture, key, shape, places):
    which_key, *keys = jax.random.split(key, len(distribution.components) + 1)
    which = _which(which_key, shape, len(keys), distribution.weights)
    drawn = [_drawn(c, k, shape, places) for c, k in zip(distribution.components, keys)]
    structures = {jax.tree.structure(d) for d in drawn}
    if len(structures) > 1:
        raise UserError(f"the parts of {distribution} name different attributes; a device needs the same from each")
    return jax.tree.map(lambda *parts: _selected(which, parts), *drawn)


@_drawn.register
def _(distribution: Joint, key, shape, places):
    keys = jax.random.split(key, len(distribution.attributes))
    return {name: _drawn(value, k, shape, places) for (name, value), k in zip(distribution.attributes, keys)}


def _which(key: jax.Array, shape: Shape, count: int, weights: Sequence[float] | None) -> jax.Array:
    if weights is None:
        return jax.random.randint(key, shape, 0, count)
    return jax.random.categorical(key, jnp.log(jnp.asarray(weights)), shape=shape)


def _selected(which: jax.Array, parts: Sequence[jax.Array]) -> jax.Array:
    """Returns parts[which] element by element; where a draw is a tuple, a single number stands for each of it."""
    most = max(part.ndim for part in parts)
    parts = [part[..., None] if part.ndim < most else part for part in parts]
    parts = jnp.broadcast_arrays(*parts)
    return jnp.choose(which if most == which.ndim else which[..., None], parts, mode="clip")


def _number(value: Any, places: dict[Any, int]) -> Any:
    if isinstance(value, tuple) and value not in places:
        return [_number(v, places) for v in value]
    if isinstance(value, bool | int | float):
        return value
    if value not in places:
        raise UserError(f"{value!r} is no number, and none of the {len(places)} classes given")
    return places[value]


def _own_shape(size: int | None) -> Shape:
    return () if size is None else (size,)
