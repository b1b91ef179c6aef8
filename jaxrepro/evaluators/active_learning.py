"""What a run of active learning found, at its end: cells of tables 3 and 7, shares of queries, pictures."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.data.active import Flag
from jaxrepro.data.rounds import Rounds
from jaxrepro.evaluators import queries
from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.training import active
from jaxrepro.training.active import METHODS, ActiveTask, Learner
from jaxrepro.training.calibration import reliability

TABLES = {5: "table7", 10: "table3", 20: "table7"}  # percent of the pool that is labelled -> table
UNITS = {"accuracy": "percent", "calibration_error": None}  # of the tested metrics; the others are in nats
SHARES = {Flag.MISSING: "blank_query_share", Flag.OCCLUDED: "occluded_query_share"}
WORDS = {Flag.MISSING: "without a symbol", Flag.OCCLUDED: "with a shape over the symbol"}


def round_of(percent: int, rounds: Rounds, num_rounds: int, num_pool: int) -> int | None:
    """Returns the round whose labels are that share of the pool, to half a round's queries, or None."""
    wanted = percent / 100 * num_pool
    nearest = min(range(num_rounds), key=lambda r: abs(rounds.num_labels(r) - wanted))
    return nearest if abs(rounds.num_labels(nearest) - wanted) <= rounds.queries / 2 else None


def active_learning_evaluator(
    config: Any,
    task: ActiveTask,
    rounds: Rounds,
    parts: Mapping[str, Mapping[str, np.ndarray]],
    held_out: Mapping[str, Mapping[str, np.ndarray]],
    tested: Mapping[str, np.ndarray],
    facts: Mapping[str, Any],
) -> Evaluator:
    """Returns the evaluator of the end of a run.

    Args:
      config: of the experiment.
      parts: of the data.
      held_out: "calibration" and "valid", each "image" and "label"; tested: those of the test.
      facts: of the task, for records.
    """
    pool, flag, column = parts["pool"], config.task.flag, config.task.column
    num_pool = len(pool["label"])

    @functools.partial(jax.jit, static_argnums=0)
    def bins_of(calibrated, learner, arrays, context):
        """Returns the bins of the test images before and after calibration; a learner without a layer gets one."""
        if not calibrated:
            learner = learner.replace(calibration=active.calibrate(task, learner, arrays, context.fold(0)))
        found = active.predict(task, learner, arrays["test"]["image"], context.fold(1).key)
        right = {k: v.argmax(-1) == arrays["test"]["label"] for k, v in found.items()}
        return tuple(reliability(jnp.exp(found[k].max(-1)), right[k]) for k in ("logits", "calibrated"))

    def records(method: str, learner: Learner, num_rounds: int) -> list[Record]:
        found = []
        for percent, table in TABLES.items():
            place = round_of(percent, rounds, num_rounds, num_pool)
            if place is not None:
                values = {k: float(v[place]) for k, v in learner.history.items()}
                cell = (table, method, f"{column} @{percent}%")
                known = {**facts, "num_labels": rounds.num_labels(place)}
                found += [Record(*cell, k, v, UNITS.get(k, "nats"), known) for k, v in values.items()]
        return found

    def evaluate(state: Mapping[str, Learner], arrays, context) -> Evaluation:
        num_rounds = int(next(iter(state.values())).round)
        if not num_rounds:  # a checkpoint of the first round: nothing was tested
            return Evaluation()
        labels = np.array([rounds.num_labels(r) for r in range(num_rounds)])
        metrics, pictures, found, nll, shares, bins = {}, {}, [], {}, {}, {}
        for method, learner in state.items():
            nll[method] = (labels, np.asarray(learner.history["nll"])[:num_rounds])
            found += records(method, learner, num_rounds)
            bins[method] = jax.tree.map(np.asarray, bins_of(METHODS[method].calibrated, learner, arrays, context))
            asked = np.asarray(learner.pool.order)[rounds.initial : int(learner.pool.num_labelled)]
            if not len(asked):
                continue
            flagged = pool.get(flag)
            name = "first_queries_" + method.lower().replace("-", "_").replace(" ", "_")
            pictures[name] = queries.draw_first_queries(pool["image"], asked, flagged)
            if flagged is not None:
                share = queries.cumulative_share(flagged, asked, rounds.queries)
                shares[method] = (rounds.initial + rounds.queries * (1 + np.arange(len(share))), share)
                metrics[f"{method}/{SHARES[flag]}"] = share[-1]
                found.append(Record("text", method, column, SHARES[flag], share[-1], "percent", facts))
        pictures["test_nll"] = queries.draw_lines(nll, "test NLL (nats)")
        pictures["reliability"] = queries.draw_reliability(bins)
        if shares:
            level = 100 * float(pool[flag].mean())
            pictures["query_share"] = queries.draw_lines(shares, f"queries {WORDS[flag]} (%)", level)
        return Evaluation(metrics, pictures, found)

    return Evaluator("active_learning", "queries", When(end=True), evaluate, dict(held_out) | {"test": dict(tested)})
