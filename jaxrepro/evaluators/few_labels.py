"""The discriminator's features where labels are few: the article's 1,000 labels of SVHN, as the authors measured them.

For every C of the grid ten draws of as many labels per class, the validation error averaged; with the best C a hundred
further draws, the mean test error and 1.96 deviations over them.

Source: the article, section 5.2 and table 2; the authors' script for SVHN. It draws anew for every C; here the same ten
draws serve all of them.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.evaluators import linear_svm
from jaxrepro.evaluators.features import Extractor, Labelled, short
from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.rng import generator
from jaxrepro.training.batched import map_batches

NUM_CHOOSING = 10  # draws per C
NUM_DRAWS = 100  # for the test
SPREAD = 1.96  # deviations


def draw_labels(labels: np.ndarray, num_labels: int, draw: int) -> np.ndarray:
    """Returns the rows of a draw, as many of every class: int [num_labels].

    Raises:
      UserError: the classes do not divide num_labels, or a class has fewer rows.
    """
    classes = np.unique(labels)
    per_class, rest = divmod(num_labels, len(classes))
    fewest = min(np.count_nonzero(labels == c) for c in classes)
    if rest or not 0 < per_class <= fewest:
        raise UserError(
            f"eval.features.num_labels is {num_labels}; it must be a multiple of the {len(classes)} classes, "
            f"and at most {fewest * len(classes)}"
        )
    random = generator(0, "few_labels", draw)
    return np.concatenate([random.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in classes])


def few_labels(
    extractors: Sequence[Extractor],
    train: Labelled,
    test: Labelled,
    valid: Labelled,
    *,
    num_labels: int,
    name: str,
    grid: Sequence[float],
    batch_size: int,
    split: str,
    when: When,
) -> Evaluator:
    """Returns the evaluator of the article's table 2: errors of the SVM on few labels, in percent, per extractor.

    Metrics: per extractor `error`, the mean over the draws, `error_spread`, 1.96 deviations over them, and `c`.

    Args:
      extractors: one row each; "DCGAN features + L2-SVM" is the article's "DCGAN + L2-SVM".
      train: draws are made of it.
      valid: C is chosen on it.
      num_labels: of a draw.
      name: of the data in the table's column, "SVHN".
      grid: values of C.
      batch_size: of the extraction.
    """
    num_classes = int(train.labels.max()) + 1
    draws = [draw_labels(train.labels, num_labels, i) for i in range(NUM_CHOOSING + NUM_DRAWS)]

    def evaluate(state, arrays, context) -> Evaluation:
        metrics: dict[str, float] = {}
        records: list[Record] = []
        facts = {"num_classes": num_classes, "num_train": num_labels, "num_test": len(test.labels)}
        for e in extractors:
            compiled = jax.jit(lambda v, images, e=e: map_batches(lambda b: e.features(v, b), images, batch_size))
            extract = functools.partial(compiled, e.variables(state))
            vectors = {s: extract(arrays[s]["image"]) for s in ("valid", "test")}

            def error(rows, c, on, extract=extract, vectors=vectors) -> float:
                weights = linear_svm.fit(extract(train.images[rows]), train.labels[rows], num_classes=num_classes, c=c)
                return 100 * (1 - float(linear_svm.accuracy(weights, vectors[on], arrays[on]["label"])))

            best = choose_c(error, draws[:NUM_CHOOSING], grid)
            errors = [error(rows, best, "test") for rows in draws[NUM_CHOOSING:]]
            found = {"error": float(np.mean(errors)), "error_spread": SPREAD * float(np.std(errors)), "c": best}
            metrics |= {f"{short(e.row)}/{k}": v for k, v in found.items()}
            row = e.row.replace("DCGAN features", "DCGAN")
            column = f"{name} {num_labels} labels"
            records.append(Record("table2", row, column, "error", found["error"], "percent", facts))
        return Evaluation(metrics, records=records)

    arrays = {s: {"image": p.images, "label": p.labels} for s, p in (("valid", valid), ("test", test))}
    return Evaluator("few_labels", split, when, evaluate, arrays)


def choose_c(error: Callable[..., float], draws: Sequence[np.ndarray], grid: Sequence[float]) -> float:
    """Returns the C with the least mean validation error over draws, the smallest of equally good ones."""
    return min(grid, key=lambda c: float(np.mean([error(rows, c, "valid") for rows in draws])))
