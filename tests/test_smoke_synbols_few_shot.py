"""The smoke runs of Synbols' few-shot methods as a user starts them."""

import re
import subprocess
import sys

import launching
import pytest

pytestmark = pytest.mark.slow


def test_a_sweep_trains_all_three_methods_and_shows_everything(tmp_path):
    done = subprocess.run(
        [sys.executable, "launch.py", "--config=configs/synbols_few_shot.py:smoke", "--sweep", f"--workdir={tmp_path}"],
        cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for method in ("ProtoNet", "RelationNet", "MAML"):
        (folder,) = (tmp_path / "sweep").glob(f"method.name={method}*")
        found = launching.results(folder)["metrics"]
        if method != "MAML":  # needs more episodes than a smoke run has until it begins to learn
            assert found["test/accuracy_char"] > 100 / 3 + 3, method
        figures = {p.stem for p in (folder / "figures").glob("*.png")}
        assert {f"{name}_{a}" for name in ("episode", "vectors", "hardest") for a in ("char", "font")} <= figures
        page = (folder / "report.html").read_text()
        assert "Table 6" in page
        assert not re.search(r'(src|href)="https?://', page), "the page must be self-contained"
