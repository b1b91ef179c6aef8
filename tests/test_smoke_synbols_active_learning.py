"""The smoke runs of active learning as a user starts them, kills in the middle of a round and of an acquisition."""

import json
import signal
import subprocess
import sys
import time

import launching
import numpy as np
import pytest

pytestmark = pytest.mark.slow

CONFIG = "configs/synbols_active_learning.py:smoke"
TINY = {
    "faults.blank_share": 0.0,
    "data.source": "synbols:missing-symbol-paper?num_samples=1000&resolution=8&auxiliary=false&masks=true",
    "train.duration": "156 steps",
    "active.initial": 80,
    "active.queries": 16,
    "active.epochs": 6,
    "active.methods": "('BALD','Random')",
    "trunk.blocks": "((4,),(8,))",
    "trunk.hidden_size": 16,
    "checkpoint.every": "10 steps",
    "log.every": "5 steps",
}


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "launch.py", *arguments],
        cwd=launching.ROOT,
        env=launching.environment(),
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_smoke_run_goes_through_rounds_of_two_methods_and_draws_everything(tmp_path):
    run(f"--config={CONFIG}", f"--workdir={tmp_path}")
    tested = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    labels = [line["BALD/labels"] for line in tested if line["split"] == "test"]
    assert len(labels) >= 3
    assert labels == sorted(set(labels))
    assert all(line["BALD/accuracy"] > 50 for line in tested if line["split"] == "test"), "of ten digits"
    pictures = {p.stem for p in (tmp_path / "figures").glob("*.png")}
    assert {"test_nll", "reliability", "query_share", "first_queries_bald", "first_queries_random"} <= pictures
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)


def test_active_learning_begins_with_a_trunk_of_ones_own(tmp_path):
    run("--config=configs/synbols_trunk.py:smoke", f"--workdir={tmp_path / 'trunk'}")
    done = run(
        f"--config={CONFIG}",
        f"--workdir={tmp_path / 'active'}",
        f"--config.trunk.weights={tmp_path / 'trunk'}",
        "--config.train.duration=290 steps",
    )
    assert "trunk: Russian letters" in done.stderr
    facts = launching.results(tmp_path / "active")["records"][0]["facts"]
    assert facts["trunk"] == "Russian letters"


def start(workdir):
    overrides = [f"--config.{k}={v}" for k, v in TINY.items()]
    command = [sys.executable, "launch.py", f"--config={CONFIG}", f"--workdir={workdir}", *overrides]
    return subprocess.Popen(command, cwd=launching.ROOT, env=launching.environment(), stderr=subprocess.PIPE, text=True)


def lines(workdir, split):
    path = workdir / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in found if line["split"] == split]


def test_kills_in_a_round_and_in_an_acquisition_change_no_bit_and_no_query(tmp_path):
    whole = start(tmp_path / "whole")
    _, printed = whole.communicate(timeout=1500)
    assert whole.returncode == 0, printed
    workdir = tmp_path / "killed"
    moments = [
        lambda: lines(workdir, "train") and 10 < lines(workdir, "train")[-1]["step"] < 30,  # in the first round
        lambda: len(lines(workdir, "test")) == 2,  # the test is written, then comes the acquisition
    ]
    for reached in moments:
        process, deadline = start(workdir), time.monotonic() + 600
        while not reached():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(workdir)
    _, printed = process.communicate(timeout=1500)
    assert process.returncode == 0, printed
    assert "resuming at step" in printed
    assert (workdir / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    expected, found = (launching.final_params(tmp_path / name) for name in ("whole", "killed"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    records = [launching.results(tmp_path / name)["records"] for name in ("whole", "killed")]
    assert records[0] == records[1]
