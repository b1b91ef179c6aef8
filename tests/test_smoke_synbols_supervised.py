"""The smoke runs of Synbols' tables 1 and 2 as a user starts them, and a sweep that is killed and continued."""

import json
import re
import signal
import subprocess
import sys
import time

import launching
import pytest

pytestmark = pytest.mark.slow

TINY = {
    "data.source": "synbols:default-bw?num_samples=400&resolution=8&auxiliary=false",
    "train.duration": "20 epochs",
    "train.batch_size": 16,
    "plateau.patience": 30,
    "task.image_size": 8,
    "task.column": "Synbols Default 100k",
    "task.num_train": 240,
    "eval.every": "end",
}


def run(*arguments, timeout=900):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=launching.ROOT,
        env=launching.environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("name", "chance_times", "pictures"),
    [("synbols_supervised", 4, set()), ("synbols_ood", 2.5, {"split.png"})],
)
def test_a_smoke_run_learns_letters_and_shows_everything(tmp_path, name, chance_times, pictures):
    run("launch.py", f"--config=configs/{name}.py:smoke", f"--workdir={tmp_path}")
    found = launching.results(tmp_path)["metrics"]
    assert found["test/accuracy"] > chance_times * 100 / 26
    figures = {p.name for p in (tmp_path / "figures").glob("*.png")}
    assert {"confusion.png", "mistakes.png", "curves.png"} | pictures <= figures
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(figures)
    assert "estimate at 65 W" in page
    assert not re.search(r'(src|href)="https?://', page), "the page must be self-contained"


def test_a_killed_sweep_continues_and_its_table_says_what_is_missing(tmp_path):
    overrides = [f"--config.{k}={v}" for k, v in TINY.items()]
    command = [
        "launch.py",
        "--config=configs/synbols_supervised.py:smoke",
        "--sweep",
        f"--workdir={tmp_path}",
        *overrides,
    ]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=launching.ROOT, env=launching.environment(), stderr=subprocess.DEVNULL
    )
    first, second = (tmp_path / "sweep" / f"model.name={name}" for name in ("MLP", "Conv-4_GAP"))
    deadline = time.monotonic() + 300
    while not (second / "metrics.jsonl").exists() or len((second / "metrics.jsonl").read_text().splitlines()) < 8:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (first / "results.json").exists()
    assert not (second / "results.json").exists()
    done = run(*command)
    assert "already finished" in done.stderr
    assert "resuming at step" in done.stderr
    run("-m", "jaxrepro.report", str(first), str(second), f"--out={tmp_path / 'report'}")
    lines = json.loads((tmp_path / "report" / "tables.json").read_text())["synbols_supervised"]
    table = {(x["row"], x["column"]): x for x in lines if x["metric"] == "accuracy" and x["table"] == "table1"}
    for row, printed in (("MLP", 34.23), ("Conv-4 GAP", 77.84)):
        line = table[row, "Synbols Default 100k"]
        assert line["ours"]["value"] is not None
        assert line["paper (v1)"]["value"] == printed
    missing = [
        x for cell, x in table.items() if cell not in {(r, "Synbols Default 100k") for r in ("MLP", "Conv-4 GAP")}
    ]
    assert len(missing) > 40
    assert all(x["ours"] == "missing" for x in missing)
