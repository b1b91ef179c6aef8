"""A function of images, a few images at a time: intermediate results then stay in the cache.

    y = map_images(function, split, x)            # [B, ...] to [B, ...]
    total = sum_over_images(function, split, x)   # a sum over images of anything
    y, total = map_and_sum(function, split, x)    # both at once

A batch that is sharded over devices stays so: every chunk takes its images from all of them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Up to so many chunks are computed at a time, not in a loop: one core copies for the next product while another
# multiplies, and where these are all, no result has to be filled with zeros before. By trial on two cores, as the sizes
# of chunks; `benchmarks/training.py` and `benchmarks/conv.py` show what other values do.
MOST_TOGETHER = 2


class Split(NamedTuple):
    """How a batch is split.

    Attributes:
      count: of the chunks, equal ones.
      together: that many are computed at a time; divides `count`.
    """

    count: int
    together: int = 1


def split_for(batch: int, bytes_per_image: int, chunk_bytes: int) -> Split:
    """Returns equal chunks of at most `chunk_bytes`, or of one image, on each device.

    Chunks are smaller where the batch has no better divisor: those of a prime number of images have one. Chunks that
    are computed together take at most MOST_TOGETHER times `chunk_bytes`. All devices are taken to share the batch.
    """
    num_devices = jax.device_count()
    per_device = max(batch // math.gcd(batch, num_devices), 1)
    wanted = min(-(-batch * bytes_per_image // (chunk_bytes * num_devices)), per_device)
    count = next(n for n in range(max(wanted, 1), per_device + 1) if per_device % n == 0)
    room = MOST_TOGETHER * chunk_bytes * num_devices // max(batch * bytes_per_image // count, 1)
    return Split(count, max(n for n in range(1, MOST_TOGETHER + 1) if count % n == 0 and (n == 1 or n <= room)))


def bytes_at_a_time(split: Split, batch: int, bytes_per_image: int) -> int:
    """Returns what the chunks that are computed together take."""
    return batch * bytes_per_image * split.together // split.count


def map_images(function: Callable[..., jax.Array], split: Split, *arrays: jax.Array) -> jax.Array:
    """Returns function(*arrays), which has the rows of the arrays, each depending on the same row of them only."""
    return map_and_sum(lambda *chunks: (function(*chunks), ()), split, *arrays)[0]


def sum_over_images(function: Callable[..., jax.Array], split: Split, *arrays: jax.Array) -> jax.Array:
    """Returns function(*arrays), which is a sum over the rows of the arrays."""
    return map_and_sum(lambda *chunks: ((), function(*chunks)), split, *arrays)[1]


def map_and_sum(function: Callable[..., tuple], split: Split, *arrays: jax.Array) -> tuple:
    """Returns function(*arrays): first what has one row per image, then what is a sum over images."""
    count, together = split
    if count == 1:
        return function(*arrays)
    # [B, ...] to [B / count, count, ...], so that the first axis keeps its sharding.
    arrays = [a.reshape(a.shape[0] // count, count, *a.shape[1:]) for a in arrays]

    def chunks_from(first):
        """What some chunks map to, [B / count, together, ...], and their sum."""
        taken = ([lax.dynamic_index_in_dim(a, first + i, 1, keepdims=False) for a in arrays] for i in range(together))
        mapped, totals = zip(*(function(*chunk) for chunk in taken))
        return (
            jax.tree.map(lambda *ys: jnp.stack(ys, 1), *mapped),
            jax.tree.map(lambda *ts: sum(ts[1:], ts[0]), *totals),
        )

    def body(i, done):
        mapped, total = chunks_from(i * together)
        placed = jax.tree.map(lambda y, new: lax.dynamic_update_slice_in_dim(y, new, i * together, 1), done[0], mapped)
        return placed, jax.tree.map(jnp.add, done[1], total)

    if together == count:
        mapped, total = chunks_from(0)
    else:
        mapped, total = jax.eval_shape(chunks_from, 0)
        empty = jax.tree.map(lambda y: _zeros(y, (y.shape[0], count, *y.shape[2:])), mapped)
        zeros = jax.tree.map(lambda t: _zeros(t, t.shape), total)
        mapped, total = lax.fori_loop(0, count // together, body, (empty, zeros))
    return jax.tree.map(lambda y: y.reshape(y.shape[0] * count, *y.shape[2:]), mapped), total


def _zeros(like: jax.ShapeDtypeStruct, shape: tuple[int, ...]) -> jax.Array:
    """Returns zeros that vary over a `jax.shard_map`'s axes as `like` does, which a loop asks of what it carries."""
    axes = tuple(like.manual_axis_type.varying) if like.manual_axis_type else ()
    zeros = jnp.zeros(shape, like.dtype)
    return lax.pcast(zeros, axes, to="varying") if axes else zeros
