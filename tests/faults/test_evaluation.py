"""Evaluating an unfinished run does not make it look finished."""

import signal
import subprocess
import time

import launching
import pytest


@pytest.mark.slow
def test_an_evaluated_unfinished_run_goes_on_training(tmp_path):
    workdir = tmp_path / "run"
    changes = {"train.duration": "400 steps", "checkpoint.every": "10 steps"}
    process = subprocess.Popen(
        launching.command(workdir, changes), cwd=launching.ROOT, env=launching.environment(), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list((workdir / "checkpoints").glob("[1-9]*[0-9]")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    done = launching.launch(workdir, changes, "--mode=eval")
    assert done.returncode == 0, done.stderr
    assert (workdir / "evaluation.json").exists()
    assert not (workdir / "results.json").exists()
    done = launching.launch(workdir, changes)
    assert "resuming at step" in done.stderr, done.stderr
    assert launching.results(workdir)["step"] == 400
    assert len(launching.results(workdir)["data_digest"]) == 8
    assert not (workdir / "evaluation.json").exists()
