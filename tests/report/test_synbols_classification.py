"""Tables 1 and 2 beside the published numbers of the same data, deviations and costs, from made-up runs."""

import json
from pathlib import Path

import pytest

from jaxrepro.errors import UserError
from jaxrepro.report import synbols_classification as report
from jaxrepro.report.__main__ import main
from jaxrepro.report.figures import CAPTIONS, derive, draw, draw_runs
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import Run
from jaxrepro.report.tables import MISSING, join, merge_runs, to_markdown

DEFAULT = "Synbols Default 100k"


def accuracy(row, column, *values, table="table1"):
    cell = {"table": table, "row": row, "column": column, "metric": "accuracy", "unit": "percent"}
    return [cell | {"value": v, "seed": i} for i, v in enumerate(values)]


def run_of(records, *, version="v1", timing=None, step=100, seeds=(3,), name="run"):
    config = {"version": version, "seeds": list(seeds), "energy": {"watts": 200.0, "grams_per_kwh": 500.0}}
    results = {"experiment": "synbols_supervised", "preset": "paper", "records": records, "step": step}
    return Run(Path(name), results | {"timing": timing or {}}, {"config": config})


def test_ours_stands_beside_the_numbers_of_its_own_data_only_and_missing_cells_say_so():
    runs = [run_of(accuracy("MLP", DEFAULT, 30.0)), run_of(accuracy("Conv-4 GAP", DEFAULT, 75.0), name="other")]
    for version, labels in (("v1", {"paper (v1)"}), ("v2", {"repository (v2)", "reproduction (v2)"})):
        table = join(merge_runs(runs), load_reference("synbols_supervised", version), complete=True)
        assert labels <= set(table.labels)
        assert all(version in label for label in table.labels)
    text = to_markdown(join(merge_runs(runs), load_reference("synbols_supervised", "v1"), complete=True))
    assert "| MLP | Synbols Default 100k | 30.00 | 34.23 ± 0.36 |" in text
    assert f"| ResNet-12 | MNIST | {MISSING} | 99.70 ± 0.05 |" in text


def test_runs_on_two_versions_of_the_data_cannot_share_a_table():
    runs = [run_of(accuracy("MLP", DEFAULT, 30.0)), run_of(accuracy("MLP", DEFAULT, 14.0), version="v2")]
    with pytest.raises(UserError, match="versions of synbols_supervised differ"):
        merge_runs(runs)


@pytest.mark.parametrize(("version", "printed"), [("v1", 34.23), ("v2", 14.83)])
def test_a_deviation_is_the_published_number_of_the_same_data_minus_ours(version, printed):
    run = run_of([*accuracy("MLP", DEFAULT, 30.0, 32.0), *accuracy("MLP", "Black and white", 50.0)], version=version)
    found = [r for r in derive("synbols_supervised", [run], run.records) if r["table"].startswith("deviation")]
    assert [r["value"] for r in found] == pytest.approx([printed - 30, printed - 32])
    assert {(r["row"], r["column"], r["unit"]) for r in found} == {("MLP", DEFAULT, "points")}


def test_the_deviations_of_the_reproduction_follow_from_the_same_rule():
    """Its printed deviations are the authors' later number minus its own: so are ours."""
    published = {(p.source, p.row, p.column): p for p in load_reference("synbols_supervised", "v2")}
    ours = [
        {"table": "table1", "metric": "accuracy", "seed": 0, "unit": "percent"}
        | {"row": row, "column": column, "value": p.value}
        for (source, row, column), p in published.items()
        if source == "reproduction"
    ]
    agree = 0
    for r in report.deviation_records(run_of(ours, version="v2"), list(published.values())):
        note = published["reproduction", r["row"], r["column"]].note
        agree += f"printed deviation {r['value']:+.2f}" in note or f"printed deviation {r['value']:+.1f} " in note
    assert agree == 24  # of 28; the other four are misprints


def test_costs_are_time_times_the_stated_power_per_seed():
    records = accuracy("MLP", DEFAULT, 30.0, 31.0)
    run = run_of(records, timing={"seconds": 3600.0, "steps": 50}, step=100, seeds=(3, 42))
    found = {(r["metric"], r["seed"]): r["value"] for r in report.cost_records(run)}
    # Half of the steps in an hour: two hours for two seeds.
    assert found["time", 3] == pytest.approx(1.0)
    assert found["energy", 42] == pytest.approx(0.2)
    assert found["CO₂", 3] == pytest.approx(100)
    assert {r["table"] for r in report.cost_records(run)} == {"cost of a run (estimate at 200 W and 500 g CO₂ per kWh)"}


