"""Killed, interrupted and damaged runs end with the same bits as one that was left alone."""

import json
import random
import signal
import subprocess
import time

import launching
import numpy as np

LONG = {"train.duration": "160 steps", "checkpoint.every": "15 steps", "eval.every": "60 steps"}


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


def damage(checkpoint):
    """Flips a byte of a checkpoint's largest file."""
    path = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_kills_a_signal_and_a_damaged_checkpoint_change_nothing(tmp_path):
    """Killed at a random moment and during a save after an evaluation, stopped by SIGTERM, damaged, and continued."""
    workdir, whole, chance = tmp_path / "run", tmp_path / "whole", random.Random()
    done = launching.run_here(whole, LONG)
    assert done.returncode == 0, done.stderr
    early, late = chance.choice([10, 20, 30]), chance.choice([70, 80, 90])
    for reached in (lambda: last_step(workdir) >= early, lambda: last_step(workdir) >= late and saving(workdir)):
        process = start(workdir)
        wait_for(process, reached)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (workdir / "results.json").exists()
    process = start(workdir)
    wait_for(process, lambda: last_step(workdir) >= 100)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 75, printed
    assert "resuming at step" in printed
    assert "the same command continues" in printed
    newest = max((workdir / "checkpoints").iterdir(), key=lambda p: int(p.name))
    damage(newest)
    done = launching.run_here(workdir, LONG)
    assert done.returncode == 0, done.stderr
    assert f"checkpoint {newest.name} is damaged" in done.stderr
    assert "resuming at step" in done.stderr
    assert_same_run(workdir, whole)
