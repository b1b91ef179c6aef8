"""The smoke run of SESN on STL-10's networks as a user starts it: three networks, tables, curves and pictures."""

import json
import subprocess
import sys

import launching
import pytest

pytestmark = pytest.mark.slow
METHODS = {"SESN-B", "WRN", "Harm WRN"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("smoke") / "run"
    command = [sys.executable, "launch.py", "--config=configs/sesn_stl10.py:smoke", f"--workdir={workdir}"]
    done = subprocess.run(
        command, cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return workdir


def test_every_network_lowers_its_loss(smoke):
    lines = [json.loads(line) for line in (smoke / "metrics.jsonl").open()]
    train = [line for line in lines if line["split"] == "train"]
    for name in ("loss", "wrn/loss", "harm_wrn/loss"):
        assert train[-1][name] < train[0][name]


def test_the_results_have_every_method_in_every_table(smoke):
    found = {}
    for r in launching.results(smoke)["records"]:
        found.setdefault(r["table"], set()).add(r["row"])
    large = METHODS - {"Harm WRN"}  # the maps of which are too small to say something about scale
    assert found == {"table3": METHODS, "error by scale": METHODS, "equivariance error": large}


def test_the_report_shows_the_pictures(smoke):
    figures = {p.name for p in (smoke / "figures").glob("*.png")}
    assert {"feature_maps.png", "equivariance.png", "error_by_scale.png", "curves.png"} <= figures
    assert (smoke / "report.html").read_text().count("data:image/png;base64,") >= 4
