"""The smoke run of SESN as a user starts it: it learns, and its features follow scale better than those of CNN."""

import re
import subprocess
import sys

import launching
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("smoke") / "run"
    command = [sys.executable, "launch.py", "--config=configs/sesn_mnist_scale.py:smoke", f"--workdir={workdir}"]
    done = subprocess.run(
        command, cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return workdir


def test_all_networks_learn_the_digits(smoke):
    errors = {
        r["row"]: r["value"]
        for r in launching.results(smoke)["records"]
        if (r["table"], r["metric"]) == ("table2", "error")
    }
    assert set(errors) == {"SESN Scalar", "CNN", "SESN Scalar, one scale"}
    assert max(errors.values()) < 15  # percent; chance is 90


def test_the_features_of_sesn_follow_a_change_of_scale_better_at_every_scale(smoke):
    found = {}
    for r in launching.results(smoke)["records"]:
        if r["table"] == "equivariance error":
            found.setdefault((r["metric"], r["column"]), {})[r["row"]] = r["value"]
    first = {column: errors for (stage, column), errors in found.items() if stage == "stage 1"}
    assert len(first) == 6
    assert all(errors["SESN Scalar"] < 0.7 * errors["CNN"] for errors in first.values())
    assert all(errors["SESN Scalar"] < errors["SESN Scalar, one scale"] for errors in first.values())


def test_the_report_shows_the_pictures(smoke):
    figures = {p.name for p in (smoke / "figures").glob("*.png")}
    assert {"feature_maps.png", "equivariance.png", "curves.png"} <= figures
    page = (smoke / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 3
    assert not re.search(r'(src|href)="https?://', page), "the page must be self-contained"
