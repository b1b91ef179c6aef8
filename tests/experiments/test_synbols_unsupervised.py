"""Table 4 of Synbols: config, whole runs, resuming in the middle of a cycle, errors; on tiny networks and images."""

import dataclasses
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro import config_file, loop
from jaxrepro.checkpoint import NonFiniteError
from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig, parse
from jaxrepro.data import table_from_arrays
from jaxrepro.errors import UserError
from jaxrepro.evaluators import autoencoder, codes
from jaxrepro.experiments import synbols_unsupervised as unsupervised
from jaxrepro.models.representations import RepresentationConfig
from jaxrepro.report.papers import find
from jaxrepro.report.reference import load_reference
from jaxrepro.training.probes import FitConfig, ProbeConfig

pytestmark = pytest.mark.usefixtures("plain_convolutions")
CONFIG = "configs/synbols_unsupervised.py"
NUM_CHARS, NUM_FONTS = 4, 3


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """Images of 16×16 pixels whose colour is the character and whose brightness is the scale."""
    random = np.random.default_rng(0)
    label, font = random.integers(0, NUM_CHARS, 70), random.integers(0, NUM_FONTS, 70)
    scale = random.uniform(0.5, 1.0, 70)
    images = random.integers(0, 30, (70, 16, 16, 3)) + 50 * label[:, None, None, None] * np.array([1, 0, 0])
    images = images + (60 * scale)[:, None, None, None]
    arrays = {
        "image": images.astype(np.uint8), "label": label.astype(np.int32), "font": font.astype(np.int32),
        "scale": scale.astype(np.float32),
    }  # fmt: skip
    classes = {"label": tuple("abcd"), "font": tuple(f"font {i}" for i in range(NUM_FONTS))}

    def part(name, start, stop):
        table = table_from_arrays(f"made-up {name}", {k: v[start:stop] for k, v in arrays.items()})
        return dataclasses.replace(table, classes=classes)

    loaded = {"train": part("train", 0, 45), "valid": part("valid", 45, 70)}
    monkeypatch.setattr(unsupervised, "load_dataset", lambda source, smoke_command: loaded)
    return loaded


def tiny(**changes):
    defaults = {
        "experiment": "synbols_unsupervised",
        "name": "synbols_unsupervised",
        "train": TrainConfig(duration="8 epochs", batch_size=10),
        "optim": OptimConfig(lr=2e-3),
        "data": DataConfig(source="made-up"),
        "model": RepresentationConfig("HVAE (2 level) ResNet", width=0.03125, codes=(4, 3), encoder_blocks=(1, 1, 1)),
        "probe": ProbeConfig(
            attributes=("char", "font", "scale"), schedules=("online", "frozen"), frozen_hidden=(8,),
            frozen_lrs=(1e-2,), fit=FitConfig(epochs=5, batch_size=10),
        ),
        "eval": EvalConfig(every="2 epochs", batch_size=20),
        "log": LogConfig(every="1 epochs"),
        "checkpoint": CheckpointConfig(every="1 epochs", keep=10),
    }  # fmt: skip
    return unsupervised.Config(**defaults | changes)


# The config


@pytest.mark.parametrize("preset", ["paper", "report", "small", "smoke"])
def test_every_point_of_a_sweep_is_a_config_of_its_own_and_they_fill_the_table(preset):
    points = config_file.sweep_points(f"{CONFIG}:{preset}")
    assert len(points) == {"paper": 45, "report": 15, "small": 15, "smoke": 3}[preset]
    cells, seeds = set(), set()
    for point in points:
        config = config_file.load(f"{CONFIG}:{preset}")
        for path, value in point.items():
            config_file.set_value(config, path, value)
        typed = parse(unsupervised.Config, config)
        cells |= {(str(typed.model.name), f"{a}/{typed.task.column}") for a in ("char", "font")}
        seeds |= {(str(typed.model.name), *typed.seeds)}
    published = {(p.row, p.column) for p in load_reference("synbols_unsupervised")}
    assert cells == published or (preset == "smoke" and cells < published)
    if preset == "paper":
        assert {("Deep InfoMax", s) for s in (2, 42, 128)} | {("VAE", s) for s in (3, 42, 123)} <= seeds


