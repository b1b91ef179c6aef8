"""Table 1 beside the published numbers of the same data, deviations, costs and figures, from made-up runs."""

import pytest
from finished_runs import record, results_of, run_of, write_run

from jaxrepro.errors import UserError
from jaxrepro.report import style
from jaxrepro.report.__main__ import main, make_parts
from jaxrepro.report.comparison import compare
from jaxrepro.report.grids import grid_of, to_markdown
from jaxrepro.report.merge import merge_runs
from jaxrepro.report.papers import classifier_figures, find, synbols_supervised
from jaxrepro.report.reference import load_reference
from jaxrepro.report.results import Timing

DEFAULT = "Synbols Default 100k"
FACTS = {"num_classes": 26, "num_train": 60_000, "num_test": 20_000, "partition": "random", "validated_on": "valid"}
PAPER = find("synbols_supervised")


def accuracy(row, column, *values, table="table1", **facts):
    options = {"table": table, "metric": "accuracy", "facts": FACTS | facts}
    return [record(row, column, v, i, **options) for i, v in enumerate(values)]


def made(folder, records, *, version="v1", log=(), batch_size=512, watts=200.0, **changes):
    config = {"version": version, "energy": {"watts": watts, "grams_per_kwh": 500.0}}
    config["train"] = {"batch_size": batch_size}
    results = results_of("synbols_supervised", records, **changes)
    return run_of(folder, results, config=config, log=log)


def test_ours_stands_beside_the_numbers_of_its_own_data_only_and_cells_not_run_say_so(tmp_path):
    cells = (("MLP", 30.0), ("ResNet-12", 95.0))
    runs = [made(tmp_path / row, accuracy(row, DEFAULT, value)) for row, value in cells]
    for version, labels in (("v1", {"paper (v1)"}), ("v2", {"repository (v2)", "reproduction (v2)"})):
        (table,) = compare(merge_runs(runs), load_reference("synbols_supervised", version), complete=True)
        assert labels <= set(table.labels)
        assert all(version in label for label in table.labels[1:])
    text = to_markdown(compare(merge_runs(runs), load_reference("synbols_supervised", "v1"), complete=True))
    head = "| MNIST | SVHN | Synbols Default 100k | Synbols Default 1M | Camouflage 100k | Korean 100k |"
    assert head in text
    assert "| MLP | ours | not run | not run | 30.00 (+4.23) | not run | not run |" in text
    assert "98.51 ± 0.02 | 85.04 ± 0.21 | 34.23 ± 0.36 | 74.41 ± 0.47 | 14.70 ± 0.20 | 0.09 ± 0.01 |" in text


def test_runs_on_two_versions_of_the_data_cannot_share_a_table(tmp_path):
    records = accuracy("MLP", DEFAULT, 30.0)
    runs = [made(tmp_path / "a", records), made(tmp_path / "b", records, version="v2")]
    with pytest.raises(UserError, match="versions of synbols_supervised differ"):
        merge_runs(runs)


def test_a_run_on_ten_fonts_is_not_set_against_888_of_them(tmp_path):
    """A fresh install has ten: "ours 13.74, paper 0.12" was printed without a word."""
    column = "Less Variations 100k"
    run = made(tmp_path, accuracy("MLP", column, 13.74, num_classes=10, num_train=1200, num_test=400))
    (table,) = compare(run.records, load_reference("synbols_supervised", "v1"))
    own = f"{column}: 10 instead of 888 classes, 1,200 instead of 60,000 training images, "
    own += "400 instead of 20,000 test images"
    assert table.columns == (column, own)
    assert table.text("MLP", column, "ours") == "not run"
    assert table.text("MLP", own, "ours") == "13.74"
    assert table.text("MLP", own, "paper (v1)") == "–"


@pytest.mark.parametrize(("version", "classes", "text"), [("v1", 26, "+3.23"), ("v2", 48, "−16.17")])
def test_a_deviation_is_the_published_number_of_the_same_data_minus_ours(version, classes, text):
    records = accuracy("MLP", DEFAULT, 30.0, 32.0, num_classes=classes)
    (table,) = compare(records, load_reference("synbols_supervised", version))
    assert table.text("MLP", DEFAULT, "ours") == f"31.00 ± 1.41 ({text})"


def test_the_deviations_of_the_reproduction_follow_from_the_same_rule():
    """Its printed deviations are the authors' later number minus its own: so are ours."""
    published = [p for p in load_reference("synbols_supervised", "v2") if p.table == "table1"]
    reproduction = [p for p in published if p.source == "reproduction"]
    ours = [record(p.row, p.column, p.value, table="table1", metric="accuracy", facts=p.facts) for p in reproduction]
    (table,) = compare(ours, published)
    agree = 0
    for p in reproduction:
        deviation = table.deviation(p.row, p.column)
        assert table.compared_with(p.row, p.column) == "repository (v2)"
        agree += f"printed deviation {deviation:+.2f}" in p.note or f"printed deviation {deviation:+.1f} " in p.note
    assert agree == 24  # of 28; the other four are misprints


