"""How useful the discriminator's features are: a linear SVM on them, on those of random weights, and on pixels.

Source: the report's table 1; the article, section 5.1: every convolution's activations, max-pooled to 4x4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.data import load_dataset, read_split
from jaxrepro.data.layout import check_classes
from jaxrepro.errors import check
from jaxrepro.evaluators import linear_svm
from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.training.batched import map_batches

POOLED = 4  # side of every map that the SVM sees


@dataclass(frozen=True)
class FeaturesConfig:
    """Labelled images for the linear SVM.

    Attributes:
      source: as in `config.data`; "" = none, "same" = the images of training.
      train, test: splits, as in `config.data`.
      valid: a split to choose C on, for num_labels.
      num_labels: 0, or as few labels as the SVM gets, drawn many times (`few_labels`), in place of all of them.
      name: of the source in the table; "" = the source itself.
      num_train: at most so many images, 0 = all.
      c_grid: weights of the SVM's losses to choose from.
    """

    source: str = ""
    train: str = "train"
    test: str = "test"
    valid: str = ""
    num_labels: int = 0
    name: str = ""
    num_train: int = 0
    c_grid: tuple[float, ...] = linear_svm.C_GRID

    def __post_init__(self):
        check(self.num_train >= 0, f"num_train is {self.num_train}; it must be 0 (all) or more")
        check(self.num_labels >= 0, f"num_labels is {self.num_labels}; it must be 0 (all) or more")
        check(not self.num_labels or self.valid, "num_labels needs a split to choose C on: valid='train[:10000]'")
        ordered = all(c > 0 for c in self.c_grid) and list(self.c_grid) == sorted(self.c_grid)
        check(bool(self.c_grid) and ordered, f"c_grid is {self.c_grid}; give positive numbers in increasing order")


@dataclass(frozen=True)
class Labelled:
    """Images uint8 [N, H, W, C] and labels int [N], in an order without meaning."""

    images: np.ndarray
    labels: np.ndarray


def read_labelled(config: FeaturesConfig, source: str, read: Callable[..., Mapping[str, np.ndarray]]) -> list[Labelled]:
    """Returns the training and test images of a source, and those to choose C on where there are few labels.

    Args:
      read: `(table, columns, limit) -> {"image": uint8 [N, H, W, C], column: [N]}`, random rows.

    Raises:
      UserError: images without a class, or a class of which there is none to train on.
    """
    splits = load_dataset(source)
    parts = [(config.train, config.num_train), (config.test, 0)]
    parts += [(config.valid, 0)] if config.num_labels else []
    rows = [read(read_split(splits, split), ["label"], limit) for split, limit in parts]
    num_classes = int(rows[0]["label"].max()) + 1
    for (split, _), found in zip(parts, rows):
        check_classes(f"{source}, {split}", found["label"], num_classes)
    return [Labelled(r["image"], r["label"]) for r in rows]


@dataclass(frozen=True)
class Extractor:
    """A way from images to vectors.

    Attributes:
      row: of its record, "DCGAN features + L2-SVM".
      variables: `state -> variables` of the network.
      features: `(variables, images uint8 [n, ...]) -> float32 [n, D]`.
    """

    row: str
    variables: Callable[[Any], Any]
    features: Callable[[Any, jax.Array], jax.Array]


def pool_to(maps: jax.Array, side: int = POOLED) -> jax.Array:
    """Returns maxima of maps [B, H, W, C] over a grid of windows, [B, side, side, C].

    Windows do not overlap where `side` divides the map's; else window i reaches from floor(i H / side) to
    ceil((i + 1) H / side).
    """

    def pooled(x, axis):
        size = x.shape[axis]
        windows = [(i * size // side, -(-(i + 1) * size // side)) for i in range(side)]
        return jnp.stack([jax.lax.slice_in_dim(x, a, b, axis=axis).max(axis) for a, b in windows], axis)

    return pooled(pooled(maps, 1), 2)


def pooled_features(layers: Sequence[jax.Array]) -> jax.Array:
    """Returns all activations [B, H_l, W_l, C_l], each pooled to 4x4, as one vector float32 [B, 16 sum C_l]."""
    return jnp.concatenate([pool_to(a).reshape(len(a), -1).astype(jnp.float32) for a in layers], axis=1)


def svm_table(
    extractors: Sequence[Extractor],
    train: Labelled,
    test: Labelled,
    *,
    name: str,
    grid: Sequence[float],
    batch_size: int,
    split: str,
    when: When,
) -> Evaluator:
    """Returns the evaluator of table 1: training and test accuracy of the SVM on every extractor's features.

    Metrics: per extractor `accuracy`, on test images, and `c`, which was chosen on a fifth of the training images.

    Args:
      extractors: one row each.
      train, test: the labelled images.
      name: of the data in the table's columns, "CIFAR-10".
      grid: values of C.
      batch_size: of the extraction.
    """
    arrays = {"train": vars(train), "test": vars(test)}
    num_classes = int(train.labels.max()) + 1
    functions = {
        e.row: jax.jit(lambda v, images, e=e: map_batches(lambda b: e.features(v, b), images, batch_size))
        for e in extractors
    }

    def evaluate(state, arrays, context) -> Evaluation:
        metrics: dict[str, float] = {}
        records: list[Record] = []
        facts = {"num_classes": num_classes, "num_train": len(train.labels), "num_test": len(test.labels)}
        for extractor in extractors:
            variables = extractor.variables(state)
            vectors = {s: functions[extractor.row](variables, a["images"]) for s, a in arrays.items()}
            weights, c = linear_svm.fit_with_selection(
                vectors["train"], arrays["train"]["labels"], num_classes=num_classes, grid=grid
            )
            found = {s: float(linear_svm.accuracy(weights, vectors[s], arrays[s]["labels"])) for s in arrays}
            metrics |= {f"{short(extractor.row)}/accuracy": found["test"], f"{short(extractor.row)}/c": c}
            records += [
                Record("table1", extractor.row, f"{name} {s}", "accuracy", 100 * v, "percent", facts)
                for s, v in found.items()
            ]
        return Evaluation(metrics, records=records)

    return Evaluator("svm_table", split, when, evaluate, arrays)


def short(row: str) -> str:
    """Returns "dcgan_features" of "DCGAN features + L2-SVM"."""
    return row.partition(" + ")[0].lower().replace(" ", "_")
