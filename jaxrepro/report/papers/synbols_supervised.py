"""Table 1 of Synbols: accuracies with the paper's bold numbers, and what the runs cost."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxrepro.report.comparison import Comparison, column_of
from jaxrepro.report.papers import Paper, classifier_figures
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import FinishedRun
from jaxrepro.report.text import readable

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
    """Returns time, energy and CO₂ of one seed of every run, and of all seeds of all runs together.

    A cost stands in the column of its accuracy: in one of its own where the task is not the published one.
    """
    found, known = [], []
    published = load_reference(runs[0].experiment, runs[0].version) if runs else []
    for run in runs:
        accuracies = [r for r in run.records if classifier_figures.is_accuracy(r)]
        cost = cost_of(run)
        if not accuracies or cost is None:
            continue
        cell, seeds = accuracies[0], dict.fromkeys(r["seed"] for r in accuracies)
        column = column_of(cell, [p for p in published if (p.table, p.metric) == (cell["table"], cell["metric"])])
        device = run.results.environment.get("device", "an unknown device")
        costs = (("time", 60 * cost.hours, "minutes"), ("energy", cost.kwh, "kWh"), ("CO₂", cost.grams, "g"))
        found += [
            {"row": cell["row"], "column": column, "facts": cell.get("facts") or {}, "note": note_of([cost], [device])}
            | {"table": COST_TABLE, "metric": metric, "value": value, "unit": unit, "seed": seed}
            for seed in seeds
            for metric, value, unit in costs
        ]
        known.append((cost, len(seeds), device, cell["table"]))
    return found + (total_records(known) if len(known) > 1 else [])


def total_records(known: Sequence[tuple[Cost, int, str, str]]) -> list[dict]:
    """Returns what runs cost together, each (cost of a seed, number of seeds, device, table)."""
    costs, seeds, devices, tables = zip(*known, strict=True)
    totals = {
        ("time", "hours"): [c.hours for c in costs],
        ("energy", "kWh"): [c.kwh for c in costs],
        ("CO₂", "g"): [c.grams for c in costs],
    }
    row = f"these {len(known)} runs of {readable(tables[0]).lower()}"
    total = {"table": TOTAL_TABLE, "row": row, "column": "total", "seed": 0, "note": note_of(costs, devices)}
    return [
        total | {"metric": metric, "unit": unit, "value": math.fsum(v * n for v, n in zip(values, seeds, strict=True))}
        for (metric, unit), values in totals.items()
    ]


def note_of(costs: Sequence[Cost], devices: Sequence[str]) -> str:
    """Returns how costs are estimated, with every power, grid and device among them."""
    watts, grids = ({f"{getattr(c, k):g}": None for c in costs} for k in ("watts", "grams_per_kwh"))
    stated = "the config states" if len(costs) == 1 else "the configs state"
    return (
        f"estimate: time × the {' or '.join(watts)} W and {' or '.join(grids)} g CO₂ per kWh that {stated}; "
        f"nothing but the time is measured, on {' or '.join(dict.fromkeys(devices))}"
    )


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
