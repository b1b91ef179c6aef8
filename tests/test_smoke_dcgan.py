"""DCGAN's smoke run, as a user starts it, makes digits and useful features."""

import subprocess
import sys

import launching
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("smoke") / "run"
    command = [sys.executable, "launch.py", "--config=configs/dcgan.py:smoke", f"--workdir={workdir}"]
    done = subprocess.run(
        command, cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return workdir


def test_samples_are_digits_of_nearly_all_classes_and_no_copies(smoke):
    metrics = launching.results(smoke)["metrics"]
    assert metrics["test/judge_accuracy"] > 0.9
    assert metrics["test/classes_covered"] >= 9
    assert metrics["test/confidence"] > 0.7
    assert metrics["test/diversity"] > 0.8
    assert metrics["test/train_distance"] > metrics["test/train_distance_of_test"]


def test_features_beat_those_of_random_weights_which_beat_pixels(smoke):
    cells = {(r["row"], r["column"]): r["value"] for r in launching.results(smoke)["records"]}
    rows = ("DCGAN features + L2-SVM", "random features + L2-SVM", "pixels + L2-SVM")
    trained, random, pixels = (cells[row, "mnist5k test"] for row in rows)
    assert trained > random + 1 > pixels + 2


def test_every_picture_is_there(smoke):
    names = {p.stem for p in (smoke / "figures").glob("*.png")}
    pictures = {"samples", "numbered_samples", "latent_walks", "arithmetic", "nearest_training_images", "curves"}
    assert pictures | {"filters_trained", "filters_random", "samples_step_0000500"} == names
