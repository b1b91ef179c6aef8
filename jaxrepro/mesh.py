"""The device mesh and where every array lives on it: one file for all of sharding.

Axes: `seed` (independent runs), `data` (the batch is split over it), `model` (parameters, by an experiment's rules).
Everything is `jit` with shardings, so the same program runs on one device, several, or several processes.

    mesh = make_mesh(num_seeds=1, mode=SeedMode.UNROLL, model_axis=1)
    arrays = put(arrays, mesh)                            # replicated
    block = put(block, mesh, P("seed", None, "data"))     # split
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrepro.config import SeedMode
from jaxrepro.errors import UserError


def make_mesh(num_seeds: int, mode: SeedMode, model_axis: int = 1) -> Mesh:
    """Returns the mesh over all devices of all processes.

    Raises:
      UserError: the devices cannot be divided as asked.
    """
    n = jax.device_count()
    seed_axis = int(np.gcd(num_seeds, n)) if mode == SeedMode.SHARD else 1
    if n % (seed_axis * model_axis):
        raise UserError(f"config.parallel.model_axis is {model_axis}; it must divide the {n // seed_axis} devices")
    shape = (seed_axis, n // (seed_axis * model_axis), model_axis)
    return jax.make_mesh(shape, ("seed", "data", "model"), axis_types=(AxisType.Auto,) * 3)


def batch_warning(batch_size: int, mesh: Mesh) -> str:
    """Returns one line about a batch that the mesh's data axis cannot split, or "": every device computes it whole."""
    n = mesh.shape["data"]
    if batch_size % n == 0:
        return ""
    better = max(n, round(batch_size / n) * n)
    return (
        f"config.train.batch_size is {batch_size}, which {n} devices cannot share: each computes the whole batch, no"
        f" faster than one of them; a multiple of {n}, such as {better}, would be split"
    )


def leaf_path(path: Sequence[Any]) -> str:
    """Returns a leaf's path as "params/encoder/kernel"."""
    return "/".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path)


def state_shardings(state: Any, rules: Sequence[tuple[str, tuple]], mesh: Mesh) -> Any:
    """Returns the sharding of every leaf [S, ...] of a state: split over `seed`, then by the first rule that matches.

    Raises:
      UserError: a rule has too many axes, names one that the mesh lacks, or splits a dimension unevenly.
    """

    def sharding(path, leaf):
        name = leaf_path(path)
        spec = next((s for pattern, s in rules if re.fullmatch(pattern, name)), ())
        fits = len(spec) < len(leaf.shape) and all(
            axis is None or (axis in mesh.shape and size % mesh.shape[axis] == 0)
            for size, axis in zip(leaf.shape[1:], spec)
        )
        if not fits:
            raise UserError(f"sharding rule {spec} does not fit {name} {leaf.shape[1:]} on mesh {dict(mesh.shape)}")
        return NamedSharding(mesh, P("seed", *spec))

    return jax.tree_util.tree_map_with_path(sharding, state)


def put(tree: Any, mesh: Mesh, spec: P = P()) -> Any:
    """Returns NumPy arrays (the same on every process) as global device arrays; each process uploads only its part."""
    sharding = NamedSharding(mesh, spec)

    def upload(a):
        a = np.asarray(a)
        return jax.make_array_from_callback(a.shape, sharding, lambda index: a[index])

    return jax.tree.map(upload, tree)


def shard_batch(tree: Any) -> Any:
    """Constrains arrays [B, ...] to be split over `data`, where a mesh is active and B divides; for use inside jit."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or "data" not in mesh.shape:
        return tree
    n = mesh.shape["data"]
    return jax.tree.map(lambda a: a if a.shape[0] % n else jax.lax.with_sharding_constraint(a, P("data")), tree)


def to_host(tree: Any) -> Any:
    """Returns device arrays as NumPy arrays, gathered from all processes where they are split."""

    def fetch(a):
        if not isinstance(a, jax.Array) or a.is_fully_addressable or a.is_fully_replicated:
            return np.asarray(jax.device_get(a))
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(a, tiled=True))

    return jax.tree.map(fetch, tree)