def test_a_run_without_a_time_has_no_cost():
    assert report.cost_records(run_of(accuracy("MLP", DEFAULT, 30.0))) == []


def test_a_panel_per_column_shows_ours_and_all_publications():
    records = [*accuracy("MLP", DEFAULT, 30.0, 31.0), *accuracy("Conv-4 GAP", "Camouflage 100k (12,000 images)", 40.0)]
    figure = draw("synbols_supervised", records)["accuracies"]
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [DEFAULT, "Camouflage 100k (12,000\nimages)"]
    labels = [set(ax.get_legend_handles_labels()[1]) for ax in figure.axes]
    assert labels[0] == {"ours", "paper (v1)", "repository (v2)", "reproduction (v2)"}
    ours = [c for ax in figure.axes for c in ax.containers if c.get_label() == "ours"]
    assert [c.lines[0].get_markerfacecolor() for c in ours] == ["#2563eb", "white"]
    assert draw("synbols_supervised", []) == {}
    assert "accuracies" in CAPTIONS


def test_a_column_of_fewer_images_belongs_to_the_published_one():
    assert report.published_column("Synbols Default 100k (12,000 images)") == DEFAULT
    assert report.published_column("Less Variations Stratified Char") == "Less Variations Stratified Char"


def run_folder(path, records, lines, *, batch_size=512):
    path.mkdir()
    text = "".join(json.dumps({"split": "valid"} | line) + "\n" for line in lines)
    (path / "metrics.jsonl").write_text(text, encoding="utf-8")
    run = run_of(records, name=str(path))
    return Run(run.run_dir, run.results, {"config": run.config["config"] | {"train": {"batch_size": batch_size}}})


def test_learning_curves_show_mean_and_spread_of_all_seeds_of_a_model_over_the_images_seen(tmp_path):
    def lines(*losses):
        return [{"step": 100 * (i + 1), "loss": v, "accuracy": 10 * v} for i, v in enumerate(losses)]

    wide = accuracy("WRN-28-4+", DEFAULT, 70.0)
    runs = [
        run_folder(tmp_path / "a", accuracy("MLP", DEFAULT, 30.0), lines(3.0, 2.0)),
        run_folder(tmp_path / "b", accuracy("MLP", DEFAULT, 31.0), lines(5.0)),  # stopped earlier
        run_folder(tmp_path / "c", wide, lines(4.0, 1.0), batch_size=128),
    ]
    seen, means, stds = report.validation_curve(runs[:2], "loss")
    assert (seen, means) == ([51.2, 102.4], [4.0, 2.0])
    assert stds == pytest.approx([2**0.5, 0])
    figure = draw_runs("synbols_supervised", runs)["learning_curves"]
    loss, other = figure.axes
    assert {line.get_label(): line.get_linestyle() for line in loss.lines} == {"MLP": "-", "WRN-28-4+": "--"}
    assert list(loss.lines[1].get_xdata()) == [12.8, 25.6]
    assert list(other.lines[0].get_ydata()) == [40.0, 20.0]
    assert draw_runs("synbols_supervised", runs[:1]) == {}
    assert "learning_curves" in CAPTIONS


def test_models_that_nobody_measured_on_the_columns_shown_have_no_line():
    rows = ("MLP", "Conv-4 Flat", "Conv-4 GAP")
    records = [r for row in rows for r in accuracy(row, "Black and white, a_long_name_of_a_partition", 50.0)]
    panel = draw("synbols_supervised", records)["accuracies"].axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == list(rows)
    assert panel.get_title(loc="left") == "Black and white, a long name\nof a partition"


def test_the_command_writes_the_curves_of_several_runs(tmp_path):
    lines = [{"step": 100, "loss": 3.0, "accuracy": 20.0}]
    for name, row in (("a", "MLP"), ("b", "Conv-4 GAP")):
        run = run_folder(tmp_path / name, accuracy(row, DEFAULT, 30.0), lines)
        (run.run_dir / "results.json").write_text(json.dumps(run.results), encoding="utf-8")
        (run.run_dir / "config.json").write_text(json.dumps(run.config), encoding="utf-8")
    out = tmp_path / "report"
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), f"--out={out}"]) == 0
    assert (out / "figures" / "synbols_supervised_learning_curves.png").stat().st_size > 1000
