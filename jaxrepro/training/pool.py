"""A pool of images of which some are labelled; a value in the state of an experiment.

pool = start_pool(key, num_rows=70_000, num_labelled=2_000)
rows = pool.order[positions]                        # positions below pool.num_labelled
pool = label_highest(pool, scores, 100)
"""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Pool:
    """Attributes:
    order: int32 [N], all rows, the labelled ones first and in the order of their labelling.
    labelled: bool [N], by row.
    num_labelled: int32 scalar.
    """

    order: jax.Array
    labelled: jax.Array
    num_labelled: jax.Array


def start_pool(key: jax.Array, num_rows: int, num_labelled: int) -> Pool:
    """Returns a pool with so many rows labelled, drawn uniformly."""
    order = jax.random.permutation(key, num_rows).astype(jnp.int32)
    labelled = jnp.zeros(num_rows, bool).at[order[:num_labelled]].set(True)
    return Pool(order, labelled, jnp.int32(num_labelled))


def label_highest(pool: Pool, scores: jax.Array, num_queries: int) -> Pool:
    """Returns the pool with the unlabelled rows of the highest scores labelled; of equals the lowest row numbers.

    There must be so many rows left: the caller knows the sizes, a compiled function cannot complain.

    Args:
      scores: float [N], finite; those of labelled rows do not matter.
    """
    _, chosen = jax.lax.top_k(jnp.where(pool.labelled, -jnp.inf, scores), num_queries)
    order = jax.lax.dynamic_update_slice(pool.order, chosen.astype(jnp.int32), (pool.num_labelled,))
    labelled = pool.labelled.at[chosen].set(True)
    num_labelled = pool.num_labelled + num_queries
    # What is left follows in the order of its row numbers, so that `order` stays a permutation.
    left = jnp.sort(jnp.where(labelled, len(order), jnp.arange(len(order))))
    places = jnp.arange(len(order))
    rest = jnp.roll(left, num_labelled)
    return Pool(jnp.where(places < num_labelled, order, rest).astype(jnp.int32), labelled, num_labelled)
