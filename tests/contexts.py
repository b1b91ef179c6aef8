"""Contexts as the loop gives them."""

import jax
import jax.numpy as jnp

from jaxrepro.experiment import Context

KEY = jax.random.key(0)
# For initial values: draws of this generator compile in a fraction of the time, which is most of a small network's.
INIT_KEY = jax.random.key(0, impl="rbg")


def at(step: int = 0, key: jax.Array = KEY, seed_index: int = 0) -> Context:
    """Returns the context of an update or a transition."""
    return Context(jnp.int32(step), jnp.int32(seed_index), key)


def at_end(step: int = 1, key: jax.Array = KEY) -> Context:
    """Returns the context of an evaluator, for the first seed."""
    return Context(step, 0, key)