def test_the_best_of_a_column_and_what_is_within_two_of_its_deviations_is_bold():
    published = load_reference("synbols_supervised", "v1")
    (table,) = compare(accuracy("MLP", "MNIST", 90.0, num_classes=10), published, complete=True)
    table = synbols_supervised.mark(table, [])
    bold = {row for (row, column, label) in table.marks if (column, label) == ("MNIST", "paper (v1)")}
    assert bold == {"WRN-28-4+", "ResNet-12+", "ResNet-12"}  # 99.74, 99.73 and 99.70; the best has 0.03
    assert "**99.74 ± 0.03**" in to_markdown([table])


def test_costs_are_time_times_the_stated_power_per_seed(tmp_path):
    records = accuracy("MLP", DEFAULT, 30.0, 31.0)
    run = made(tmp_path, records, timing=Timing(seconds=3600.0, steps=50), step=100)
    found = {(r["metric"], r["seed"]): (r["value"], r["unit"]) for r in synbols_supervised.cost_records([run])}
    # Half of the steps in an hour: two hours for two seeds.
    assert found["time", 0] == (pytest.approx(60.0), "minutes")
    assert found["energy", 1] == (pytest.approx(0.2), "kWh")
    assert found["CO₂", 0] == (pytest.approx(100), "g")
    notes = {r["note"] for r in synbols_supervised.cost_records([run])}
    assert len(notes) == 1
    assert "time × the 200 W and 500 g CO₂ per kWh that the config states" in notes.pop()


def test_several_runs_have_a_total_cost_beside_that_of_the_reproduction(tmp_path):
    timing = Timing(seconds=3600.0, steps=100)
    runs = [made(tmp_path / row, accuracy(row, DEFAULT, 30.0), timing=timing) for row in ("MLP", "Conv-4 GAP")]
    (part,) = make_parts(runs)
    total = next(c for c in part.comparisons if (c.table, c.metric) == ("cost of all runs", "time"))
    assert total.text("these 2 runs of table 1", "total", "ours") == "2.000"
    rows = ("MLP", "ResNet-12")
    later = [made(tmp_path / f"{r} v2", accuracy(r, DEFAULT, 30.0), version="v2", timing=timing) for r in rows]
    (part,) = make_parts(later)
    total = next(c for c in part.comparisons if (c.table, c.metric) == ("cost of all runs", "time"))
    assert total.text("supervised and unsupervised tables", "total", "reproduction (v2)") == "194"


def test_the_total_cost_states_the_power_of_every_run(tmp_path):
    timing = Timing(seconds=3600.0, steps=100)
    runs = [made(tmp_path / f"{w}", accuracy(f"Conv-{w}", DEFAULT, 1.0), timing=timing, watts=w) for w in (100, 300)]
    total = [r for r in synbols_supervised.cost_records(runs) if r["table"] == "cost of all runs"]
    assert {r["metric"]: r["value"] for r in total} == pytest.approx({"time": 2.0, "energy": 0.4, "CO₂": 200.0})
    assert all("100 or 300 W and 500 g CO₂ per kWh that the configs state" in r["note"] for r in total)


def test_a_selection_reports_the_cost_of_the_chosen_runs_alone(tmp_path):
    runs = [
        made(tmp_path / str(i), accuracy("MLP", DEFAULT, value), metrics={"valid/loss": loss}, step=100,
             timing=Timing(seconds=60.0 * minutes, steps=100))
        for i, (value, loss, minutes) in enumerate([(30.0, 0.1, 5.0), (20.0, 0.2, 50.0)])
    ]  # fmt: skip
    (part,) = make_parts(runs, "valid/loss:min")
    time = next(c for c in part.comparisons if c.metric == "time")
    assert time.text("MLP", DEFAULT, "ours") == "5.000"
    assert "cost of all runs" not in {c.table for c in part.comparisons}


def test_the_cost_of_another_task_stands_in_a_column_of_its_own(tmp_path):
    records = accuracy("ResNet-12", DEFAULT, 95.0, num_classes=4)
    (part,) = make_parts([made(tmp_path, records, timing=Timing(seconds=600.0, steps=100))])
    other = f"{DEFAULT}: 4 instead of 26 classes"
    for c in part.comparisons:
        assert (c.number("ResNet-12", DEFAULT, "ours"), c.number("ResNet-12", other, "paper (v1)")) == (None, None)
        assert c.number("ResNet-12", other, "ours"), c.title


