"""The schema of results.json: what is written is read back, and nothing else."""

import dataclasses
import json
import math

import pytest
from finished_runs import record, results_of, write_run

from jaxrepro import digests
from jaxrepro.errors import UserError
from jaxrepro.report.results import Timing, earlier_timing, read_results, summary
from jaxrepro.report.runs import read_run


def test_what_is_written_is_read_back(tmp_path):
    found = results_of(
        "sesn",
        [record("CNN", "28x28", 2.5, 3, facts={"num_train": 10_000})],
        metrics={"test/error": summary([1.0, 2.0]), "train/loss": 0.5},
        timing=Timing(seconds=12.5, steps=100, resumed_at_step=0),
    )
    write_run(tmp_path, found)
    assert read_results(tmp_path / "results.json") == found


def test_numbers_that_are_not_finite_become_null_because_json_has_no_nan(tmp_path):
    found = results_of(records=[record("CNN", "28x28", math.nan)], metrics={"test/loss": math.inf})
    write_run(tmp_path, found)
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert read_results(tmp_path / "results.json").metrics == {"test/loss": None}


@pytest.mark.parametrize("change", [{"total_seconds": 1.0}, {"date": "today"}])
def test_a_key_that_nobody_writes_is_refused_with_the_way_out(tmp_path, change):
    write_run(tmp_path, results_of())
    path = tmp_path / "results.json"
    path.write_text(json.dumps(digests.seal(json.loads(path.read_text()) | change)))
    with pytest.raises(UserError, match=f"fields {next(iter(change))} are missing or unknown.*--mode=eval"):
        read_run(tmp_path)


def test_a_record_without_its_fields_is_refused(tmp_path):
    path = tmp_path / "results.json"
    bare = {"table": "table2", "row": "CNN"}
    write_run(tmp_path, results_of(records=[record("CNN", "28x28", 1.0)]))
    path.write_text(json.dumps(digests.seal(json.loads(path.read_text()) | {"records": [bare]})))
    with pytest.raises(UserError, match="a record without column, evaluator"):
        read_results(path)


def test_an_evaluation_keeps_the_times_of_the_training(tmp_path):
    path = tmp_path / "results.json"
    assert earlier_timing(path) == Timing()
    write_run(tmp_path, results_of(timing=Timing(seconds=5.0, evaluation_seconds=1.0)))
    kept = dataclasses.replace(earlier_timing(path), evaluation_seconds=2.0)
    assert kept == Timing(seconds=5.0, evaluation_seconds=2.0)
    path.write_text("{")
    assert earlier_timing(path) == Timing()


def test_the_summary_of_seeds_is_mean_and_sample_std():
    assert summary([2.0]) == 2.0
    assert summary([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "values": [1.0, 2.0, 3.0]}
