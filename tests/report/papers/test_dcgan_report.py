"""Table 2 with its figure, and how a run that diverged appears in it."""

import finished_runs
import pytest
from finished_runs import results_of

from jaxrepro.report.__main__ import main
from jaxrepro.report.papers import dcgan

ROWS = ("Baseline", "Beta = 0.9")


def record(row, column="generator", metric="loss_mean", value=2.5):
    return finished_runs.record(row, column, value, metric=metric, unit="nats")


def write_run(folder, row, records, message=""):
    results = None if message else results_of("dcgan", records, preset="report")
    options = {"experiment": "dcgan", "preset": "report", "config": {"row": row}}
    return finished_runs.write_run(folder, results, diverged=message, **options)


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
    assert "| Beta = 0.9 | ours | diverged | diverged |" in printed
    assert "|  | reproduction | 0.0604 | 9.3882 |" in printed
    assert "| Baseline | ours | 2.5000 | 2.5000 |" in printed
    assert "diverged: train/loss_generator is not finite between steps 10 and 20" in printed
    assert "| LR = 0.0001 | ours | not run | not run |" in printed
    assert "|  | reproduction | 0.4288 | 2.9485 |" in printed


def test_a_diverged_baseline_has_the_cells_that_the_other_runs_measured(tmp_path, capsys):
    dirs = [
        write_run(tmp_path / "beta", "Beta = 0.9", [record("Beta = 0.9")]),
        write_run(tmp_path / "baseline", "Baseline", [], "gone"),
    ]
    assert main(dirs) == 0
    assert "| Baseline | ours | – | diverged |" in capsys.readouterr().out


def test_the_figure_draws_both_losses_of_both_tables_and_names_the_diverged(run_dirs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*run_dirs, f"--out={out}"]) == 0
    assert (out / "figures" / "dcgan_modifications.png").exists()
    records = [record(row, c) for row in ROWS for c in dcgan.COLUMNS] + [record("LR = 0.0001", value=None)]
    mean_d, lowest_d, mean_g, _ = dcgan.draw_modifications(records).axes
    assert [t.get_text() for t in mean_d.get_yticklabels()] == ["Baseline", "LR = 0.0001", "Beta = 0.9"]
    ours = [(*line.get_xdata(), *line.get_ydata()) for line in mean_d.lines if line.get_label() == "ours"]
    assert ours == [(2.5, 0), (2.5, 2)]
    (published,) = [line for line in mean_g.lines if line.get_label() == "reproduction"]
    assert list(zip(published.get_xdata(), published.get_ydata())) == [(2.9485, 1), (9.3882, 2)]
    assert [t.get_text() for t in mean_g.texts] == ["diverged"]
    assert not [line for line in lowest_d.lines if line.get_label() == "ours"]
    assert dcgan.figures(records[:1]) == {}


def test_seeds_are_marks_of_their_own_beside_their_mean():
    values = {0: 2.0, 1: 4.0}
    records = [record(row, m, value=v) | {"seed": s} for row in ROWS for m in dcgan.COLUMNS for s, v in values.items()]
    ax = dcgan.draw_modifications(records).axes[0]
    first = [line for line in ax.lines if list(line.get_ydata()) in ([0], [0, 0])]
    assert [list(line.get_xdata()) for line in first] == [[2.0, 4.0], [3.0]]
    assert first[1].get_label() == "ours, mean of 2 seeds"
