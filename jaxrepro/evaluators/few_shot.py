"""The test of a few-shot method on characters and on fonts it never saw, and a look at what it gets wrong."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.data.episodes import ClassTable, EpisodeShape
from jaxrepro.errors import check
from jaxrepro.evaluators import few_shot_pictures as pictures
from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.training import episodic
from jaxrepro.training.episodic import Learner, Task
from jaxrepro.training.few_shot import ModelAgnostic

TABLE = "table6"
BY = {"shots": "accuracy by shots", "ways": "accuracy by ways", "language": "accuracy by language"}
Z95 = 1.96  # of a normal distribution


@dataclass(frozen=True)
class Look:
    """What is looked at beside the table. shots, ways: numbers to test with, () = none; num_episodes: for each.

    A method whose last layer has a place for every class, MAML, is tested with its own number of ways only.
    """

    shots: tuple[int, ...] = (1, 2, 5, 10)
    ways: tuple[int, ...] = (2, 5, 10, 20)
    num_episodes: int = 200

    def __post_init__(self):
        check(all(n >= 1 for n in self.shots), f"shots is {self.shots}; each must be 1 or more")
        check(all(n >= 2 for n in self.ways), f"ways is {self.ways}; each must be 2 or more")
        check(self.num_episodes >= 1, f"num_episodes is {self.num_episodes}; it must be 1 or more")


def interval(accuracies: np.ndarray) -> float:
    """Returns half the width of the 95 % interval of the mean of accuracies [E] of independent episodes."""
    return float(Z95 * np.std(accuracies, ddof=1) / np.sqrt(len(accuracies)))


def few_shot_test(
    task: Task, row: str, trained_on: str, tests: Mapping[str, ClassTable], languages: np.ndarray, num_test: int,
    look: Look, facts: Mapping[str, Mapping[str, Any]],
) -> Evaluator:  # fmt: skip
    """Returns the evaluator of the best weights at the end of a run.

    Args:
      row: of the table, the method.
      trained_on: a key of `tests`.
      tests: attribute -> table of its test classes.
      languages: of every image of the data that the tables were taken from, text [M].
      num_test: episodes of each attribute.
      facts: attribute -> facts of the records of its task.
    """
    arrays = {attribute: dict(table.arrays) for attribute, table in tests.items()}
    order = sorted(tests, key=lambda attribute: attribute != trained_on)
    run = jax.jit(lambda variables, arrays, key: episodic.run_episodes(task, variables, arrays, num_test, key))
    encode_all = jax.jit(lambda variables, images: episodic.encode_all(task, variables, images))
    vectors = jax.jit(task.method.vectors, compiler_options=QUICK_COMPILE)

    def evaluate(state: Learner, arrays: Mapping, context) -> Evaluation:
        variables, metrics, records, drawn = state.best.kept, {}, [], {}
        first = context.seed_index == 0  # pictures of one seed are enough
        for i, attribute in enumerate(order):
            column, here = f"test {attribute}, train {trained_on}", context.fold(i)
            given = dict(arrays[attribute])
            if task.method.compares_features:  # encoded once for all that follows
                given["features"] = encode_all(variables, given["image"])
            found = {k: np.asarray(v) for k, v in run(variables, given, here.key).items()}
            metrics |= {
                f"accuracy_{attribute}": found["accuracy"].mean(),
                f"interval_95_{attribute}": interval(found["accuracy"]),
                f"loss_{attribute}": found["loss"].mean(),
            }
            known = facts[attribute]
            records += [
                Record(TABLE, row, column, "accuracy", found["accuracy"].mean(), "percent", known),
                Record(TABLE, row, column, "interval_95", interval(found["accuracy"]), "points", known),
            ]
            grid = {
                kind: {n: float(_mean_accuracy(task, s, look.num_episodes, variables, given, here.fold(1).key))
                       for n, s in shapes.items()}
                for kind, shapes in grid_shapes(task, look, tests[attribute].arrays["counts"]).items()
            }  # fmt: skip
            spoken = accuracy_by(languages[tests[attribute].rows], found, task.shape.shots)
            for kind, values in (*grid.items(), ("language", spoken)):
                unit = "" if kind == "language" else f" {kind}"
                records += [
                    Record(BY[kind], row, f"{column}, {n}{unit}", "accuracy", v, "percent") for n, v in values.items()
                ]
            if first:
                table, shots, title = tests[attribute], task.shape.shots, f"{row}: {column}"
                episode = table.arrays["image"][found["rows"][0]]
                encoded = given["features"][found["rows"][0]] if "features" in given else task.prepare(episode)
                seen = np.asarray(vectors(variables, encoded))
                pairs = hardest_pairs(found, len(table.names))
                drawn |= {
                    f"episode_{attribute}": pictures.draw_episode(episode, found["predicted"][0], shots, title),
                    f"vectors_{attribute}": pictures.draw_vectors(seen, episode, shots, title),
                    f"hardest_{attribute}": pictures.draw_hardest(table, pairs, title),
                }
        shown = {name: picture for name, picture in drawn.items() if picture is not None}
        return Evaluation({k: float(v) for k, v in metrics.items()}, shown, records)

    return Evaluator("test", "test", When(end=True), evaluate, arrays)


def grid_shapes(task: Task, look: Look, counts: np.ndarray) -> dict[str, dict[int, EpisodeShape]]:
    """Returns {"shots": {n: episode with n shots}, "ways": …} as far as the classes, with `counts` images, reach."""
    fixed = isinstance(task.method, ModelAgnostic)
    wanted = {
        "shots": {n: dataclasses.replace(task.shape, shots=n) for n in look.shots},
        "ways": {n: dataclasses.replace(task.shape, ways=n) for n in look.ways if not fixed or n == task.shape.ways},
    }
    return {
        kind: {n: s for n, s in shapes.items() if s.per_class <= counts.min() and s.ways <= len(counts)}
        for kind, shapes in wanted.items()
    }


@functools.partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=QUICK_COMPILE)
def _mean_accuracy(
    task: Task, shape: EpisodeShape, num_episodes: int, variables: Any, arrays: Mapping, key: jax.Array
) -> jax.Array:
    method = dataclasses.replace(task.method, shots=shape.shots)
    return episodic.run_episodes(task, variables, arrays, num_episodes, key, method, shape)["accuracy"].mean()


def accuracy_by(kinds: np.ndarray, found: Mapping[str, np.ndarray], shots: int) -> dict[str, float]:
    """Returns kind -> accuracy in percent over the queries of that kind.

    Args:
      kinds: text [N], of the images of a table.
      found: of `episodic.run_episodes`.
    """
    predicted = found["predicted"]
    right = (predicted == np.arange(predicted.shape[1])[:, None]).ravel()
    of_query = kinds[found["rows"][:, :, shots:]].ravel()
    return {str(kind): 100.0 * float(right[of_query == kind].mean()) for kind in np.unique(of_query)}


def hardest_pairs(found: Mapping[str, np.ndarray], num_classes: int, most: int = 8) -> list[tuple[int, int, float]]:
    """Returns pairs of classes (a, b, share), of the queries of either in episodes with both, that were taken for the
    other; the largest shares first, and of equal ones those seen most often.
    """
    seen, wrong = np.zeros((2, num_classes, num_classes))
    num_queries = found["predicted"].shape[2]
    for classes, predicted in zip(found["classes"], found["predicted"]):
        counts = np.stack([(predicted == place).sum(1) for place in range(len(classes))], 1)  # [own, taken for]
        seen[np.ix_(classes, classes)] += num_queries
        wrong[np.ix_(classes, classes)] += counts
    seen, wrong = seen + seen.T, wrong + wrong.T
    pairs = [
        (wrong[a, b] / seen[a, b], seen[a, b], a, b)
        for a, b in zip(*np.triu_indices(num_classes, 1), strict=True)
        if wrong[a, b]
    ]
    pairs.sort(key=lambda pair: (-pair[0], -pair[1]))
    return [(int(a), int(b), float(share)) for share, _, a, b in pairs[:most]]
