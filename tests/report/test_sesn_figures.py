"""Derived cells of SESN's tables, from made-up runs."""

from pathlib import Path

import pytest

from jaxrepro.report import sesn
from jaxrepro.report.figures import CAPTIONS, derive, draw
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import Run


def error(row, column, *values):
    cell = {"table": "table2", "row": row, "column": column, "metric": "error", "unit": "percent"}
    return [cell | {"value": v, "seed": i} for i, v in enumerate(values)]


def run_of(records, *, seeds=(0,), beside=(), rate=7.9):
    config = {
        "model": {"method": "CNN", "beside": list(beside)},
        "realisation": {"num_train": 10_000},
        "train": {"batch_size": 128},
        "seeds": list(seeds),
    }
    timing = {"steps_per_second": rate} if rate else {}
    return Run(Path("run"), {"experiment": "sesn", "records": records, "timing": timing}, {"config": config})


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
    (cell,) = derive("sesn", [run_of(records, seeds=(3, 4), rate=7.9)], records)
    assert (cell["table"], cell["row"], cell["column"], cell["metric"]) == (
        "table4",
        "CNN",
        "56x56+",
        "seconds_per_epoch",
    )
    assert cell["value"] == pytest.approx(79 / 7.9 / 2)
    assert derive("sesn", [run_of(records, beside=("SiCNN",))], records) == []
    assert derive("sesn", [run_of(records, rate=None)], records) == []
    assert derive("yoto", [run_of(records)], records) == []


def test_figures_need_enough_cells_and_have_captions():
    curve = [
        {"table": "equivariance error", "row": row, "column": f"scale {s}", "metric": "stage 1", "value": s, "seed": 0}
        for row in ("CNN", "DSS Scalar")
        for s in (0.4, 0.9)
    ]
    few = error("CNN", "28x28", 2.0) + error("SiCNN", "28x28", 2.0)
    assert set(draw("sesn", few)) == set()
    drawn = draw("sesn", few + error("CNN", "28x28+", 1.0, 1.2) + curve)
    assert set(drawn) == {"table2", "equivariance"}
    assert set(drawn) <= set(CAPTIONS)
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