def test_a_published_time_stands_beside_ours(tmp_path):
    records = accuracy("ResNet-12", DEFAULT, 95.0)
    (part,) = make_parts([made(tmp_path, records, timing=Timing(seconds=600.0, steps=100))])
    time = next(c for c in part.comparisons if c.metric == "time")
    assert (time.text("ResNet-12", DEFAULT, "ours"), time.text("ResNet-12", DEFAULT, "paper (v1)")) == ("10.00", "3")
    assert any("on a V100" in note for note in grid_of(time).notes)


def test_a_run_without_a_time_has_no_cost(tmp_path):
    assert synbols_supervised.cost_records([made(tmp_path, accuracy("MLP", DEFAULT, 30.0))]) == []


def test_a_panel_per_column_shows_ours_and_all_publications():
    records = [
        *accuracy("MLP", DEFAULT, 30.0, 31.0),
        *accuracy("Conv-4 GAP", "Camouflage 100k", 40.0, num_train=12_000),
    ]
    figure = PAPER.figures(records)["accuracies"]
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [DEFAULT, "Camouflage 100k"]
    labels = [set(ax.get_legend_handles_labels()[1]) for ax in figure.axes]
    assert labels[0] == {"ours", "paper (v1)", "repository (v2)", "reproduction (v2)"}
    ours = {c.get_label(): c for ax in figure.axes for c in ax.containers if c.get_label().startswith("ours")}
    faces = {label: c.lines[0].get_markerfacecolor() for label, c in ours.items()}
    assert faces == {"ours": style.BLUE, "ours, another task": "white"}  # fewer images
    assert PAPER.figures([]) == {}


def log_of(*losses):
    return [
        (100 * (i + 1), split, {"loss": [v + offset], "accuracy": [10 * v]})
        for i, v in enumerate(losses)
        for split, offset in (("train", 0.5), ("valid", 0.0))
    ]


def test_learning_curves_show_both_losses_and_the_accuracy_of_all_seeds_over_the_images_seen(tmp_path):
    runs = [
        made(tmp_path / "a", accuracy("MLP", DEFAULT, 30.0), log=log_of(3.0, 2.0)),
        made(tmp_path / "b", accuracy("MLP", DEFAULT, 31.0), log=log_of(5.0)),  # stopped earlier
        made(tmp_path / "c", accuracy("WRN-28-4+", DEFAULT, 70.0), log=log_of(4.0, 1.0), batch_size=128),
    ]
    logs = classifier_figures.read_logs(runs)
    seen, means, stds = classifier_figures.curve_of(runs[:2], logs, "valid", "loss")
    assert (seen, means) == ([51.2, 102.4], [4.0, 2.0])
    assert stds == pytest.approx([2**0.5, 0])
    train, valid, right = PAPER.figures_of_runs(runs)["learning_curves"].axes
    assert [ax.get_ylabel() for ax in (train, valid, right)] == list(classifier_figures.CURVES.values())
    assert list(train.lines[0].get_ydata()) == [4.5, 2.5]
    assert {line.get_label(): line.get_linestyle() for line in valid.lines} == {"MLP": "-", "WRN-28-4+": "--"}
    assert list(valid.lines[1].get_xdata()) == [12.8, 25.6]
    assert list(right.lines[0].get_ydata()) == [40.0, 20.0]
    assert PAPER.figures_of_runs(runs[:1]) == {}


def test_models_that_nobody_measured_on_the_columns_shown_have_no_line():
    rows = ("MLP", "Conv-4 Flat", "Conv-4 GAP")
    records = [r for row in rows for r in accuracy(row, "Black and white, a_long_name_of_a_partition", 50.0)]
    panel = PAPER.figures(records)["accuracies"].axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == list(rows)
    assert panel.get_title(loc="left") == "Black and white, a long name\nof a partition"


def test_the_command_writes_the_curves_of_several_runs(tmp_path):
    folders = []
    for name, row in (("a", "MLP"), ("b", "Conv-4 GAP")):
        results = results_of("synbols_supervised", accuracy(row, DEFAULT, 30.0))
        config = {"version": "v1", "train": {"batch_size": 512}}
        folders.append(write_run(tmp_path / name, results, config=config, log=log_of(3.0)))
    out = tmp_path / "report"
    assert main([*folders, f"--out={out}"]) == 0
    assert (out / "figures" / "synbols_supervised_learning_curves.png").stat().st_size > 1000
    assert "Figure 1 of the reproduction." in (out / "tables.html").read_text()
