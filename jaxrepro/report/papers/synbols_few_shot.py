"""Table 6 of Synbols: few-shot accuracies beside the published ones, over shots, ways and languages; the search.

Records are dicts {"table", "row", "column", "metric", "value", "seed"} as the runs wrote them; rows are methods,
columns "test font, train char", with ", 10 ways" behind in the tables beside it.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxrepro.report import style
from jaxrepro.report.comparison import of_another_task
from jaxrepro.report.numbers import as_number, mean_and_std
from jaxrepro.report.papers import Paper, present
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import Curve, FinishedRun, read_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "table6"
ROWS = ("ProtoNet", "RelationNet", "MAML")
COLUMNS = ("test char, train char", "test char, train font", "test font, train font", "test font, train char")
COLOURS = dict(zip(ROWS, (style.BLUE, style.AMBER, style.GREEN), strict=True))
LABELS = ("ours", "paper (v1)", "repository (v2)")
CAPTIONS = {
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
}
NUMBERS = ("shots", "ways")  # of which there are tables "accuracy by …"
BEST = "best_accuracy"  # of the validation

Cells = dict[tuple[str, str], list[float]]  # (row, column) -> one number per seed


def cells_of(records: Iterable[Mapping], table: str) -> Cells:
    """Returns the accuracies in percent of one of our tables."""
    found: Cells = {}
    for r in records:
        value = as_number(r["value"])
        if r["table"] == table and r["metric"] == "accuracy" and not math.isnan(value):
            found.setdefault((r["row"], r["column"]), []).append(value)
    return found


def figures(records: Iterable[Mapping]) -> "dict[str, Figure]":
    """Returns the figures that the records have data for: "few_shot", "shots_and_ways", "languages"."""
    records = list(records)
    own = [r for r in records if r["table"] == TABLE and r["metric"] == "accuracy"]
    published = [p for p in load_reference("synbols_few_shot") if p.table == TABLE]
    return present(
        few_shot=draw_table(cells_of(records, TABLE), of_another_task(own, published)),
        shots_and_ways=draw_numbers({n: cells_of(records, f"accuracy by {n}") for n in NUMBERS}),
        languages=draw_languages(cells_of(records, "accuracy by language")),
    )


def figures_of_runs(runs: Sequence[FinishedRun]) -> "dict[str, Figure]":
    """Returns "validation_curves" of two runs or more, and "search" where a method was tried with several settings."""
    if len(runs) < 2:
        return {}
    return present(validation_curves=draw_curves(runs), search=draw_search(runs))


def draw_table(ours: Cells, others: Collection[tuple[str, str]] = ()) -> "Figure | None":
    """Draws table 6, a panel per column, ours beside the published; bars are one sample standard deviation.

    None without a cell of it. Cells of `others` are hollow and say that they are not the published task.
    """
    from matplotlib.figure import Figure

    if not ours:
        return None
    published = {(p.label, p.row, p.column): p for p in load_reference("synbols_few_shot")}
    figure = Figure(figsize=(3.0 * len(COLUMNS), 2.4), layout="constrained")
    panels = figure.subplots(1, len(COLUMNS), sharey=True)
    for ax, column in zip(panels, COLUMNS):
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
                ax.errorbar(mean, y + 0.2 * (i - 1), xerr=std, **look)
    panels[0].set_yticks(range(len(ROWS)), ROWS)
    panels[0].set_ylim(len(ROWS) - 0.5, -0.5)
    style.add_legend(figure, panels)
    return figure


def by_number(cells: Cells) -> dict[tuple[str, str], dict[int, float]]:
    """Returns (row, column) -> {number: mean over seeds}, of columns such as "test char, train char, 10 ways"."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for (row, column), values in cells.items():
        if match := re.fullmatch(r"(.+), (\d+) \w+", column):
            found.setdefault((row, match[1]), {})[int(match[2])] = mean_and_std(values)[0]
    return {cell: dict(sorted(values.items())) for cell, values in found.items()}


def draw_numbers(tables: Mapping[str, Cells]) -> "Figure | None":
    """Draws accuracy over the number of shots and of ways, a panel per column of table 6, a line per method.

    Dotted is chance. None without two numbers of anything.
    """
    from matplotlib.figure import Figure

    lines = {kind: by_number(cells) for kind, cells in tables.items()}
    columns = [c for c in COLUMNS if any(column == c for found in lines.values() for _, column in found)]
    if not any(len(values) > 1 for found in lines.values() for values in found.values()):
        return None
    figure = Figure(figsize=(2.9 * len(columns) + 0.8, 4.6), layout="constrained")
    panels = figure.subplots(len(lines), len(columns), squeeze=False, sharey="row")
    for row_of_panels, (kind, found) in zip(panels, lines.items()):
        for ax, column in zip(row_of_panels, columns):
            xlabel = "ways (classes)" if kind == "ways" else "shots (support images of a class)"
            style.style_axes(ax, column, xlabel=xlabel)
            numbers = sorted({n for (_, c), values in found.items() if c == column for n in values})
            for method in ROWS:
                if values := found.get((method, column)):
                    ax.plot(values.keys(), values.values(), "o-", color=COLOURS[method], markersize=4, label=method)
            if kind == "ways" and numbers:
                ax.plot(numbers, [100 / n for n in numbers], ":", color=style.GREY, label="chance")
            ax.set_xticks(numbers)
        row_of_panels[0].set_ylabel("accuracy (%)", fontsize=9)
    style.add_legend(figure, panels.ravel())
    return figure


