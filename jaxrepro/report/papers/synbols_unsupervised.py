"""Table 4 of Synbols beside the published numbers, the reproduction's deviations (its table 2), and figure 8.

Records are dicts {"table": "table4", "row": "VAE ResNet", "column": "char/Shades", "metric": "accuracy", "value",
"seed"}. What the reproduction prints as a deviation is the authors' later table minus its own number, not the paper's;
so is ours. One of its eighteen has the wrong sign, which its note says.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxrepro.report import style
from jaxrepro.report.comparison import column_of, of_another_task
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present
from jaxrepro.report.reference import PublishedSource, load_reference
from jaxrepro.report.runs import FinishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT, TABLE = "synbols_unsupervised", "table4"
ROWS = ("Deep InfoMax", "VAE", "HVAE (2 level)", "VAE ResNet", "HVAE (2 level) ResNet")
DATA = ("Solid Pattern", "Shades", "Camouflage")
COLUMNS = tuple(f"{attribute}/{data}" for attribute in ("char", "font") for data in DATA)
LABELS = ("ours", "paper (v1)", "repository (v2)", "reproduction (v2)")
IN_FIGURE_8 = ("VAE ResNet", "HVAE (2 level) ResNet")
NUM_SHOWN = 6  # images of a data set
CAPTIONS = {
    "representations": "Table 4. Accuracy of a perceptron on the codes of validation images, mean and one standard "
    "deviation over seeds. v1: 26 characters, 888 fonts; v2: 48 and 1,120.",
    "figure_8": "Figure 8. Validation images and what the autoencoders make of them.",
    "code_map": "Codes of validation images on their two principal axes, each drawn as its character.",
    "neighbours": "Validation images, each followed by those whose codes lie nearest.",
    "reconstructions": "Validation images and their reconstructions from the mean of the posterior.",
    "samples": "Images from latents of the prior.",
    "levels": "The same images with the latents of one level drawn from the prior: what stays is in the other level.",
    "traversal_all": "One image, one latent at a time from −3 to 3; those of the highest divergence.",
    "traversal_top": "The same of the top level.",
    "traversal_low": "The same of the lower level.",
    "kl_per_latent": "Divergence of every latent from the prior, mean over validation images; dotted: what counts as "
    "active.",
}

Cells = dict[tuple[str, str], list[float]]  # (row, column) -> one number per seed


def cells_of(records: Iterable[Mapping]) -> Cells:
    """Returns the accuracies of table 4 in percent."""
    found: Cells = {}
    for r in records:
        value = as_number(r["value"])
        if (r["table"], r["metric"]) == (TABLE, "accuracy") and not math.isnan(value):
            found.setdefault((r["row"], r["column"]), []).append(value)
    return found


def derive(runs: Sequence[FinishedRun], records: Sequence[Mapping], others: Sequence[FinishedRun]) -> list[dict]:
    """Returns our deviations in the reproduction's sense: the authors' later table minus ours, of the same task."""
    del runs, others
    published = [p for p in load_reference(EXPERIMENT, "v2") if (p.table, p.metric) == (TABLE, "accuracy")]
    later = {(p.row, p.column): p.value for p in published if p.source == PublishedSource.REPOSITORY}
    return [
        dict(r)
        | {"metric": "printed_deviation", "unit": "percent points", "value": later[cell] - as_number(r["value"])}
        for r in records
        if (r["table"], r["metric"]) == (TABLE, "accuracy")
        and (cell := (r["row"], r["column"])) in later
        and column_of(r, published) == r["column"]
    ]


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns {"representations": figure}, or {} without a cell of table 4."""
    records = [r for r in records if (r["table"], r["metric"]) == (TABLE, "accuracy")]
    published = [p for p in load_reference(EXPERIMENT) if (p.table, p.metric) == (TABLE, "accuracy")]
    return present(representations=draw_table(cells_of(records), of_another_task(records, published)))


