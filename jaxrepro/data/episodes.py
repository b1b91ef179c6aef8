"""Few-shot episodes, drawn on the device from tables of the members of each class.

    tables = class_tables(images, labels, names, "font", shape)      # "train", "valid", "test": disjoint classes
    arrays = tables["train"].arrays                                  # to the device
    sampler = start(len(arrays["counts"]), key)
    sampler, episode = draw(sampler, arrays, shape, key)            # shape = EpisodeShape(ways=5, shots=5, queries=15)
    arrays["image"][episode.rows]                                    # [5, 20, H, W, C]; the first five are the support

Within an episode no image comes twice; and none comes again in later episodes until a drawn class has too few left.
Then the images of all classes are shuffled anew. An order is never stored: it is drawn again from the sampler's key.

Source: Synbols (Lacoste et al., 2020), appendix, and the released code of the benchmark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.errors import UserError, check
from jaxrepro.synbols.splits import PARTS, RATIOS, SEED, stratified_split


@dataclass(frozen=True)
class EpisodeShape:
    """ways: classes; shots: labelled images of each (support); queries: images of each to be recognised."""

    ways: int = 5
    shots: int = 5
    queries: int = 15

    def __post_init__(self):
        check(self.ways >= 2, f"ways is {self.ways}; it must be 2 or more")
        for name in ("shots", "queries"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be 1 or more")

    @property
    def per_class(self) -> int:
        return self.shots + self.queries

    @property
    def num_images(self) -> int:
        return self.ways * self.per_class


@dataclass(frozen=True)
class ClassTable:
    """The images of some classes.

    Attributes:
      arrays: "image" uint8 [N, H, W, C]; "members" int32 [K, M], rows of the images of each class, of which only the
        first "counts" int32 [K] are meant.
      names: of the K classes.
      rows: int [N], where the images stood in the data they were taken from.
    """

    arrays: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    rows: np.ndarray


class Sampler(NamedTuple):
    """used: int32 [K], images of each class drawn since the last shuffle. order: uint32, key data of that shuffle."""

    used: jax.Array
    order: jax.Array


class Episode(NamedTuple):
    """classes: int32 [ways]. rows: int32 [ways, shots + queries], the support in front."""

    classes: jax.Array
    rows: jax.Array


def class_tables(
    images: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    attribute: str,
    shape: EpisodeShape,
    shares: Sequence[float] = RATIOS,
    seed: int = SEED,
) -> dict[str, ClassTable]:
    """Returns "train", "valid", "test" -> images of classes that no other part has.

    Args:
      images: uint8 [N, H, W, C].
      labels: int [N], numbers into `names`.
      names: of all classes.
      attribute: what the classes are, for messages.
      shape: of the episodes; classes with fewer images than one needs are dropped after the split.
      shares: of the classes that are present; rounded, the residue in train.
      seed: of the split alone.

    Raises:
      UserError: a part has fewer classes than an episode.
    """
    member = stratified_split(labels, attribute, shares, seed).member
    tables = {}
    for i, part in enumerate(PARTS):
        rows = np.flatnonzero(member[:, i])
        classes, counts = np.unique(labels[rows], return_counts=True)
        kept = classes[counts >= shape.per_class]
        if len(kept) < shape.ways:
            raise UserError(
                f"{attribute}: {part} has {len(classes)} classes, {len(kept)} of them with the {shape.per_class} images"
                f" that {shape.shots} shots and {shape.queries} queries need; {shape.ways} ways need as many classes:"
                " take more images or fonts (pip install -e .[fonts]), or fewer ways, shots or queries"
            )
        rows = rows[np.isin(labels[rows], kept)]
        number = np.searchsorted(kept, labels[rows]).astype(np.int32)
        arrays = {"image": images[rows]} | _members(number, len(kept))
        tables[part] = ClassTable(arrays, tuple(names[c] for c in kept), rows)
    return tables


def _members(number: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    counts = np.bincount(number, minlength=num_classes).astype(np.int32)
    members = np.zeros((num_classes, counts.max()), np.int32)
    order = np.argsort(number, kind="stable")
    for c, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        members[c, : len(rows)] = rows
    return {"members": members, "counts": counts}


def start(num_classes: int, key: jax.Array) -> Sampler:
    """Returns the sampler before the first episode."""
    return Sampler(jnp.zeros(num_classes, jnp.int32), jax.random.key_data(key))


def draw(sampler: Sampler, arrays: Mapping[str, Any], shape: EpisodeShape, key: jax.Array) -> tuple[Sampler, Episode]:
    """Returns (sampler, episode): classes uniform without replacement, their images as the module's text says.

    Args:
      arrays: "members" int32 [K, M] and "counts" int32 [K], at least `shape.ways` classes of `shape.per_class` images.
      key: of this episode.
    """
    counts, members = jnp.asarray(arrays["counts"]), jnp.asarray(arrays["members"])
    class_key, shuffle_key = jax.random.split(key)
    classes = jax.random.permutation(class_key, len(counts))[: shape.ways].astype(jnp.int32)
    exhausted = jnp.any(counts[classes] - sampler.used[classes] < shape.per_class)
    used = jnp.where(exhausted, 0, sampler.used)
    order = jnp.where(exhausted, jax.random.key_data(shuffle_key), sampler.order)

    def next_rows(c):
        place = jax.random.uniform(jax.random.fold_in(jax.random.wrap_key_data(order), c), members.shape[1:])
        shuffled = jnp.argsort(jnp.where(jnp.arange(members.shape[1]) < counts[c], place, jnp.inf))
        return members[c][jax.lax.dynamic_slice_in_dim(shuffled, used[c], shape.per_class)]

    rows = jax.vmap(next_rows)(classes)
    return Sampler(used.at[classes].add(shape.per_class), order), Episode(classes, rows)


def draw_many(
    sampler: Sampler, arrays: Mapping[str, Any], shape: EpisodeShape, keys: jax.Array
) -> tuple[Sampler, Episode]:
    """Returns (sampler, episodes): one after the other, an episode per key [E]; leaves have a leading axis [E]."""
    return jax.lax.scan(lambda sampler, key: draw(sampler, arrays, shape, key), sampler, keys)
