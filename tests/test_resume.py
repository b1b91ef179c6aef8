"""Killed, interrupted and damaged runs end with the same bits as one that was left alone."""

import json
import random
import signal
import subprocess
import time

import launching
import numpy as np
import pytest

LONG = {"train.duration": "200 steps", "checkpoint.every": "15 steps", "eval.every": "60 steps"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    done = launching.launch(workdir, LONG)
    assert done.returncode == 0, done.stderr
    return workdir


def start(workdir):
    return subprocess.Popen(
        launching.command(workdir, LONG),
        cwd=launching.ROOT,
        env=launching.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, condition):
    """Returns when the condition holds; fails if the process ends before."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def last_step(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines() if (workdir / "metrics.jsonl").exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def saving(workdir):
    return any("tmp" in p.name for p in (workdir / "checkpoints").glob("*"))


def assert_same_run(workdir, whole):
    assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    expected = launching.final_params(whole)
    found = launching.final_params(workdir)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    records = [launching.results(w)["records"] for w in (workdir, whole)]
    assert records[0] == records[1]


def test_three_kills_at_random_moments_one_during_a_save_change_nothing(whole, tmp_path):
    workdir, chance = tmp_path / "run", random.Random()
    moments = [
        lambda: last_step(workdir) >= chance.choice([10, 20, 30]),
        lambda: last_step(workdir) >= 40 and saving(workdir),
        lambda: last_step(workdir) >= chance.choice([120, 130, 140]),
    ]
    for reached in moments:
        process = start(workdir)
        wait_for(process, reached)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (workdir / "results.json").exists()
    done = launching.launch(workdir, LONG)
    assert done.returncode == 0, done.stderr
    assert "resuming at step" in done.stderr
    assert_same_run(workdir, whole)


def test_sigterm_saves_exits_with_75_and_the_same_command_continues(whole, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for(process, lambda: last_step(workdir) >= 50)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 75, printed
    assert "the same command continues" in printed
    newest = max(workdir / "checkpoints" / p.name for p in (workdir / "checkpoints").iterdir())
    flip = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(flip.read_bytes())
    data[len(data) // 2] ^= 0xFF
    flip.write_bytes(data)  # and the checkpoint it saved is damaged, too
    done = launching.launch(workdir, LONG)
    assert done.returncode == 0, done.stderr
    assert f"checkpoint {newest.name} is damaged" in done.stderr
    assert_same_run(workdir, whole)
