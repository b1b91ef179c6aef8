"""The smoke run, as a user starts it, shows the trends of YOTO's figures."""

import itertools
import json
import re
import subprocess
import sys

import launching
import pytest

pytestmark = pytest.mark.slow  # the demo itself, of more than a minute


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("smoke") / "run"
    command = [sys.executable, "launch.py", "--config=configs/yoto_cifar.py:smoke", f"--workdir={workdir}"]
    command.append("--config.eval.every=end")  # the evaluations on the way cost ten seconds and change nothing
    done = subprocess.run(
        command, cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def points(smoke):
    """{row: {beta: {metric: value}}}."""
    found = {}
    for r in launching.results(smoke)["records"]:
        beta = float(r["column"].removeprefix("beta="))
        found.setdefault(r["row"], {}).setdefault(beta, {})[r["metric"]] = r["value"]
    return found


def test_kl_falls_by_a_tenth_or_more_from_beta_to_twice_beta(points):
    yoto = points["YOTO 1x"]
    assert len(yoto) == 8
    assert all(yoto[b]["kl"] < 0.9 * yoto[a]["kl"] for a, b in itertools.pairwise(sorted(yoto)))


def test_reconstruction_grows_with_every_doubling_of_beta(points):
    yoto = points["YOTO 1x"]
    betas = sorted(yoto)
    assert all(yoto[b]["reconstruction"] > yoto[a]["reconstruction"] for a, b in itertools.pairwise(betas))
    assert yoto[betas[-1]]["reconstruction"] > 1.5 * yoto[betas[0]]["reconstruction"]


def test_reconstructions_are_sharp_at_a_small_beta_and_blur_with_beta(points):
    yoto = points["YOTO 1x"]
    sharp = [yoto[beta]["sharpness"] for beta in (0.25, 1.0, 4.0, 16.0)]
    assert sharp == sorted(sharp, reverse=True)
    assert sharp[0] > 0.8
    assert sharp[-1] < 0.7 * sharp[0]


@pytest.mark.parametrize("metric", ["kl", "reconstruction"])
def test_yoto_is_near_the_fixed_model_of_its_beta_on_both_axes(points, metric):
    """Within a quarter of what lies between the two fixed models, on either axis."""
    fixed = {beta: p[metric] for row, at in points.items() if row.startswith("fixed") for beta, p in at.items()}
    assert sorted(fixed) == [0.25, 4.0]
    apart = abs(fixed[0.25] - fixed[4.0])
    for beta, value in fixed.items():
        assert abs(points["YOTO 1x"][beta][metric] - value) < 0.25 * apart


def test_every_stage_left_its_trace(smoke):
    figures = {p.name for p in (smoke / "figures").glob("*.png")}
    assert {"frontier.png", "full_loss_difference.png", "reconstructions.png", "samples.png", "curves.png"} <= figures
    page = (smoke / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    assert not re.search(r'(src|href)="https?://', page), "the page must be self-contained"
    losses = [json.loads(line)["loss"] for line in (smoke / "metrics.jsonl").open() if '"train"' in line]
    assert losses[-1] < losses[0]
