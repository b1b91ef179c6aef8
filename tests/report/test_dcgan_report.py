"""Table 2 with its figure, and how a run that diverged appears in it."""

import json

import pytest

from jaxrepro.report import dcgan
from jaxrepro.report.__main__ import main

ROWS = ("Baseline", "Beta = 0.9")


def record(row, column="generator", metric="loss_mean", value=2.5):
    cell = {"table": "table2", "row": row, "column": column, "metric": metric, "unit": "nats"}
    return {**cell, "value": value, "seed": 0}


def write_run(folder, row, records, message=""):
    folder.mkdir(parents=True)
    config = {"experiment": "dcgan", "preset": "report", "row": row}
    (folder / "config.json").write_text(json.dumps({"config": config}))
    if message:
        (folder / "diverged.json").write_text(json.dumps({"message": message}))
    else:
        results = {"experiment": "dcgan", "preset": "report", "records": records}
        (folder / "results.json").write_text(json.dumps(results))
    return str(folder)


@pytest.fixture
def run_dirs(tmp_path):
    cells = [record("Baseline", c, m) for c in ("generator", "discriminator") for m in ("loss_mean", "loss_lowest")]
    return [
        write_run(tmp_path / "baseline", "Baseline", cells),
        write_run(tmp_path / "beta", "Beta = 0.9", [], "train/loss_generator is not finite between steps 10 and 20"),
    ]


def test_a_diverged_run_is_a_row_that_says_so(run_dirs, capsys):
    assert main(run_dirs) == 0
    printed = capsys.readouterr().out
    assert "| Beta = 0.9 | generator | diverged | 9.3882 |" in printed
    assert "| Baseline | generator | 2.5" in printed
    assert "diverged: train/loss_generator is not finite between steps 10 and 20" in printed
    assert "| LR = 0.0001 | generator | missing | 2.9485 |" in printed


def test_a_diverged_baseline_has_the_cells_that_the_other_runs_measured(tmp_path, capsys):
    dirs = [
        write_run(tmp_path / "beta", "Beta = 0.9", [record("Beta = 0.9")]),
        write_run(tmp_path / "baseline", "Baseline", [], "gone"),
    ]
    assert main(dirs) == 0
    assert "| Baseline | generator | diverged | missing |" in capsys.readouterr().out


def test_the_figure_draws_both_losses_of_both_tables_and_names_the_diverged(run_dirs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*run_dirs, f"--out={out}"]) == 0
    assert (out / "figures" / "dcgan_modifications.png").exists()
    records = [record(row, c) for row in ROWS for c in dcgan.COLUMNS] + [record("LR = 0.0001", value=None)]
    figure = dcgan.draw_modifications(records)
    left, right = figure.axes
    assert list(left.lines[0].get_xdata()[:2]) == [2.5, 2.5]
    assert list(right.lines[1].get_xdata()[1:]) == [9.3882, 2.9485]
    assert [t.get_text() for t in right.texts] == ["diverged"]
    assert dcgan.figures(records[:1]) == {}
