"""Table 5 of Synbols beside the published numbers, and its figures, from made-up runs."""

import finished_runs
from finished_runs import results_of

from jaxrepro.report.__main__ import main
from jaxrepro.report.papers import synbols_counting as report

TASK = {
    "num_images": 100_000, "num_train": 9_000, "num_classes": 26, "image_side": 128, "partition": "stratified_char",
    "test_split": "valid", "overlap": "none", "trunk": "ImageNet", "padding": 100,
}  # fmt: skip
COLUMN = "Fixed scale/Non-overlapping"


def record(row, value, metric="mae", column=COLUMN, table="table5", facts=TASK):
    return finished_runs.record(row, column, value, table=table, metric=metric, unit="objects", facts=facts)


def written(folder, records):
    config = {"version": "v1"}
    return finished_runs.write_run(folder, results_of("synbols_counting", records), config=config)


def test_a_cell_stands_beside_the_papers_and_one_of_another_task_is_kept_apart(tmp_path, capsys):
    other = TASK | {"trunk": "random weights", "num_images": 6_000, "num_train": 50, "overlap": "any"}
    other |= {"test_split": "valid, first 9"}
    dirs = [
        written(tmp_path / "a", [record("FCN8-L", 0.61), record("FCN8-L", 2.5, "game"), record("constant", 1.46)]),
        written(tmp_path / "b", [record("FCN8-D", 1.11, facts=other)]),
    ]
    assert main(dirs) == 0
    printed = capsys.readouterr().out
    assert "0.53 ± 0.04" in printed
    assert "0.61" in printed
    assert "1.46" in printed
    assert "6,000 instead of 100,000 images in all" in printed
    assert "50 instead of 9,000 training images" in printed
    assert "test split valid, first 9 instead of valid" in printed
    assert "trunk random weights instead of ImageNet" in printed
    assert "overlap any instead of none" in printed


def test_both_methods_of_a_sweep_bring_the_same_constant_and_are_joined(tmp_path, capsys):
    dirs = [
        finished_runs.write_run(
            tmp_path / f"{method} {seed}",
            results_of(
                "synbols_counting", [record(method, mae) | {"seed": seed}, record("constant", 1.4) | {"seed": seed}]
            ),
            config={"version": "v1", "method": {"name": method}},
        )
        for seed in (0, 1)
        for method, mae in (("FCN8-L", 0.5), ("FCN8-D", 1.1))
    ]
    for joined in (dirs, dirs[:1] + dirs[3:]):
        assert main(joined) == 0
        assert "1.4" in capsys.readouterr().out
    other = finished_runs.write_run(
        tmp_path / "other", results_of("synbols_counting", [record("constant", 1.5)]), config={"version": "v1"}
    )
    assert main([dirs[0], other]) == 2
    assert "both give table5, constant" in capsys.readouterr().err


def test_the_figure_has_a_panel_for_each_column_and_metric_and_a_line_for_the_constant():
    records = [record(row, value, m) for m in ("mae", "game") for row, value in (("FCN8-L", 0.6), ("constant", 1.5))]
    records += [record("FCN8-D", 2.0, column="Crowded", facts=TASK | {"padding": 1})]
    figure = report.figures(records)["counting"]
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == [COLUMN, "Crowded"]
    assert len(figure.axes) == 4
    labels = {label for ax in figure.axes for label in ax.get_legend_handles_labels()[1]}
    assert labels == {"ours", "ours, another task", "paper (v1)", "constant"}


def test_levels_are_drawn_over_the_number_of_cells():
    records = [
        record(row, 1.0 + level, "game", f"{COLUMN}, level {level}", report.BY_LEVEL)
        for row in ("FCN8-L", "constant")
        for level in range(4)
    ]
    (panel,) = report.figures(records)["game_levels"].axes
    assert [list(line.get_xdata()) for line in panel.lines] == [[1, 4, 16, 64]] * 2
    assert list(panel.lines[0].get_ydata()) == [1, 2, 3, 4]


def test_without_records_there_is_no_figure():
    assert report.figures([]) == {}
