"""`synbols:NAME?num_samples=20000&seed=0&resolution=32`: letters rendered on first use, then cached.

Splits are train, valid and test with 60, 20 and 20 %, drawn as the original's "random" split: independent of
the seed.
"""

import numpy as np

from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Table, table_from_arrays
from jaxrepro.errors import UserError, unknown

_RATIOS = {"train": 0.6, "valid": 0.2, "test": 0.2}
_SPLIT_SEED = 42


def load(name: str, *, num_samples: int = 20_000, seed: int = 0, resolution: int = 32) -> dict[str, Table]:
    """Returns the splits of a rendered dataset; columns as in `jaxrepro.synbols.render_dataset`.

    Raises:
      UserError: unknown name, fewer than 5 samples, cairo or fonts not installed.
    """
    from jaxrepro.synbols import DATASETS, GENERATOR_VERSION
    from jaxrepro.synbols.generate import font_fingerprint

    if name not in DATASETS:
        raise unknown("Synbols dataset", name, DATASETS)
    if num_samples < 5:
        raise UserError(f"synbols:{name} has num_samples={num_samples}; three splits need at least 5")
    key = {
        "name": name,
        "num_samples": num_samples,
        "seed": seed,
        "resolution": resolution,
        "fonts": font_fingerprint(),
        "version": GENERATOR_VERSION,
    }
    arrays = cached_arrays(f"synbols-{name}", key, lambda create: _build(create, name, num_samples, seed, resolution))
    member = _split_of_rows(num_samples)
    return {
        split: _part(f"synbols:{name} {split}", arrays, np.flatnonzero(member == i)) for i, split in enumerate(_RATIOS)
    }


def _build(create: Create, name: str, num_samples: int, seed: int, resolution: int) -> None:
    from jaxrepro.synbols import render_dataset

    for column, values in render_dataset(name, num_samples, seed, resolution).items():
        create(column, values.shape, values.dtype)[:] = values


def _split_of_rows(num_rows: int) -> np.ndarray:
    """Returns each row's split number [N]: rounded sizes, the residue to train, shuffled with seed 42."""
    sizes = [round(ratio * num_rows) for ratio in _RATIOS.values()]
    sizes[0] += num_rows - sum(sizes)
    member = np.repeat(np.arange(len(sizes)), sizes)
    np.random.RandomState(_SPLIT_SEED).shuffle(member)
    return member


def _part(name: str, arrays: dict[str, np.ndarray], rows: np.ndarray) -> Table:
    table = table_from_arrays(name, arrays)
    return Table(name, len(rows), table.columns, lambda i: table.take(rows[i]))
