"""Figures that need the records of several runs, by experiment.

    for name, figure in draw("yoto", records).items(): save_picture(out / f"{name}.png", figure)

A run draws them too, from its own records, as far as they go.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrepro.report import yoto

FIGURES: dict[str, Callable[[Sequence[Mapping]], dict[str, Any]]] = {"yoto": yoto.figures}

CAPTIONS = {
    "frontier": "Figure 1a. Every point is one loss weight β (the numbers); the line joins the points that no other "
    "point of the same model beats in both losses.",
    "full_loss_difference": "Figure 1b. Full loss at β of the conditional models minus that of the fixed-weight 1× "
    "model trained at this β; below zero the conditional model is better.",
}


def draw(experiment: str, records: Sequence[Mapping]) -> dict[str, Any]:
    """Returns {name: matplotlib Figure} for the records of an experiment; {} where it has no such figures."""
    return FIGURES[experiment](records) if experiment in FIGURES else {}
