"""Derived cells of SESN's tables, from made-up runs."""

import dataclasses
from pathlib import Path

import pytest
from finished_runs import record, results_of

from jaxrepro.report import style
from jaxrepro.report.comparison import compare
from jaxrepro.report.papers import find, sesn
from jaxrepro.report.reference import load_reference
from jaxrepro.report.results import Timing
from jaxrepro.report.runs import FinishedRun

FACTS = {"num_classes": 10, "num_train": 10_000, "num_valid": 2_000, "num_test": 50_000}


def error(row, column, *values):
    return [record(row, column, v, i, facts=FACTS) for i, v in enumerate(values)]


def run_of(records, *, seeds=(0,), beside=(), rate=7.9):
    config = {
        "experiment": "sesn",
        "preset": "paper",
        "model": {"method": "CNN", "beside": list(beside)},
        "realisation": {"num_train": 10_000},
        "train": {"batch_size": 128},
    }
    results = results_of("sesn", records, timing=Timing(steps_per_second=rate))
    return FinishedRun(Path("run"), config, "", dataclasses.replace(results, seeds=seeds))


def derive(run):
    return sesn.derive([run], run.records, [])


def test_the_reproduction_pools_the_two_columns_of_a_baseline_but_the_settings_of_sesn():
    records = [
        *error("CNN", "28x28", 2.0, 3.0),
        *error("CNN", "28x28+", 1.0),
        *error("SiCNN", "28x28", 2.0),  # never run with augmentation
        *error("SESN Scalar", "28x28", 2.2),
        *error("SESN Scalar", "28x28+", 1.8),
        *error("SESN Scalar", "28x28 settings, with zoom", 1.6),
        *error("SESN Scalar", "28x28+ settings, without zoom", 2.4),
    ]
    found = {}
    for r in sesn.pooled_records(records):
        found.setdefault((r["row"], r["column"]), []).append(r["value"])
    assert found == {
        ("CNN", "28x28"): [2.0, 3.0, 1.0],
        ("SESN Scalar", "28x28"): [2.2, 1.6],
        ("SESN Scalar", "28x28+"): [1.8, 2.4],
    }


def test_pooled_cells_keep_their_task_and_say_how_many_seeds_they_have():
    small = FACTS | {"num_classes": 4, "num_test": 70}
    columns = ("28x28", "28x28+")
    cells = [r for c in columns for r in error("CNN", c, 2.0, 3.0)]
    cells += [r | {"facts": small} for c in columns for r in error("SiCNN", c, 7.0, 8.0)]
    run = run_of(cells, seeds=(0, 1), rate=None)
    (table,) = compare(derive(run), load_reference("sesn"))
    other = "28x28: 4 instead of 10 classes, 70 instead of 50,000 test images"
    assert table.columns == ("28x28", other)
    assert (table.number("SiCNN", "28x28", "ours"), table.number("SiCNN", other, "ours").value) == (None, 7.5)
    assert table.number("CNN", "28x28", "ours").num_seeds == 2
    assert table.notes()[0] == "ours: mean ± sample standard deviation over 2 seeds × 2 conditions"
    (table,) = compare(derive(run_of(cells[:3], seeds=(0, 1), rate=None)), load_reference("sesn"))
    assert table.notes()[0].endswith("over 3 values of 2 seeds and 2 conditions")


def test_cells_of_another_task_are_hollow_in_the_figure():
    columns = ("28x28", "28x28+", "56x56")
    cells = [r | {"facts": FACTS | {"num_test": 70}} for c in columns[:2] for r in error("CNN", c, 2.0)]
    figure = find("sesn").figures(cells + error("CNN", columns[2], 1.0))["table2"]
    marks = {c.get_label(): c for ax in figure.axes for c in ax.containers if c.get_label().startswith("ours")}
    assert {label: c.lines[0].get_markerfacecolor() for label, c in marks.items()} == {
        "ours, another task": "white",
        "ours": style.BLUE,
    }


def test_pooling_the_papers_own_numbers_gives_those_of_the_reproduction():
    """What the reading of the reproduction rests on, for the eight baselines and both sizes."""
    published = {(p.source, p.row, p.column): p.value for p in load_reference("sesn") if p.table == "table2"}
    rows = {row for source, row, _ in published if source == "paper" and not row.startswith("SESN")}
    plain, pooled = [], []
    for row in rows:
        for column in ("28x28", "56x56"):
            value = published["reproduction", row, column]
            plain.append(value - published["paper", row, column])
            both = [published["paper", row, c] for c in (column, sesn.partner(row, column))]
            pooled.append(value - sum(both) / 2)
    assert len(plain) == 16
    assert max(plain) < 0
    assert max(abs(d) for d in pooled) < 0.08
    assert abs(sum(pooled) / 16) < 0.02


def test_an_epochs_time_is_that_of_one_realisation_of_one_method():
    records = error("CNN", "56x56+", 2.0)
    (cell,) = derive(run_of(records, seeds=(3, 4), rate=7.9))
    names = ("table4", "CNN", "56x56+", "seconds_per_epoch", "s")
    assert tuple(cell[k] for k in ("table", "row", "column", "metric", "unit")) == names
    assert cell["value"] == pytest.approx(79 / 7.9 / 2)
    assert cell["facts"] == FACTS
    assert "1 x cpu" in cell["note"]
    assert derive(run_of(records, beside=("SiCNN",))) == []
    assert derive(run_of(records, rate=None)) == []


def test_figures_need_enough_cells_and_have_captions():
    draw, names = find("sesn").figures, {"table": "equivariance error", "metric": "stage 1", "unit": None}
    curve = [record(row, f"scale {s}", s, **names) for row in ("CNN", "DSS Scalar") for s in (0.4, 0.9)]
    few = error("CNN", "28x28", 2.0) + error("SiCNN", "28x28", 2.0)
    assert set(draw(few)) == set()
    drawn = draw(few + error("CNN", "28x28+", 1.0, 1.2) + curve)
    assert set(drawn) == {"table2", "equivariance"}
    assert set(drawn) <= set(find("sesn").captions)
    (panel,) = drawn["equivariance"].axes
    assert [line.get_label() for line in panel.lines] == ["CNN", "DSS Scalar"]
    assert list(panel.lines[0].get_ydata()) == [0.4, 0.9]
    labels = {text.get_text() for text in drawn["table2"].legends[0].get_texts()}
    assert labels == {
        "paper",
        "reproduction",
        "ours",
        "ours, without and with zoom",
        "paper, mean without and with zoom",
    }