def draw_languages(cells: Cells) -> "Figure | None":
    """Draws accuracy by the language of the query's symbol, a panel per column of table 6; None for one language."""
    from matplotlib.figure import Figure

    split = {(row, *column.rsplit(", ", 1)): mean_and_std(values)[0] for (row, column), values in cells.items()}
    columns = [c for c in COLUMNS if any(column == c for _, column, _ in split)]
    means: dict[str, list[float]] = {}
    for (_, _, language), value in split.items():
        means.setdefault(language, []).append(value)
    if len(means) < 2:
        return None
    languages = sorted(means, key=lambda language: -math.fsum(means[language]) / len(means[language]))
    figure = Figure(figsize=(2.9 * len(columns) + 1.2, 0.28 * len(languages) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for ax, column in zip(panels, columns):
        style.style_axes(ax, column, xlabel="accuracy (%)")
        for method in ROWS:
            places = [(split[method, column, n], y) for y, n in enumerate(languages) if (method, column, n) in split]
            if places:
                ax.plot(*zip(*places), "o", color=COLOURS[method], markersize=5, label=method)
    panels[0].set_yticks(range(len(languages)), languages)
    panels[0].invert_yaxis()
    style.add_legend(figure, panels)
    return figure


def setting(run: FinishedRun) -> tuple[str, str]:
    """Returns (method, attribute of training) of a run."""
    return run.config["method"]["name"], run.config["episodes"]["train"]


def draw_curves(runs: Sequence[FinishedRun]) -> "Figure":
    """Draws the accuracy on the validation episodes over training, a panel per attribute; bands as over seeds."""
    from matplotlib.figure import Figure

    attributes = sorted({setting(run)[1] for run in runs})
    figure = Figure(figsize=(4.6 * len(attributes), 3.2), layout="constrained")
    panels = figure.subplots(1, len(attributes), squeeze=False, sharey=True)[0]
    for ax, attribute in zip(panels, attributes):
        style.style_axes(ax, f"train {attribute}", xlabel="training episodes")
        for run in sorted(runs, key=lambda run: ROWS.index(setting(run)[0])):
            method, trained_on = setting(run)
            curve = read_curves(run.folder / "metrics.jsonl").get("accuracy", {}).get("valid", Curve([], []))
            if trained_on != attribute or not curve.steps:
                continue
            episodes = [step * run.config["train"]["batch_size"] for step in curve.steps]
            means, stds = curve.over_seeds()
            ax.plot(episodes, means, color=COLOURS[method], linewidth=1.4, label=method)
            style.draw_band(ax, episodes, means, stds, COLOURS[method])
    panels[0].set_ylabel("validation accuracy (%)", fontsize=9)
    style.add_legend(figure, panels)
    return figure


def best_accuracy(run: FinishedRun) -> float:
    """Returns the best validation accuracy of a run, mean over its seeds; nan where it has none."""
    value = run.results.metrics.get(f"valid/{BEST}") if run.results else None
    return as_number(value["mean"] if isinstance(value, Mapping) else value)


def draw_search(runs: Sequence[FinishedRun]) -> "Figure | None":
    """Draws the best validation accuracy of every setting tried over its learning rate; the ringed one is reported.

    None where no method was tried twice on one attribute.
    """
    from matplotlib.figure import Figure

    groups: dict[tuple[str, str], list[FinishedRun]] = {}
    for run in runs:
        if not math.isnan(best_accuracy(run)):
            groups.setdefault(setting(run), []).append(run)
    tried = [{str(r.config["optim"]) + str(r.config["method"]) for r in group} for group in groups.values()]
    if not any(len(settings) > 1 for settings in tried):
        return None
    attributes = sorted({attribute for _, attribute in groups})
    figure = Figure(figsize=(4.6 * len(attributes), 3.2), layout="constrained")
    panels = figure.subplots(1, len(attributes), squeeze=False, sharey=True)[0]
    for ax, attribute in zip(panels, attributes):
        style.style_axes(ax, f"train {attribute}", xlabel="learning rate")
        ax.set(xscale="log")
        for method in ROWS:
            group = groups.get((method, attribute), [])
            points = [(run.config["optim"]["lr"], best_accuracy(run)) for run in group]
            if points:
                ax.plot(*zip(*points), "o", color=COLOURS[method], markersize=5, alpha=0.8, label=method)
                chosen = max(points, key=lambda point: point[1])
                ax.plot(*chosen, "o", markersize=11, markerfacecolor="none", markeredgecolor=COLOURS[method])
    panels[0].set_ylabel("best validation accuracy (%)", fontsize=9)
    style.add_legend(figure, panels)
    return figure


PAPER = Paper(captions=CAPTIONS, figures=figures, figures_of_runs=figures_of_runs)
