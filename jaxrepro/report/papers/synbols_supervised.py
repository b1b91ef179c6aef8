"""Table 1 of Synbols: accuracies with the paper's bold numbers, and what the runs cost."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxrepro.report.comparison import Comparison
from jaxrepro.report.papers import Paper, classifier_figures
from jaxrepro.report.runs import FinishedRun

COST_TABLE = "cost of a run"
TOTAL_TABLE = "cost of all runs"


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one seed: hours on the clock; energy from the power that the config states, and the CO₂ of its grid."""

    hours: float
    watts: float
    grams_per_kwh: float

    @property
    def kwh(self) -> float:
        return self.hours * self.watts / 1000

    @property
    def grams(self) -> float:
        return self.kwh * self.grams_per_kwh


def cost_of(run: FinishedRun) -> Cost | None:
    """Returns what one seed of a run cost, None where nobody knows: an estimate.

    The time of a run that was interrupted is that of its last process, scaled up to all steps. Compilation and
    evaluation count.
    """
    stated, timing = run.config.get("energy"), run.results.timing if run.results else None
    if not stated or timing is None or not timing.seconds or not timing.steps:
        return None
    hours = timing.seconds * run.results.step / timing.steps / len(run.results.seeds) / 3600
    return Cost(hours, stated["watts"], stated["grams_per_kwh"])


def cost_records(runs: Sequence[FinishedRun]) -> list[dict]:
    """Returns time, energy and CO₂ of one seed of every run, and of all seeds of all runs together."""
    found, totals = [], [0.0, 0.0, 0.0]
    for run in runs:
        cell = next(filter(classifier_figures.is_accuracy, run.records), None)
        cost = cost_of(run)
        if cell is None or cost is None:
            continue
        note = (
            f"estimate: time × the {cost.watts:g} W and {cost.grams_per_kwh:g} g CO₂ per kWh that the config states; "
            f"nothing but the time is measured, on {run.results.environment.get('device', 'an unknown device')}"
        )
        costs = (("time", 60 * cost.hours, "minutes"), ("energy", cost.kwh, "kWh"), ("CO₂", cost.grams, "g"))
        found += [
            {k: cell[k] for k in ("row", "column", "facts") if k in cell}
            | {"table": COST_TABLE, "metric": metric, "value": value, "unit": unit, "seed": seed, "note": note}
            for seed in run.results.seeds
            for metric, value, unit in costs
        ]
        for i, value in enumerate((cost.hours, cost.kwh, cost.grams)):
            totals[i] += value * len(run.results.seeds)
    if len(runs) < 2 or not found:
        return found
    total = {"table": TOTAL_TABLE, "row": "the runs of this report", "column": "total", "seed": 0, "note": note}
    units = (("time", "hours"), ("energy", "kWh"), ("CO₂", "g"))
    pairs = zip(units, totals, strict=True)
    return found + [total | {"metric": metric, "value": v, "unit": unit} for (metric, unit), v in pairs]


def derive(runs: Sequence[FinishedRun], records: Sequence[Mapping], others: Sequence[FinishedRun]) -> list[dict]:
    """Returns the costs."""
    del records, others
    return cost_records(runs)


def mark(comparison: Comparison, others: Sequence[Comparison]) -> Comparison:
    """Bold, as in table 1: within two standard deviations (those of the best) of the best of a column."""
    del others
    if (comparison.table, comparison.metric) != ("table1", "accuracy"):
        return comparison
    marks = {}
    for column in comparison.columns:
        for label in comparison.labels:
            found = {row: comparison.number(row, column, label) for row in comparison.rows}
            found = {row: n for row, n in found.items() if n is not None and n.value is not None}
            if len(found) < 2:
                continue
            best = max(found.values(), key=lambda n: n.value)
            least = best.value - 2 * (best.std or 0.0)
            marks |= {(row, column, label): "bold" for row, n in found.items() if n.value >= least}
    note = "bold: within two standard deviations of the best of its column, per source"
    return dataclasses.replace(comparison, marks=marks, marks_note=note)


def value_of(comparisons: Sequence[Comparison], table: str, row: str, column: str, label: str) -> float | None:
    """Returns an accuracy of the report, None where it has none."""
    for c in comparisons:
        if (c.table, c.metric) == (table, "accuracy") and (number := c.number(row, column, label)):
            return number.value
    return None


PAPER = Paper(
    captions=classifier_figures.CAPTIONS,
    derive=derive,
    figures=classifier_figures.figures,
    figures_of_runs=classifier_figures.figures_of_runs,
    mark=mark,
)
