"""A function of images, a few images at a time: intermediate results then stay in the cache.

    y = map_images(function, count, x)            # [B, ...] to [B, ...]
    total = sum_over_images(function, count, x)   # a sum over images of anything
    y, total = map_and_sum(function, count, x)    # both at once

A batch that is sharded over devices stays so: every chunk takes its images from all of them.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

# What one chunk may take, see `count_for`. Tried once with 1..16 MiB on the 3×3 and 7×7 shapes of benchmarks/conv.py
# (2 idle cores, 32 MiB of shared cache): up to 3 times faster than all images at once.
CHUNK_BYTES = 8 << 20


def count_for(batch: int, bytes_per_image: int, at_least: int = 0) -> int:
    """Returns into how many equal chunks a batch is split so that each takes about CHUNK_BYTES, or `at_least`."""
    num_devices = jax.device_count()
    per_device = max(batch // math.gcd(batch, num_devices), 1)
    wanted = min(-(-batch * bytes_per_image // (max(CHUNK_BYTES, at_least) * num_devices)), per_device)
    return next(n for n in range(max(wanted, 1), per_device + 1) if per_device % n == 0)


def map_images(function: Callable[..., jax.Array], count: int, *arrays: jax.Array) -> jax.Array:
    """Returns function(*arrays), whose rows depend on the same rows of the arrays only."""
    return map_and_sum(lambda *chunks: (function(*chunks), ()), count, *arrays)[0]


def sum_over_images(function: Callable[..., jax.Array], count: int, *arrays: jax.Array) -> jax.Array:
    """Returns function(*arrays), which is a sum over the rows of the arrays."""
    return map_and_sum(lambda *chunks: ((), function(*chunks)), count, *arrays)[1]


def map_and_sum(function: Callable[..., tuple], count: int, *arrays: jax.Array) -> tuple:
    """Returns function(*arrays): first what has one row per image, then what is a sum over images."""
    if count == 1:
        return function(*arrays)
    # [B, ...] to [B / count, count, ...], so that the first axis keeps its sharding.
    arrays = [a.reshape(-1, count, *a.shape[1:]) for a in arrays]

    def chunk(i):
        return function(*(lax.dynamic_index_in_dim(a, i, axis=1, keepdims=False) for a in arrays))

    def body(i, done):
        mapped, total = chunk(i)
        placed = jax.tree.map(lambda y, new: lax.dynamic_update_index_in_dim(y, new, i, axis=1), done[0], mapped)
        return placed, jax.tree.map(jnp.add, done[1], total)

    mapped, total = jax.eval_shape(chunk, 0)
    empty = jax.tree.map(lambda y: jnp.zeros((y.shape[0], count, *y.shape[1:]), y.dtype), mapped)
    zeros = jax.tree.map(lambda t: jnp.zeros(t.shape, t.dtype), total)
    mapped, total = lax.fori_loop(0, count, body, (empty, zeros))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), mapped), total
