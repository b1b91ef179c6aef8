"""The test of a classifier: accuracy, the confusion matrix and the mistakes it is surest of; or its bare judgements."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrepro import mesh as mesh_lib
from jaxrepro.evaluators import mistakes
from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.training.classification import Classifier, Task, chosen_variables, predict


def make_judge(task: Task) -> Callable[[Any, Mapping], dict[str, np.ndarray]]:
    """Returns `(variables, arrays) -> {"loss" in nats, "wrong": 100 or 0} [N]`, on the host.

    Arrays are "image" uint8 [N, H, W, C] and "label" int32 [N].
    """
    run = jax.jit(lambda variables, arrays: predict(task, variables, arrays))

    def judge(variables, arrays):
        found = mesh_lib.to_host(run(variables, arrays))
        wrong = found["predicted"] != mesh_lib.to_host(arrays["label"])
        return {"loss": found["loss"], "wrong": 100.0 * wrong}

    return judge


def classifier_test(
    task: Task,
    arrays: Mapping[str, np.ndarray],
    names: Sequence[str],
    records: Callable[[Classifier, Mapping[str, float]], list[Record]],
    pictures: Mapping[str, Callable[[], Any]] | None = None,
    when: When = When(end=True),
) -> Evaluator:
    """Returns the evaluator of the chosen weights on a test set.

    Args:
      arrays: "image" uint8 [N, H, W, C], "label" int32 [N].
      names: of the classes.
      records: `(state, {"accuracy" in percent, "loss" in nats}) -> records`.
      pictures: more of them, by file name; one that returns None is left out.
    """
    predict_all = jax.jit(lambda variables, arrays: predict(task, variables, arrays))

    def evaluate(state, arrays, context) -> Evaluation:
        found = {k: np.asarray(v) for k, v in predict_all(chosen_variables(state), arrays).items()}
        found["label"] = np.asarray(arrays["label"])
        metrics = {
            "accuracy": 100 * float((found["label"] == found["predicted"]).mean()),
            "loss": float(found["loss"].mean()),
        }
        matrix = mistakes.confusion(found["label"], found["predicted"], len(names))
        drawn = {
            "confusion": mistakes.draw_confusion(matrix, names),
            "mistakes": mistakes.draw_mistakes(np.asarray(arrays["image"]), found, names),
            "most_confused": mistakes.draw_most_confused(np.asarray(arrays["image"]), found, names),
            **{name: draw() for name, draw in (pictures or {}).items()},
        }
        shown = {name: picture for name, picture in drawn.items() if picture is not None}
        return Evaluation(metrics, shown, records(state, metrics))

    return Evaluator("test", "test", when, evaluate, dict(arrays))
