"""Table 4 of Synbols beside the published numbers, the reproduction's deviations and figure 8, from made-up runs."""

import finished_runs
import numpy as np
import pytest
from finished_runs import results_of, run_of

from jaxrepro.report.__main__ import main
from jaxrepro.report.comparison import column_of
from jaxrepro.report.papers import find
from jaxrepro.report.papers import synbols_unsupervised as report
from jaxrepro.report.reference import load_reference
from jaxrepro.writers import save_arrays

TASK = {
    "num_classes": 48, "num_train": 60_000, "num_valid": 20_000, "network": "published", "image_side": 32,
    "data_set": "non-camou-shade", "partition": "random",
}  # fmt: skip
SHADES = "char/Shades"


def record(row, column, value, seed=0, **options):
    return finished_runs.record(row, column, value, seed, **{"table": "table4", "metric": "accuracy"} | options)


def written(folder, records, *, model="VAE", column="Shades", write=run_of):
    config = {"version": "v2", "model": {"name": model}, "task": {"column": column}}
    return write(folder, results_of("synbols_unsupervised", records), config=config)


def test_a_cell_stands_beside_the_later_table_and_the_reproduction_with_its_deviation(tmp_path, capsys):
    cell = record("HVAE (2 level)", SHADES, 27.858, facts=TASK)
    assert main([written(tmp_path / "a", [cell], model="HVAE (2 level)", write=finished_runs.write_run)]) == 0
    printed = capsys.readouterr().out
    assert "27.858 (+1.000)" in printed
    assert "28.32" in printed
    assert "printed sign is wrong, recomputed value is +0.54" in printed


def test_a_deviation_is_the_authors_later_number_minus_ours_of_the_same_task_only():
    own = record("VAE", SHADES, 20.0, facts=TASK)
    (found,) = report.derive([], [own], [])
    assert found["value"] == pytest.approx(22.430 - 20.0)
    assert (found["metric"], found["row"], found["column"]) == ("printed_deviation", "VAE", SHADES)
    narrow = record("VAE", SHADES, 20.0, facts=TASK | {"network": "of 0.125 times the width"})
    letters = record("VAE", SHADES, 20.0, facts=TASK | {"num_classes": 26})
    assert report.derive([], [narrow, letters, record("VAE", "rotation/Shades", 1.0)], []) == []


def test_the_printed_deviations_but_for_one_are_the_later_table_minus_the_reproduction():
    cells = {(p.source, p.metric, p.row, p.column): p for p in load_reference("synbols_unsupervised", "v2")}
    wrong = []
    for (source, metric, *cell), printed in cells.items():
        if metric == "printed_deviation":
            later, own = (cells[s, "accuracy", *cell].value for s in ("repository", source))
            if abs(later - own - printed.value) > 0.02:
                wrong.append((tuple(cell), printed.note))
    assert [cell for cell, _ in wrong] == [("HVAE (2 level)", SHADES)]
    assert "sign is wrong" in wrong[0][1]


def test_another_network_stands_apart(tmp_path, capsys):
    cell = record("VAE", SHADES, 33.25, facts=TASK | {"network": "of 0.125 times the width", "num_train": 4800})
    assert main([written(tmp_path / "a", [cell], write=finished_runs.write_run)]) == 0
    printed = capsys.readouterr().out
    assert "4,800 instead of 60,000 training images, network of 0.125 times the width instead of published" in printed
    drawn = report.figures([cell])["representations"]
    marks = {c.get_label(): c.lines[0] for ax in drawn.axes for c in ax.containers}
    assert marks["ours, another task"].get_markerfacecolor() == "white"


def test_another_data_set_than_the_columns_stands_apart():
    published = load_reference("synbols_unsupervised", "v2")
    names = {"Solid Pattern": "non-camou-bw", "Shades": "non-camou-shade", "Camouflage": "camouflage"}
    for column, name in names.items():
        facts = TASK | {"data_set": name}
        assert column_of(record("VAE", f"char/{column}", 1.0, facts=facts), published) == f"char/{column}"
        assert column_of(record("VAE", "char/Solid Pattern", 1.0, facts=facts), published) == (
            "char/Solid Pattern" + f": data set {name} instead of non-camou-bw" * (name != "non-camou-bw")
        )


def test_figure_8_puts_reconstructions_of_one_data_set_below_each_other(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (7, 4, 4, 3), dtype=np.uint8)
    runs = []
    for model in ("VAE", "VAE ResNet", "HVAE (2 level) ResNet"):
        run = written(tmp_path / model, [record(model, SHADES, 1.0)], model=model)
        save_arrays(run.folder, {"reconstructions": {"images": images, "outputs": images // 2}})
        runs.append(run)
    axes = report.figures_of_runs(runs)["figure_8"].axes
    assert [ax.get_ylabel() for ax in axes] == ["original", "VAE ResNet", "HVAE (2 level) ResNet"]
    shown = np.asarray(axes[1].images[0].get_array())
    np.testing.assert_array_equal(shown, np.concatenate(list(images[:6] // 2), axis=1))
    assert report.figures_of_runs(runs[:1]) == {}


def test_figures_and_captions():
    drawn = find("synbols_unsupervised").figures([record("VAE", SHADES, v, s) for s, v in enumerate((50.0, 60.0))])
    panel = drawn["representations"].axes[1]
    ours = [c for c in panel.containers if "ours" in c.get_label()]
    assert [float(c.lines[0].get_xdata()[0]) for c in ours] == [55.0]
    assert set(drawn) <= set(report.CAPTIONS)
    assert find("synbols_unsupervised").figures([]) == {}
