"""Datasets, batches and augmentation.

    splits = load_dataset("mnist5k")
    train = read_split(splits, "train[:80%]")
    source, draw = make_source(train, batch_size=128, columns=("image", "label"), resident_limit_mb=4096)

`sources` finds a dataset by one string, `splits` cuts it, `batches` orders its rows; `augment` works on
batches inside jit. None of them knows a model or an experiment.
"""

from jaxrepro.data.batches import make_source, padded_batches
from jaxrepro.data.dataset import Column, Table, table_from_arrays
from jaxrepro.data.sources import load_dataset
from jaxrepro.data.splits import read_split

__all__ = [
    "Column",
    "Table",
    "load_dataset",
    "make_source",
    "padded_batches",
    "read_split",
    "table_from_arrays",
]
