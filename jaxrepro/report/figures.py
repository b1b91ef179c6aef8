"""Figures that need the records of several runs, by experiment.

    for name, figure in draw("yoto", records).items(): save_picture(out / f"{name}.png", figure)

A run draws them too, from its own records, as far as they go.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrepro.report import dcgan, yoto

FIGURES: dict[str, Callable[[Sequence[Mapping]], dict[str, Any]]] = {
    "dcgan": dcgan.figures,
    "yoto": yoto.figures,
}

CAPTIONS = {
    "frontier": "Figure 1a. Every point is one loss weight β (the numbers); the line joins the points that no other "
    "point of the same model beats in both losses.",
    "full_loss_difference": "Figure 1b. Full loss at β of the conditional models minus that of the fixed-weight 1× "
    "model trained at this β; below zero the conditional model is better.",
    "modifications": "Table 2. Mean losses over training, baseline and single modifications; values below the axis "
    "stand at its left edge. The report has no baseline and states neither data nor epochs.",
    "numbered_samples": "Samples to pick exemplars from, by number, for vector arithmetic by hand "
    "(config.eval.arithmetic.indices).",
    "latent_walks": "Nine equal steps from one latent to another, five times.",
    "arithmetic": "Rows a, b, c: the samples whose latents are averaged. Last row: a − b + c, then nine neighbours "
    "of it (uniform noise of 0.25).",
    "nearest_training_images": "Samples above the three training images nearest to them: does the model copy?",
    "filters_trained": "Guided backpropagation from the strongest response of six features, trained discriminator.",
    "filters_random": "The same with untrained weights.",
}


def draw(experiment: str, records: Sequence[Mapping]) -> dict[str, Any]:
    """Returns {name: matplotlib Figure} for the records of an experiment; {} where it has no such figures."""
    return FIGURES[experiment](records) if experiment in FIGURES else {}
