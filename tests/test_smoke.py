"""The smoke run, as a user starts it, shows the trends of YOTO's figures."""

import itertools
import json
import math
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
    """{row: {beta: (kl, reconstruction)}}."""
    found = {}
    for r in launching.results(smoke)["records"]:
        beta = float(r["column"].removeprefix("beta="))
        found.setdefault(r["row"], {}).setdefault(beta, {})[r["metric"]] = r["value"]
    return {row: {b: (v["kl"], v["reconstruction"]) for b, v in at.items()} for row, at in found.items()}


def test_kl_falls_by_a_tenth_or_more_from_beta_to_twice_beta(points):
    kls = [points["YOTO 1x"][beta][0] for beta in sorted(points["YOTO 1x"])]
    assert len(kls) == 11
    assert all(after < 0.9 * before for before, after in itertools.pairwise(kls))


def test_reconstruction_falls_as_kl_rises_along_the_frontier(points):
    """Not by the frontier's definition: nearly the whole grid lies on it, and the fall is large."""
    yoto = points["YOTO 1x"]
    dominated = [b for b, p in yoto.items() if any(q[0] <= p[0] and q[1] <= p[1] for c, q in yoto.items() if c != b)]
    assert len(dominated) <= 2
    betas = sorted(yoto)
    assert yoto[betas[-1]][1] > yoto[betas[0]][1] + 50


def test_yoto_at_a_beta_is_closer_to_the_fixed_model_of_that_beta_than_to_the_distant_one(points):
    """In KL, the nats that a model spends at this weight, by the log of the ratio.

    Not in reconstruction: after so few steps the conditional model at beta = 0.25 is still nearer to the other one.
    """
    fixed = {beta: p for row, at in points.items() if row.startswith("fixed") for beta, p in at.items()}
    assert sorted(fixed) == [0.25, 4.0]
    for own, other in ((0.25, 4.0), (4.0, 0.25)):
        kl = points["YOTO 1x"][own][0]
        assert abs(math.log(kl / fixed[own][0])) < 0.8 * abs(math.log(kl / fixed[other][0]))


def test_every_stage_left_its_trace(smoke):
    figures = {p.name for p in (smoke / "figures").glob("*.png")}
    assert {"frontier.png", "full_loss_difference.png", "reconstructions.png", "samples.png", "curves.png"} <= figures
    page = (smoke / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    assert not re.search(r'(src|href)="https?://', page), "the page must be self-contained"
    losses = [json.loads(line)["loss"] for line in (smoke / "metrics.jsonl").open() if '"train"' in line]
    assert losses[-1] < losses[0]