def test_versions_of_the_data_have_their_own_letters():
    paper, report = (config_file.load(f"{CONFIG}:{preset}") for preset in ("paper", "report"))
    assert (paper.version, "auxiliary=false" in paper.data.source, paper.task.num_chars) == ("v1", True, 26)
    assert (report.version, "auxiliary=false" in report.data.source, report.task.num_chars) == ("v2", False, 48)


# Whole runs


def lines(folder, split):
    """Returns the lines of a split in metrics.jsonl."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["split"] == split]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unsupervised")


@pytest.mark.slow
def test_a_run_fills_two_cells_draws_its_pictures_and_resumes_in_the_middle_of_a_cycle_to_the_same_bits(
    run_folder, tmp_path
):
    config = tiny()
    results = loop.train(config, unsupervised.build(config), run_folder)
    row = "HVAE (2 level) ResNet"
    cells = {(r["table"], r["row"], r["column"], r["metric"]): r for r in results.records}
    assert {key for key in cells if key[0] == "table4"} == {
        ("table4", row, f"{a}/Solid Pattern", "accuracy") for a in ("char", "font")
    }
    char = cells["table4", row, "char/Solid Pattern", "accuracy"]
    assert char["value"] == results.metrics["valid/online/mlp/char_accuracy"][0]
    assert char["value"] == results.metrics["valid/mlp/char_accuracy"][0], "the last validation is of the same probes"
    assert char["facts"]["num_classes"] == NUM_CHARS
    assert (char["facts"]["num_train"], char["facts"]["num_valid"]) == (45, 25)
    assert char["facts"]["network"].startswith("of 0.03125 times the width, with codes of (4, 3)")
    probed = {(r["row"], r["column"], r["metric"]) for r in results.records if r["table"] == "probes"}
    assert len(probed) == 2 * 2 * 3
    assert (f"{row}: linear, frozen", "scale/Solid Pattern", "mae") in probed
    assert all(results.metrics[f"valid/{name}"][0] >= 0 for name in ("kl_top", "kl_low", "active_top", "active_low"))
    figures = {p.stem for p in (run_folder / "figures").glob("*.png")}
    assert figures == {
        "code_map", "neighbours", "reconstructions", "samples", "kl_per_latent", "traversal_top", "traversal_low",
        "levels",
    }  # fmt: skip
    assert figures <= set(find("synbols_unsupervised").captions)
    with np.load(run_folder / "arrays" / "reconstructions.npz") as kept:
        assert kept["images"].shape == kept["outputs"].shape == (10, 16, 16, 3)

    betas = [line["beta"] for line in lines(run_folder, "train")]
    assert betas == pytest.approx([1e-6, 0.01] * 4), "four cycles of two epochs"

    again = tmp_path / "again"
    shutil.copytree(run_folder, again)
    for path in (again / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > 15:  # epoch 3 of 8 is over, the second of the second cycle
            shutil.rmtree(path)
    resumed = loop.train(config, unsupervised.build(config), again)
    assert resumed.timing["resumed_at_step"] == 15
    assert resumed.records == results.records
    assert (again / "metrics.jsonl").read_bytes() == (run_folder / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_deep_infomax_learns_to_tell_pairs_apart_and_shows_its_codes(tmp_path):
    model = RepresentationConfig("Deep InfoMax", width=0.0625, codes=(6, 6))
    config = tiny(model=model, train=TrainConfig(duration="16 epochs", batch_size=10), optim=OptimConfig(lr=5e-3))
    loop.train(config, unsupervised.build(config), tmp_path)
    losses = [line["loss"] for line in lines(tmp_path, "train")]
    assert losses[-1] < 0.9 * losses[0]
    assert {p.stem for p in (tmp_path / "figures").glob("*.png")} == {"code_map", "neighbours"}


@pytest.mark.slow
def test_several_seeds_are_trained_on_bfloat16_in_one_program(tmp_path):
    config = tiny(seeds=(0, 1), precision="bfloat16", train=TrainConfig(duration="1 epochs", batch_size=10))
    results = loop.train(dataclasses.replace(config), unsupervised.build(config), tmp_path)
    assert len(results.metrics["valid/reconstruction"]) == 2
    assert {p.stem for p in (tmp_path / "figures").glob("code_map*")} == {"code_map_seed0"}


# Looking


def test_walks_change_one_latent_at_a_time_those_of_the_highest_divergence_of_their_level():
    mean, kl = np.arange(6.0), np.array([5.0, 0.0, 9.0, 1.0, 7.0, 8.0])
    walks, latents = autoencoder.walk_latents(jnp.asarray(mean), jnp.asarray(kl), slice(3, 6))
    assert list(latents) == [5, 4, 3]
    assert walks.shape == (3, autoencoder.NUM_STEPS, 6)
    changed = np.asarray(walks) != mean
    assert {tuple(np.flatnonzero(walk.any(0))) for walk in changed} == {(3,), (4,), (5,)}
    np.testing.assert_allclose(walks[0, :, 5], np.linspace(-3, 3, autoencoder.NUM_STEPS))


def test_principal_axes_are_ordered_by_the_variance_that_they_carry():
    random = np.random.default_rng(0)
    points, shares = codes.principal_axes(random.normal(size=(5000, 4)) * np.array([1.0, 9.0, 0.1, 3.0]) + 7)
    assert points.std(0) == pytest.approx([9, 3], rel=0.1)
    assert shares == pytest.approx([81 / 91, 9 / 91], rel=0.1)


def test_one_code_and_codes_of_one_number_have_a_map_too():
    for size in ((1, 4), (9, 1)):
        vectors = np.random.default_rng(0).normal(size=size)
        points, shares = codes.principal_axes(vectors)
        assert points.shape == (len(vectors), 2)
        assert (points[:, 1] == 0).all()
        assert shares[1] == 0
        codes.draw_map(vectors, np.zeros(len(vectors), int), ("ก",), "map")


def test_a_letter_that_the_plotting_font_lacks_is_drawn_as_its_number():
    figure = codes.draw_map(np.eye(3), np.array([0, 1, 2]), ("a", "ж", "ก"), "map")
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", "ж", "2"]


# What users get wrong


def test_data_without_a_probed_attribute_is_a_users_error():
    with pytest.raises(UserError, match=r"unknown attribute of made-up train.*'rotation'.*known: char, font, scale"):
        unsupervised.build(tiny(probe=ProbeConfig(attributes=("char", "rotation"))))


def test_a_batch_of_one_is_refused_also_where_it_would_be_the_last_of_an_epoch():
    with pytest.raises(UserError, match=r"train.batch_size is 1; .* need 2 images or more"):
        tiny(train=TrainConfig(duration="1 epochs", batch_size=1))
    with pytest.raises(UserError, match=r"train.batch_size is 11, which leaves 1 of 45 images"):
        unsupervised.build(tiny(train=TrainConfig(duration="1 epochs", batch_size=11)))


def test_an_unknown_network_is_one_line_with_the_known_ones():
    config = config_file.load(f"{CONFIG}:smoke")
    config_file.set_value(config, "model.name", "VAE Resnet")
    with pytest.raises(UserError, match="'VAE Resnet'; did you mean 'VAE ResNet'"):
        parse(unsupervised.Config, config)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_with_its_name_and_steps(tmp_path):
    config = tiny(optim=OptimConfig(lr=1e20), train=TrainConfig(duration="2 epochs", batch_size=10))
    with pytest.raises(NonFiniteError, match=r"train/.* is not finite between steps"):
        loop.train(config, unsupervised.build(config), tmp_path)