def draw_table(ours: Cells, others: Collection[tuple[str, str]] = ()) -> "Figure | None":
    """Draws table 4, a panel per column, ours beside the published; None without a cell of it.

    Cells of `others` are hollow and say that they are not the published task.
    """
    from matplotlib.figure import Figure

    if not ours:
        return None
    published = {(p.label, p.row, p.column): p for p in load_reference(EXPERIMENT) if p.metric == "accuracy"}
    figure = Figure(figsize=(10.0, 5.2), layout="constrained")
    panels = figure.subplots(2, len(DATA), sharey=True)
    for ax, column in zip(panels.ravel(), COLUMNS, strict=True):
        style.style_axes(ax, column, xlabel="accuracy (%)")
        for y, row in enumerate(ROWS):
            for i, label in enumerate(LABELS):
                printed = published.get((label, row, column))
                if label == "ours" and (row, column) in ours:
                    mean, std = mean_and_std(ours[row, column])
                elif label != "ours" and printed:
                    mean, std = printed.value, printed.std
                else:
                    continue
                marker, colour = style.mark_of(label)
                look = {"fmt": marker, "color": colour, "markersize": 5, "label": label}
                if label == "ours" and (row, column) in others:
                    look |= style.ANOTHER_TASK
                ax.errorbar(mean, y + 0.18 * (i - 1.5), xerr=std, **look)
    for ax in panels[:, 0]:
        ax.set_yticks(range(len(ROWS)), ROWS)
        ax.set_ylim(len(ROWS) - 0.5, -0.5)
    style.add_legend(figure, panels.ravel())
    return figure


def figures_of_runs(runs: Sequence[FinishedRun]) -> "dict[str, Figure]":
    """Returns {"figure_8": figure} from what the runs keep; {} without two networks of a data set."""
    return present(figure_8=draw_figure_8(reconstructions_of(runs)))


def reconstructions_of(runs: Sequence[FinishedRun]) -> dict[str, dict[str, np.ndarray]]:
    """Returns data set -> {"original", row of the table: images uint8 [n, H, W, C]}, of each row's first run."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for run in runs:
        paths = sorted((run.folder / "arrays").glob("reconstructions*.npz"))
        if not paths:
            continue
        with np.load(paths[0]) as kept:
            images = found.setdefault(run.config["task"]["column"], {"original": kept["images"]})
            if np.array_equal(images["original"], kept["images"]):
                images.setdefault(run.config["model"]["name"], kept["outputs"])
    return found


def draw_figure_8(found: Mapping[str, Mapping[str, np.ndarray]]) -> "Figure | None":
    """Draws originals and reconstructions, a block per data set; the paper's two networks where both are there."""
    from matplotlib.figure import Figure

    blocks = {}
    for data in sorted(found, key=lambda name: DATA.index(name) if name in DATA else len(DATA)):
        rows = [r for r in ROWS if r in found[data]]
        chosen = IN_FIGURE_8 if set(IN_FIGURE_8) <= set(rows) else rows
        if len(chosen) > 1:
            blocks[data] = [("original", found[data]["original"]), *((row, found[data][row]) for row in chosen)]
    if not blocks:
        return None
    height = max(map(len, blocks.values()))
    figure = Figure(figsize=(3.6 * len(blocks) + 1.4, 0.62 * height + 0.5), layout="constrained")
    panels = figure.subplots(height, len(blocks), squeeze=False)
    for column, (data, rows) in zip(panels.T, blocks.items(), strict=True):
        column[0].set_title(data, **style.TITLE)
        for ax, (label, images) in zip(column, rows):
            ax.imshow(np.concatenate(list(images[:NUM_SHOWN]), axis=1), interpolation="nearest")
            ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        for ax in column:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    return figure


PAPER = Paper(captions=CAPTIONS, derive=derive, figures=figures, figures_of_runs=figures_of_runs)
