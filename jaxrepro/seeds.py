"""The seed axis: every array of a run's state has a leading axis [S], one entry per seed of `config.seeds`.

states = over_seeds(init, SeedMode.UNROLL)(keys)      # keys [S] -> states [S, ...]
select(states, 1)                                     # the state of the second seed
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrepro.config import SeedMode


def select(tree: Any, i: int) -> Any:
    """Returns entry `i` of the leading axis of every leaf."""
    return jax.tree.map(lambda a: a[i], tree)


def stack(trees: Sequence[Any]) -> Any:
    """Returns trees stacked along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def choose_mode(mode: SeedMode, num_seeds: int, num_devices: int, backend: str) -> SeedMode:
    """Returns how several seeds become one program.

    Sharding seeds over devices needs no communication, so it comes first where the numbers allow it. On one CPU
    unrolling is chosen: vmap turns convolutions into grouped ones, which XLA's CPU backend runs several times slower
    (`benchmarks/loop.py` measures it). On one accelerator vmap fills the device: three seeds of a small perceptron take
    0.43 times as long as three runs on an H200, unrolled 1.02 times. Of convolutions that was not measured.
    """
    if mode != SeedMode.AUTO:
        return mode
    if num_seeds > 1 and num_devices > 1 and num_seeds % num_devices == 0:
        return SeedMode.SHARD
    return SeedMode.UNROLL if backend == "cpu" or num_seeds == 1 else SeedMode.VMAP


def over_seeds(fn: Callable, mode: SeedMode, in_axes: Sequence[int | None] | None = None) -> Callable:
    """Returns `fn` applied along the leading axis of its arguments, as the mode says.

    Args:
      fn: a function of one seed's arguments.
      mode: UNROLL, VMAP or SHARD.
      in_axes: 0 for arguments with a seed axis, None for shared ones; all 0 by default.
    """

    def axes_of(args):
        return in_axes if in_axes is not None else (0,) * len(args)

    def unrolled(*args):
        axes = axes_of(args)
        mapped = next(a for a, axis in zip(args, axes, strict=True) if axis == 0)
        num_seeds = jax.tree.leaves(mapped)[0].shape[0]
        return stack(
            [
                fn(*(a if axis is None else select(a, i) for a, axis in zip(args, axes, strict=True)))
                for i in range(num_seeds)
            ]
        )

    def mapped(*args):
        spmd = "seed" if mode == SeedMode.SHARD else None
        return jax.vmap(fn, in_axes=axes_of(args), spmd_axis_name=spmd)(*args)

    return unrolled if mode == SeedMode.UNROLL else mapped
