"""The report's table 2: mean and lowest loss of both networks over all training iterations."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxrepro.experiment import Evaluation, Evaluator, Record, When


def losses_table(get: Callable[[Any], Mapping[str, Any]], row: str, *, split: str, when: When) -> Evaluator:
    """Returns the evaluator of table 2.

    Args:
      get: `state -> {"generator", "discriminator"}` to what has the scalars `count` and, in nats, `mean` and `lowest`.
        A network that no step has trained is left out.
      row: of its records; "" for none, metrics only.
    """

    def evaluate(state, arrays, context) -> Evaluation:
        found = {name: s for name, s in jax.device_get(get(state)).items() if s.count}
        values = {(name, kind): float(getattr(s, kind)) for name, s in found.items() for kind in ("mean", "lowest")}
        metrics = {f"{kind}_loss_{name}": value for (name, kind), value in values.items()}
        records = [Record("table2", row, name, f"loss_{kind}", v, "nats") for (name, kind), v in values.items()]
        return Evaluation(metrics, records=records if row else ())

    return Evaluator("losses_table", split, when, evaluate)
