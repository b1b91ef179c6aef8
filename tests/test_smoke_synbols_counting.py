"""The smoke runs of Synbols' counting as a user starts them."""

import re
import subprocess
import sys

import launching
import pytest

pytestmark = pytest.mark.slow


def test_a_sweep_trains_both_methods_and_shows_everything(tmp_path):
    done = subprocess.run(
        [sys.executable, "launch.py", "--config=configs/synbols_counting.py:smoke", "--sweep", f"--workdir={tmp_path}"],
        cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for method in ("FCN8-L", "FCN8-D"):
        folder = tmp_path / "sweep" / f"method.name={method}"
        found = launching.results(folder)["metrics"]
        assert 0 < found["test/mae"] < 10, method
        figures = {p.stem for p in (folder / "figures").glob("*.png")}
        assert {"predictions", "counts", "errors", "counting", "game_levels"} <= figures
        page = (folder / "report.html").read_text()
        assert "Table 5" in page
        assert not re.search(r'(src|href)="https?://', page), "the page must be self-contained"


def test_data_that_cannot_be_counted_is_one_line_and_no_traceback(tmp_path):
    for source, message in (
        ("synbols:counting?num_samples=20&auxiliary=false", "has no points to count"),
        ("synbols:counting?num_samples=20&auxiliary=false&points=a&resolution=16", "five poolings need 32×32"),
        ("synbols:default?num_samples=20&auxiliary=false&points=a", "one label per pixel"),
        ("synbols:segmentation?num_samples=20&auxiliary=false&points=ж&resolution=32", "unknown letter in points="),
    ):
        done = subprocess.run(
            [sys.executable, "launch.py", "--config=configs/synbols_counting.py:smoke", f"--workdir={tmp_path / 'run'}",
             f"--config.data.source={source}", "--config.task.overlap=any"],
            cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
