"""Table 6 of Synbols beside the published numbers, its figures, and the reduction of a search, from made-up runs."""

import finished_runs
import pytest
from finished_runs import results_of, run_of

from jaxrepro.report import style
from jaxrepro.report.__main__ import main
from jaxrepro.report.papers import find
from jaxrepro.report.papers import synbols_few_shot as report

TASK = {
    "num_images": 1_000_000, "num_classes": 1099, "ways": 5, "shots": 5, "image_side": 32, "classes": "disjoint",
}  # fmt: skip
CHAR = "test char, train char"


def record(row, column, value, seed=0, **options):
    return finished_runs.record(row, column, value, seed, **{"table": "table6", "metric": "accuracy"} | options)


def written(folder, records, *, method="ProtoNet", train="char", lr=1e-3, best=50.0, log=(), write=run_of):
    config = {
        "version": "v1", "method": {"name": method}, "episodes": {"train": train}, "optim": {"lr": lr},
        "train": {"batch_size": 2},
    }  # fmt: skip
    results = results_of("synbols_few_shot", records, metrics={"valid/best_accuracy": best})
    return write(folder, results, config=config, log=log)


def test_a_cell_stands_beside_the_papers_and_one_on_other_data_is_kept_apart(tmp_path, capsys):
    small = record("MAML", CHAR, 55.5, facts=TASK | {"num_images": 60_000})
    dirs = [
        written(tmp_path / "a", [record("ProtoNet", CHAR, 97.5, facts=TASK)], write=finished_runs.write_run),
        written(tmp_path / "b", [small], method="MAML", write=finished_runs.write_run),
    ]
    assert main(dirs) == 0
    printed = capsys.readouterr().out
    assert "97.50" in printed
    assert "98.00 ± 0.08" in printed
    assert "60,000 instead of 1,000,000 images in all" in printed


def test_nothing_of_ours_is_the_later_tables_task_whose_parts_share_their_classes(tmp_path, capsys):
    cell = record("MAML", CHAR, 55.5, facts=TASK | {"ways": 3})
    config = {"version": "v2", "method": {"name": "MAML"}, "episodes": {"train": "char"}, "train": {"batch_size": 1}}
    folder = finished_runs.write_run(tmp_path / "a", results_of("synbols_few_shot", [cell]), config=config)
    assert main([folder]) == 0
    assert "ways 3 instead of 5, classes disjoint instead of shared by all parts" in capsys.readouterr().out


def test_a_cell_on_other_data_is_hollow_in_the_figure():
    small = record("MAML", CHAR, 55.5, facts=TASK | {"num_images": 60_000})
    figure = report.figures([record("ProtoNet", CHAR, 97.5, facts=TASK), small])["few_shot"]
    marks = {c.get_label(): c.lines[0] for ax in figure.axes for c in ax.containers}
    assert marks["ours, another task"].get_markerfacecolor() == "white"
    assert marks["ours"].get_markerfacecolor() == style.BLUE


def test_of_a_search_the_best_mean_validation_accuracy_is_reported_for_each_attribute(tmp_path, capsys):
    dirs = [
        written(tmp_path / f"{train}{lr}", [record("ProtoNet", f"test char, train {train}", value, facts=TASK)],
                train=train, lr=lr, best={"mean": best, "std": 1.0, "values": [best]}, write=finished_runs.write_run)
        for train, lr, best, value in (
            ("char", 1e-3, 60.0, 11.25), ("char", 1e-2, 70.0, 22.25), ("font", 1e-3, 40.0, 33.25),
            ("font", 1e-2, 30.0, 44.25),
        )
    ]  # fmt: skip
    assert main([*dirs, "--select=valid/best_accuracy:max"]) == 0
    printed = capsys.readouterr().out
    assert [value in printed for value in ("11.25", "22.25", "33.25", "44.25")] == [False, True, True, False]


def test_the_search_is_drawn_with_the_chosen_setting_ringed(tmp_path):
    cell = [record("ProtoNet", CHAR, 50.0)]
    runs = [
        written(tmp_path / str(i), cell, lr=lr, best=best) for i, (lr, best) in enumerate([(1e-3, 60.0), (1e-2, 70.0)])
    ]
    (panel,) = report.figures_of_runs(runs)["search"].axes
    ring = panel.lines[-1]
    assert (ring.get_markersize(), list(ring.get_xdata()), list(ring.get_ydata())) == (11, [1e-2], [70.0])
    same = [written(tmp_path / f"same{i}", cell) for i in range(2)]
    assert "search" not in report.figures_of_runs(same)
    assert report.figures_of_runs(runs[:1]) == {}


def test_validation_curves_count_episodes_not_steps(tmp_path):
    log = [(100, "valid", {"accuracy": [40.0]}), (200, "valid", {"accuracy": [50.0]})]
    runs = [
        written(tmp_path / m, [record(m, CHAR, 50.0)], method=m, log=log, train=t)
        for m, t in (("MAML", "char"), ("ProtoNet", "font"))
    ]
    char, font = report.figures_of_runs(runs)["validation_curves"].axes
    assert [line.get_label() for line in char.lines] == ["MAML"]
    assert [line.get_label() for line in font.lines] == ["ProtoNet"]
    assert list(char.lines[0].get_xdata()) == [200, 400]


def test_figures_show_methods_over_shots_and_ways_and_by_language():
    records = [record("ProtoNet", CHAR, v, seed, facts=TASK) for seed, v in enumerate((50.0, 60.0))]
    for kind, numbers in (("shots", (5, 1, 10)), ("ways", (2, 5))):
        records += [record("ProtoNet", f"{CHAR}, {n} {kind}", 40.0 + n, table=f"accuracy by {kind}") for n in numbers]
    records += [record("MAML", f"{CHAR}, {w}", 30.0, table="accuracy by language") for w in ("greek", "thai")]
    drawn = find("synbols_few_shot").figures(records)
    assert set(drawn) == {"few_shot", "shots_and_ways", "languages"} <= set(report.CAPTIONS)
    ours = [c for c in drawn["few_shot"].axes[0].containers if c.get_label() == "ours"]
    assert [float(c.lines[0].get_xdata()[0]) for c in ours] == [55.0]
    shots, ways = drawn["shots_and_ways"].axes
    assert list(shots.lines[0].get_xdata()) == [1, 5, 10]
    assert [line.get_label() for line in ways.lines] == ["ProtoNet", "chance"]
    assert list(ways.lines[1].get_ydata()) == pytest.approx([50, 20])
    assert find("synbols_few_shot").figures([]) == {}
