"""MNIST-scale: digits that are shrunk by a random factor, in several fixed realisations.

    splits = realisation("tfds:mnist", seed=0)      # {"train": 10,000 rows, "valid": 2,000, "test": 50,000}

All splits of the source are one pool. A realisation draws its splits from the pool, with the classes in the pool's
proportions, and zooms every image once, by a factor uniform in [0.3, 1]. It is a function of the source and the seed,
made once and cached. Ours cannot be equal to that of the paper, which came from a library's random numbers of 2020.

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), section 6.1, and the released code.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxrepro.data.batches import epochs_of_whole_batches
from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Table, table_from_arrays
from jaxrepro.data.layout import check_classes
from jaxrepro.data.sources import load_dataset
from jaxrepro.data.zoom import zoom_images
from jaxrepro.errors import UserError, check
from jaxrepro.experiment import Source
from jaxrepro.rng import Purpose, generator

MEAN, STD = 0.0607, 0.2161  # of MNIST-scale's pixels in [0, 1], from the released code
NUM_CLASSES = 10
_VERSION = 1  # of the splits and the zoom
_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class RealisationConfig:
    """How `config.data.source` becomes MNIST-scale. It always stays on the device.

    Attributes:
      num_train, num_valid, num_test: images; a smaller source gives fewer to test.
      test_source: another source of digits for the test set; "" = the same.
      min_scale, max_scale: the zoom of every image is uniform between them.
    """

    num_train: int = 10_000
    num_valid: int = 2_000
    num_test: int = 50_000
    test_source: str = ""
    min_scale: float = 0.3
    max_scale: float = 1.0

    def __post_init__(self):
        for name in ("num_train", "num_valid", "num_test"):
            check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be positive")
        low, high = self.min_scale, self.max_scale
        check(0 < low <= high, f"min_scale is {low} and max_scale {high}; it must be 0 < min_scale <= max_scale")


@dataclass(frozen=True)
class Sizes:
    """Rows of a realisation. A test set that the pool cannot fill takes what is left."""

    train: int = 10_000
    valid: int = 2_000
    test: int = 50_000


def realisation(
    source: str,
    seed: int,
    sizes: Sizes = Sizes(),
    *,
    test_source: str = "",
    scale: tuple[float, float] = (0.3, 1.0),
    smoke_command: str | None = None,
) -> dict[str, Table]:
    """Returns "train", "valid" and "test" of one realisation: image uint8 [N, 28, 28, 1], label int32 [N].

    Args:
      source: of the digits, for `load_dataset`.
      seed: number of the realisation; the paper has 0 to 5.
      sizes: rows of the splits.
      test_source: another source for the test set, all of which must be other digits; "" takes it from the pool.
      scale: the factors are uniform between these, above 1 enlarges.
      smoke_command: see `load_dataset`.

    Raises:
      UserError: the pool is too small, or holds no 28×28 grey images with labels.
    """
    pool = read_pool(source, smoke_command)
    test_pool = read_pool(test_source, smoke_command) if test_source else None
    wanted = sizes.train + sizes.valid
    if len(pool["label"]) < wanted + (test_pool is None):
        raise UserError(
            f"{source} has {len(pool['label'])} digits; train and valid take {wanted}"
            + (" and test needs some too" if test_pool is None else "")
            + "; choose fewer with config.realisation.num_train and config.realisation.num_valid"
        )
    pools = {"pool": pool} | ({"test": test_pool} if test_pool else {})
    key = {
        "version": _VERSION,
        "seed": seed,
        "sizes": vars(sizes),
        "scale": list(scale),
        "digits": {k: fingerprint(v) for k, v in pools.items()},
    }
    arrays = cached_arrays(
        f"mnist-scale-{seed}", key, lambda create: _build(create, pool, test_pool, seed, sizes, scale)
    )
    return {
        split: table_from_arrays(
            f"MNIST-scale {seed} {split}", {k: arrays[f"{split}_{k}"] for k in ("image", "label", "scale")}
        )
        for split in _SPLITS
    }


def read_pool(source: str, smoke_command: str | None = None) -> dict[str, np.ndarray]:
    """Returns all splits of a source together: image uint8 [N, 28, 28, 1], label int32 [N]; train first.

    Raises:
      UserError: the images are not 28×28 grey ones, or have no labels, or others than the ten digits.
    """
    tables = list(load_dataset(source, smoke_command=smoke_command).values())
    for table in tables:
        shape = tuple(table.columns["image"].shape)
        if shape != (28, 28, 1) or "label" not in table.columns:
            raise UserError(f"{table.name} has images {shape} and columns {sorted(table.columns)}; MNIST-scale needs "
                            "images (28, 28, 1) and label")  # fmt: skip
    read = [table.arrays() for table in tables]
    for table, rows in zip(tables, read):
        check_classes(table.name, rows["label"], NUM_CLASSES)
    return {k: np.concatenate([r[k] for r in read]) for k in ("image", "label")}


def fingerprint(pool: Mapping[str, np.ndarray]) -> str:
    """Returns a short text that differs for other images or labels, or another order of them."""
    import hashlib

    digest = hashlib.sha256()
    for name in ("image", "label"):
        digest.update(np.ascontiguousarray(pool[name]).tobytes())
    return digest.hexdigest()[:16]


def stratified(labels: np.ndarray, sizes: list[int], random: np.random.Generator) -> list[np.ndarray]:
    """Returns disjoint row numbers for each size, every part with the classes in the proportions of the whole.

    A part's counts per class are exact to within one row; rows that no part takes are left out.
    """
    order = random.permutation(len(labels))
    by_class = [order[labels[order] == c] for c in np.unique(labels)]
    # Every row gets the quantile it has within its class: rows sorted by it are stratified from any start to any end.
    quantile = np.concatenate([(np.arange(len(rows)) + random.random()) / len(rows) for rows in by_class])
    rows = np.concatenate(by_class)[np.argsort(quantile, kind="stable")]
    ends = np.cumsum(sizes)
    return [random.permutation(rows[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _build(
    create: Create,
    pool: Mapping[str, np.ndarray],
    test_pool: Mapping[str, np.ndarray] | None,
    seed: int,
    sizes: Sizes,
    scale: tuple[float, float],
) -> None:
    random = generator(seed, "mnist-scale")
    wanted = [sizes.train, sizes.valid]
    if test_pool is None:
        test_pool = pool
        rows = stratified(pool["label"], [*wanted, min(sizes.test, len(pool["label"]) - sum(wanted))], random)
    else:
        rows = stratified(pool["label"], wanted, random)
        rows += stratified(test_pool["label"], [min(sizes.test, len(test_pool["label"]))], random)
    for split, chosen, digits in zip(_SPLITS, rows, (pool, pool, test_pool), strict=True):
        factors = random.uniform(*scale, len(chosen)).astype(np.float32)
        create(f"{split}_image", (len(chosen), 28, 28, 1), np.uint8)[:] = zoom_images(digits["image"][chosen], factors)
        create(f"{split}_label", (len(chosen),), np.int32)[:] = digits["label"][chosen]
        create(f"{split}_scale", (len(chosen),), np.float32)[:] = factors


def load_realisations(
    source: str, seeds: Sequence[int], config: RealisationConfig, *, limit: int = 0, smoke_command: str = ""
) -> dict[str, dict[str, np.ndarray]]:
    """Returns split -> {"image": uint8 [R, N, 28, 28, 1], "label": int32 [R, N], "scale": float32 [R, N]}.

    Args:
      source: of the digits.
      seeds: one of every realisation.
      limit: of test images, 0 = all.
    """
    found = [
        realisation(
            source,
            seed,
            Sizes(config.num_train, config.num_valid, config.num_test),
            test_source=config.test_source,
            scale=(config.min_scale, config.max_scale),
            smoke_command=smoke_command,
        )
        for seed in seeds
    ]
    return {
        split: {
            column: np.stack([r[split].arrays()[column][: limit or None if split == "test" else None] for r in found])
            for column in ("image", "label", "scale")
        }
        for split in _SPLITS
    }


def make_source(train: Mapping[str, np.ndarray], seeds: Sequence[int], batch_size: int) -> Source:
    """Returns the source of several realisations: their rows in one table, of which a seed only sees its own.

    Args:
      train: "image" uint8 [R, N, 28, 28, 1] and "label" int32 [R, N] of R realisations.
      seeds: R numbers, in the same order.
      batch_size: B. Epochs are whole, see `epochs_of_whole_batches`.
    """
    num_rows = train["label"].shape[1]

    @functools.lru_cache(maxsize=2 * len(seeds))
    def order(seed: int, epoch: int) -> np.ndarray:
        return generator(seed, Purpose.DATA, epoch).permutation(num_rows)

    epochs = epochs_of_whole_batches(num_rows, batch_size, order)

    def block(seed: int, start: int, length: int) -> np.ndarray:
        return epochs(seed, start, length) + np.int32(seeds.index(seed) * num_rows)

    arrays = {k: train[k].reshape(-1, *train[k].shape[2:]) for k in ("image", "label")}
    return Source(arrays, block, batch_size, -(-num_rows // batch_size) * batch_size)
