"""A function of a batch over a whole dataset, a batch at a time, inside jit.

probabilities = map_batches(predict, images, batch_size=256)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrepro.data import padded_batches


def map_batches(fn: Callable[[Any], Any], arrays: Any, batch_size: int) -> Any:
    """Returns fn over all rows: a pytree of arrays [N, ...].

    Args:
      fn: maps arrays [B, ...] to a pytree of arrays [B, ...], row by row.
      arrays: pytree of arrays [N, ...].
      batch_size: B, at most N; the last batch is filled up and the filling cut off again.
    """
    arrays = jax.tree.map(jnp.asarray, arrays)
    num_rows = len(jax.tree.leaves(arrays)[0])
    rows, _ = padded_batches(num_rows, min(batch_size, num_rows))
    found = jax.lax.map(lambda r: fn(jax.tree.map(lambda a: a[r], arrays)), jnp.asarray(rows))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num_rows], found)
