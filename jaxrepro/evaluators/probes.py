"""What probes read from the codes of an encoder: beside it in training, or fitted to the finished one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.training import probes as probes_lib
from jaxrepro.training.probes import FitConfig, Heads, ProbeSchedule

TABLE = "table4"
IN_TABLE = ("char", "font")  # its attributes, read by "mlp"
ALL_PROBES = "probes"  # the table of everything


@dataclass(frozen=True)
class Cells:
    """Where results stand.

    Attributes:
      row: of the table, the method.
      column: of the table, the data set; results stand in "char/Solid Pattern", "font/Solid Pattern", ….
      facts: attribute -> facts of the records of its task.
    """

    row: str
    column: str
    facts: Mapping[str, Mapping[str, Any]]


def probe_test(
    encode: Callable[[Any, jax.Array], jax.Array],
    heads: Mapping[ProbeSchedule, Heads],
    fit: FitConfig,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    cells: Cells,
    when: When = When(end=True),
) -> Evaluator:
    """Returns the evaluator of probes on validation images; frozen ones of all attributes are fitted in one program.

    Args:
      encode: `(state, images uint8 [N, H, W, C]) -> codes float32 [N, D]`, jitted. Of a state, `state.probes` are
        beside the encoder, `state.best` their best scores as `training.probes.loss_of` has them: metrics "best/…".
      heads: those of every schedule; the first schedule fills the paper's table.
      fit: of the frozen ones.
      arrays: "valid" and, for frozen probes, "train": {"image", attribute: [N], …}.
    """

    @jax.jit
    def judge_online(probes, codes, targets):
        variables = {name: probe.variables for name, probe in probes.items()}
        return _means(heads[ProbeSchedule.ONLINE], variables, codes, targets)

    @jax.jit
    def fit_frozen(train, valid, key):
        chosen = heads[ProbeSchedule.FROZEN]
        return _means(chosen, probes_lib.fit_probes(chosen, train, valid, key, fit), valid["codes"], valid)

    def with_codes(state, part):
        return {k: v for k, v in part.items() if k != "image"} | {"codes": encode(state, part["image"])}

    def evaluate(state, arrays, context) -> Evaluation:
        valid, metrics, records = with_codes(state, arrays["valid"]), {}, []
        for schedule in heads:
            if schedule == ProbeSchedule.ONLINE:
                found = judge_online(state.probes, valid["codes"], valid)
                metrics |= {f"best/{score}": float(abs(value)) for score, value in state.best.items()}
            else:
                found = fit_frozen(with_codes(state, arrays["train"]), valid, context.key)
            scores = {name: float(value) for name, value in found.items()}
            metrics |= {f"{schedule}/{name}": value for name, value in scores.items()}
            records += _records(heads[schedule], scores, cells, str(schedule), in_table=schedule == next(iter(heads)))
        return Evaluation(metrics, records=records)

    return Evaluator("probes", "valid", when, evaluate, arrays)


def _means(heads: Heads, variables: Mapping, codes: jax.Array, targets: Mapping) -> dict[str, jax.Array]:
    return {k: v.mean() for k, v in probes_lib.measure_probes(heads, variables, codes, targets).items()}


def _records(heads: Heads, scores: Mapping[str, float], cells: Cells, schedule: str, *, in_table: bool) -> list[Record]:
    found = []
    for name, head in heads.items():
        kind, attribute = name.split("/")[0], head.attribute.name
        cell = (f"{attribute}/{cells.column}", head.attribute.score, scores[probes_lib.score_name(name, head)])
        unit = "percent" if head.attribute.num_classes else "units of the attribute"
        facts = cells.facts[attribute]
        if in_table and kind == "mlp" and attribute in IN_TABLE:
            found.append(Record(TABLE, cells.row, *cell, unit, facts))
        found.append(Record(ALL_PROBES, f"{cells.row}: {kind}, {schedule}", *cell, unit, facts))
    return found
