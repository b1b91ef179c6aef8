"""The files of a finished run tell when they have changed on the disk."""

import dataclasses
import json
from pathlib import Path

import finished_runs
import pytest

from jaxrepro import digests, run
from jaxrepro.errors import UserError
from jaxrepro.report.runs import read_run
from jaxrepro.writers import write_json


def test_results_and_configs_that_changed_on_the_disk_are_refused(tmp_path):
    results = finished_runs.results_of(records=[finished_runs.record("CNN", "28", 2.5)])
    folder = Path(finished_runs.write_run(tmp_path / "run", results, log=[(10, "train", {"loss": [1.5]})]))
    read_run(folder)
    text = (folder / "results.json").read_text()
    (folder / "results.json").write_text(text.replace("2.5", "1.5"))
    with pytest.raises(UserError, match=r"results.json is damaged: something in it has changed"):
        read_run(folder)
    assert not run.is_sound(folder)
    (folder / "results.json").write_text(text)
    config = json.loads((folder / "config.json").read_text())
    sealed = json.dumps(digests.seal(config | {"config": config["config"] | {"train": {"duration": "10 steps"}}}))
    (folder / "config.json").write_text(sealed.replace("10 steps", "20 steps"))
    for reader in (run.read_config, lambda path: read_run(path.parent)):
        with pytest.raises(UserError, match=r"config.json is damaged"):
            reader(folder / "config.json")


def test_a_changed_log_of_a_finished_run_is_refused(tmp_path):
    results = finished_runs.results_of()
    folder = Path(finished_runs.write_run(tmp_path / "run", results, log=[(10, "train", {"loss": [1.5]})]))
    found = dataclasses.replace(results, log_digest=digests.of_file(folder / "metrics.jsonl"))
    write_json(folder / "results.json", found.to_json())
    read_run(folder)
    log = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(log.replace("1.5", "9.5"))
    with pytest.raises(UserError, match=r"metrics.jsonl is damaged: its lines are not those of the finished run"):
        read_run(folder)
