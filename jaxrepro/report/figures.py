"""Figures and cells that need the records of several runs, by experiment.

    for name, figure in draw("yoto", records).items(): save_picture(out / f"{name}.png", figure)

A run draws them too, from its own records, as far as they go.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrepro.report import dcgan, sesn, synbols_classification, synbols_few_shot, yoto
from jaxrepro.report.runs import Run

FIGURES: dict[str, Callable[[Sequence[Mapping]], dict[str, Any]]] = {
    "dcgan": dcgan.figures,
    "sesn": sesn.figures,
    "synbols_few_shot": synbols_few_shot.figures,
    "synbols_ood": synbols_classification.figures,
    "synbols_supervised": synbols_classification.figures,
    "yoto": yoto.figures,
}

FIGURES_OF_RUNS: dict[str, Callable[[Sequence[Run]], dict[str, Any]]] = {
    "synbols_few_shot": synbols_few_shot.figures_of_runs,
    "synbols_ood": synbols_classification.figures_of_runs,
    "synbols_supervised": synbols_classification.figures_of_runs,
}

DERIVED: dict[str, Callable[[Sequence[Run], Sequence[Mapping]], list[dict]]] = {
    "sesn": sesn.derived,
    "synbols_ood": synbols_classification.derived,
    "synbols_supervised": synbols_classification.derived,
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
    "table2": "Test errors by method and column. The reproduction most likely pools runs without and with scaling "
    "augmentation: its numbers are to be compared with the squares and the bars, not with the dots.",
    "accuracies": "Test accuracies by model and data set, mean and one standard deviation over seeds; hollow where "
    "ours is trained on fewer images. Paper: 26 letters (v1). The authors' later table, which the reproduction re-ran: "
    "48 symbols (v2).",
    "learning_curves": "Figure 1 of the reproduction. Loss and accuracy on the validation set, mean and one standard "
    "deviation over seeds; training ends with the fourth fall of the learning rate.",
    "confusion": "How often images of a class (rows) get another label (columns), and the most frequent mistakes.",
    "mistakes": "Wrong labels with the greatest probability.",
    "split": "Which images are train, valid and test. Letters are numbered in the order of the alphabet, fonts in that "
    "of their names.",
    "few_shot": "Table 6. Accuracy on episodes of classes that training never saw, mean and one standard deviation "
    "over seeds. Paper: 1099 symbols, 678 fonts (v1); the loader of the authors' later table (v2) wraps pixels around.",
    "validation_curves": "Accuracy on the validation's episodes, mean and one standard deviation over seeds.",
    "shots_and_ways": "The same with other numbers of support images and of classes; training is unchanged.",
    "languages": "The same by the language of a query's symbol, English first where several write it.",
    "search": "Every setting tried; the ringed one, best in validation, is reported.",
    "episode_char": "An episode of characters: the support, and queries with the class they were taken for.",
    "episode_font": "An episode of fonts: the support, and queries with the class they were taken for.",
    "vectors_char": "What the method compares (of MAML: logits after its steps), on two principal axes.",
    "vectors_font": "What the method compares (of MAML: logits after its steps), on two principal axes.",
    "hardest_char": "The characters that were mixed up most in episodes with both.",
    "hardest_font": "The fonts that were mixed up most in episodes with both.",
    "equivariance": "How far feature maps are from following a change of scale, before pooling, on the test digits "
    "that were shrunk least; 0 is perfect. Maps are zoomed on their own grid, so 0 is out of reach even in theory.",
    "feature_maps": "The loudest channel of a stage for a digit and for the same digit rescaled. For a "
    "scale-equivariant network the fourth and the fifth picture agree.",
}


def derive(experiment: str, runs: Sequence[Run], records: Sequence[Mapping]) -> list[dict]:
    """Returns records that follow from runs and their records, such as times; [] where an experiment has none."""
    return DERIVED[experiment](runs, records) if experiment in DERIVED else []


def draw(experiment: str, records: Sequence[Mapping]) -> dict[str, Any]:
    """Returns {name: matplotlib Figure} for the records of an experiment; {} where it has no such figures."""
    return FIGURES[experiment](records) if experiment in FIGURES else {}


def draw_runs(experiment: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Returns {name: matplotlib Figure} of what only the folders of several runs hold, such as learning curves."""
    return FIGURES_OF_RUNS[experiment](runs) if experiment in FIGURES_OF_RUNS else {}
