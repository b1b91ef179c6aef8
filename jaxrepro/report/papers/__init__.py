"""What only one paper's report has: derived cells, figures, captions, marks. One module per experiment, found by name.

    paper = find("yoto")              # jaxrepro/report/papers/yoto.py: its PAPER, or an empty one without such a module
    paper.figures(records)

A paper that needs none of this needs no module.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxrepro.report.comparison import Comparison
from jaxrepro.report.runs import FinishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Paper:
    """Hooks of one experiment; every one has a default that does nothing.

    Attributes:
      captions: name of a picture -> its caption, also for those that evaluators draw.
      derive: `(runs, records, others) -> records` that follow from runs and their merged records, such as times. Only
        runs that fill cells, with the records that do; `others` are those of other experiments in the same report.
      figures: `records -> {name: Figure}`; a run draws them too, from its own records, as far as they go.
      figures_of_runs: `runs -> {name: Figure}` of what only the folders of several runs hold, such as learning curves.
      mark: `(comparison, all comparisons of the report) -> comparison` with the paper's bold and red numbers.
    """

    captions: Mapping[str, str] = field(default_factory=dict)
    derive: Callable[[Sequence[FinishedRun], Records, Sequence[FinishedRun]], list[dict]] = lambda *given: []
    figures: Callable[[Records], "dict[str, Figure]"] = lambda records: {}
    figures_of_runs: Callable[[Sequence[FinishedRun]], "dict[str, Figure]"] = lambda runs: {}
    mark: Callable[[Comparison, Sequence[Comparison]], Comparison] = lambda comparison, others: comparison


def find(experiment: str) -> Paper:
    """Returns what the report knows about an experiment."""
    name = f"{__name__}.{experiment}"
    if not experiment.isidentifier() or importlib.util.find_spec(name) is None:
        return Paper()
    return importlib.import_module(name).PAPER


def present(**figures: "Figure | None") -> "dict[str, Figure]":
    """Returns the figures that could be drawn."""
    return {name: figure for name, figure in figures.items() if figure is not None}
