"""Means over a whole dataset: one scan over padded batches, every example counted once.

terms = dataset_means(lambda batch, key: {"kl": kl(batch, key)}, images, batch_size=256, key=key)
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrepro import mesh as mesh_lib
from jaxrepro.data import padded_batches
from jaxrepro.metrics import Mean, compute, merge


def dataset_means(
    fn: Callable[[Any, jax.Array], Mapping[str, jax.Array]], arrays: Any, batch_size: int, key: jax.Array
) -> dict[str, jax.Array]:
    """Returns name -> mean over all rows, for use inside jit.

    Args:
      fn: `(batch [B, ...], key) -> {name: float [B]}`; batch i gets `fold_in(key, i)`.
      arrays: pytree of arrays [N, ...].
      batch_size: B; the last batch is padded and the padding masked.
    """
    num_rows = len(jax.tree.leaves(arrays)[0])
    rows, mask = padded_batches(num_rows, min(batch_size, num_rows))

    def one(i, rows, mask):
        batch = mesh_lib.shard_batch(jax.tree.map(lambda a: a[rows], arrays))
        return {k: Mean.of(v, mask) for k, v in fn(batch, jax.random.fold_in(key, i)).items()}

    def body(total, batch):
        return merge(total, one(*batch)), None

    batches = (jnp.arange(len(rows)), jnp.asarray(rows), jnp.asarray(mask))
    shapes = jax.eval_shape(one, *jax.tree.map(lambda a: a[0], batches))
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return compute(jax.lax.scan(body, zero, batches)[0])
