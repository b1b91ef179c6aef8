"""The test of a counter: errors of its counts, also cell by cell, beside those of a constant, and pictures."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrepro.data import padded_batches
from jaxrepro.evaluators import counting_pictures as pictures
from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.training.counting import Counter, Task, logits_of

TABLE, BY_LEVEL = "table5", "GAME by level"
CONSTANT = "constant"
LEVELS = (0, 1, 2, 3)
TABLE_LEVEL = 3  # of the released code; the paper does not say


def cell_sums(maps: np.ndarray, level: int) -> np.ndarray:
    """Returns sums over a grid of 2^level × 2^level cells, float [N, 2^level, 2^level], of maps [N, H, W].

    A cell has side // 2^level pixels; what is left at the end belongs to no cell, as in the released code.
    """
    cells = 2**level
    height, width = (side // cells for side in maps.shape[1:])
    maps = maps[:, : height * cells, : width * cells]
    return maps.reshape(-1, cells, height, cells, width).sum((2, 4), dtype=np.float64)


def game(predicted: np.ndarray, points: np.ndarray, level: int) -> np.ndarray:
    """Returns the grid average mean absolute error of images, float [N]: the sum over cells of |predicted - true|.

    Source: Guerrero-Gómez-Olmedo et al., "Extremely overlapping vehicle counting" (2015). At level 0, the error.

    Args:
      predicted: maps [N, H, W] that add up to counts. points: the true ones.
    """
    return np.abs(cell_sums(predicted, level) - cell_sums(points, level)).sum((1, 2))


def counting_test(
    task: Task,
    row: str,
    column: str,
    part: Mapping[str, np.ndarray],
    train_counts: np.ndarray,
    facts: Mapping[str, Any],
) -> Evaluator:
    """Returns the evaluator of the best weights at the end of a run.

    Args:
      row, column: of the table.
      part: the test, as of `data.counting.counting_parts`.
      train_counts: int [N], whose median is the constant that counts are compared with.
      facts: of the records.
    """
    predict = jax.jit(lambda params, images: task.method.seen(logits_of(task, params, images)))
    constant = float(np.median(train_counts))

    def evaluate(state: Counter, arrays: Mapping, context) -> Evaluation:
        points, num_images = part["points"], len(part["points"])
        rows, _ = padded_batches(num_images, min(task.batch_size, num_images))
        maps, kept = [], []
        for batch in rows:
            seen = np.asarray(predict(state.best.kept, arrays["image"][batch]))
            maps += [task.method.density(one) for one in seen]
            kept += list(seen)
        maps, kept = np.stack(maps[:num_images]), kept[:num_images]
        uniform = np.full((1, *points.shape[1:]), constant / points[0].size, np.float32)
        errors = {row: [game(maps, points, n) for n in LEVELS], CONSTANT: [game(uniform, points, n) for n in LEVELS]}
        records = []
        for name, by_level in errors.items():
            means = [float(e.mean()) for e in by_level]
            records += [
                Record(TABLE, name, column, "mae", means[0], "objects", facts),
                Record(TABLE, name, column, "game", means[TABLE_LEVEL], "objects", facts),
            ]
            records += [
                Record(BY_LEVEL, name, f"{column}, level {n}", "game", means[n], "objects", facts) for n in LEVELS
            ]
        true, counts = points.sum((1, 2)), maps.sum((1, 2), dtype=np.float64)
        metrics = {f"game{n}": float(e.mean()) for n, e in zip(LEVELS, errors[row])}
        metrics |= {"mae": metrics["game0"], "bias": float((counts - true).mean())}
        metrics |= {"constant_mae": float(errors[CONSTANT][0].mean())}
        drawn = {}
        if context.seed_index == 0:  # pictures of one seed are enough
            title = f"{row}, {column}"
            shown = pictures.chosen(np.abs(counts - true))
            drawn = {
                "predictions": pictures.draw_predictions(
                    part["image"][shown], points[shown], [kept[i] for i in shown], maps[shown], counts[shown], title
                ),
                "counts": pictures.draw_counts(true, counts, constant, title),
                "errors": pictures.draw_errors(
                    np.abs(counts - true), {"overlap": 100 * part["overlap"], "letter_size": part["letter_size"]}, title
                ),
            }
        return Evaluation(metrics, {name: picture for name, picture in drawn.items() if picture is not None}, records)

    return Evaluator("test", "test", When(end=True), evaluate, {"image": part["image"]})
