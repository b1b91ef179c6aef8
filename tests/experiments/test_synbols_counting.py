"""Table 5 of Synbols: protocol, cells, resuming and errors; on tiny networks and images."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro import config_file, loop
from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig, parse
from jaxrepro.data import counting as data
from jaxrepro.data import table_from_arrays
from jaxrepro.errors import UserError
from jaxrepro.experiments import synbols_counting as counting
from jaxrepro.experiments.synbols_counting import MethodConfig, TaskConfig
from jaxrepro.models.trunk import TrunkConfig
from jaxrepro.report.reference import load_reference

NUM_TRAIN, NUM_VALID, NUM_TEST = 24, 8, 6


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """Dark images of 32×32 pixels with bright squares, which are to be counted."""
    random, num = np.random.default_rng(0), NUM_TRAIN + NUM_VALID + NUM_TEST
    images, points = random.integers(0, 40, (num, 32, 32, 3), np.uint8), np.zeros((num, 32, 32), bool)
    for image, at in zip(images, points):
        for place in random.choice(9, random.integers(1, 5), replace=False):
            row, column = 2 + 10 * (place // 3), 2 + 10 * (place % 3)
            image[row : row + 6, column : column + 6] = 230
            at[row + 2, column + 2] = True
    arrays = {
        "image": images,
        "points": np.packbits(points, axis=-1),
        "overlap_score": random.random(num).astype(np.float32),
        "letter_size": random.uniform(4, 9, num).astype(np.float32),
        "label": np.arange(num, dtype=np.int32) % 3,
    }
    table = table_from_arrays("made-up", arrays)
    monkeypatch.setattr(data, "load_dataset", lambda source, smoke_command: {"train": table})


def tiny(method="FCN8-L", duration="2 epochs", **changes):
    cut = NUM_TRAIN + NUM_VALID
    splits = {"train": f"train[:{NUM_TRAIN}]", "valid": f"train[{NUM_TRAIN}:{cut}]", "test": f"train[{cut}:]"}
    defaults = {
        "experiment": "synbols_counting",
        "name": "synbols_counting",
        "train": TrainConfig(duration=duration, batch_size=2),
        "optim": OptimConfig(lr=1e-2),
        "data": DataConfig(source="made-up", **splits),
        "method": MethodConfig(method, padding=1),
        "task": TaskConfig("Crowded", "any", patience=6),
        "trunk": TrunkConfig(weights="", blocks=((4,), (6,), (8,), (8,), (8,)), hidden_size=8, dropout=0.1),
        "eval": EvalConfig(every="1 epochs", batch_size=4),
        "log": LogConfig(every="1 epochs"),
        "checkpoint": CheckpointConfig(every="1 epochs"),
    }
    return counting.Config(**defaults | changes)


# The config


@pytest.mark.parametrize("preset", ["paper", "small", "smoke"])
def test_every_point_of_a_sweep_is_a_config_of_its_own(preset):
    points = config_file.sweep_points(f"configs/synbols_counting.py:{preset}")
    assert len(points) == {"paper": 30, "small": 4, "smoke": 2}[preset]
    cells = {}
    for point in points:
        config = config_file.load(f"configs/synbols_counting.py:{preset}")
        for path, value in point.items():
            config_file.set_value(config, path, value)
        typed = parse(counting.Config, config)
        cells.setdefault((str(typed.method.name), typed.task.column), set()).update(typed.seeds)
        expected = {"Fixed": "counting-fix-scale", "Varia": "counting", "Crowd": "counting-crowded"}
        assert f"synbols:{expected[typed.task.column[:5]]}?" in typed.data.source
        assert "points=a" in typed.data.source
    published = {(p.row, p.column) for p in load_reference("synbols_counting")}
    assert set(cells) == published or (preset != "paper" and set(cells) < published)
    assert all(len(seeds) == (3 if preset == "paper" else 1) for seeds in cells.values())


def test_pixels_are_normalised_like_those_of_imagenet():
    prepared = np.asarray(counting.prepare(jnp.full((1, 1, 1, 3), 255, jnp.uint8)))[0, 0, 0]
    np.testing.assert_allclose(prepared, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-5)


# Training


def test_an_epoch_has_two_images_drawn_with_replacement_for_every_test_image():
    source = counting.build(tiny()).source
    assert source.steps_per_epoch == 2 * NUM_TEST / 2
    assert source.block(0, 0, 100).max() < NUM_TRAIN
    less = dataclasses.replace(tiny().task, epoch_share=0.5)
    assert counting.build(tiny(task=less)).source.steps_per_epoch == 2
    assert counting.build(tiny(eval=EvalConfig(every="1 epochs", num_examples=3))).source.steps_per_epoch == 3


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("counting")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FCN8-D", "FCN8-L"])
def test_a_run_fills_its_cells_and_draws_its_pictures(method, run_folder):
    folder = run_folder / method
    config = tiny(method)
    results = loop.train(config, counting.build(config), folder)
    cells = {(r["row"], r["metric"]): r for r in results.records if r["table"] == "table5"}
    assert set(cells) == {(row, m) for row in (method, "constant") for m in ("mae", "game")}
    assert cells[method, "mae"]["value"] == results.metrics["test/mae"][0] == results.metrics["test/game0"][0]
    assert cells[method, "game"]["value"] == results.metrics["test/game3"][0]
    assert cells["constant", "mae"]["facts"]["trunk"] == "random weights"
    assert cells["constant", "mae"]["facts"]["test_split"] == f"train[{NUM_TRAIN + NUM_VALID}:]"
    assert {p.stem for p in (folder / "figures").glob("*.png")} >= {"predictions", "counts", "errors"}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    terms = ("image", "point", "split", "false_positive") if method == "FCN8-L" else ()
    assert {"loss", "learning_rate", *(f"{term}_loss" for term in terms)} <= set(lines[0])
    assert [line["step"] for line in lines if line["split"] == "valid"] == [6, 12]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FCN8-D", "FCN8-L"])
def test_squares_are_counted_after_some_training_and_a_run_resumes_to_the_same_bits(method, tmp_path):
    config = tiny(method, "30 epochs", task=TaskConfig("Crowded", "any", patience=30, epoch_share=8.0))
    results = loop.train(config, counting.build(config), tmp_path / "whole")
    assert results.metrics["test/mae"][0] < 0.7 * results.metrics["test/constant_mae"][0]
    cut = dataclasses.replace(config, train=TrainConfig(duration="3 epochs", batch_size=2))
    loop.train(cut, counting.build(cut), tmp_path / "cut")
    again = loop.train(config, counting.build(config), tmp_path / "cut")
    assert again.timing["resumed_at_step"] == 3 * 8 * NUM_TEST // 2
    assert again.records == results.records


# What users get wrong


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MethodConfig(padding=3), "padding is 3; it must be 100 or 1"),
        (lambda: TaskConfig(patience=0), "patience is 0; it must be 1 or more"),
        (lambda: tiny(eval=EvalConfig(every="2 epochs")), "write '1 epochs'"),
        (lambda: tiny(optim=OptimConfig(schedule="plateau")), "no rate follows the validation"),
        (lambda: tiny(trunk=TrunkConfig(weights="", blocks=((4,), (4,)))), "has 2 blocks; FCN8 has 5"),
        (lambda: tiny(trunk=TrunkConfig(weights="", pooled=2)), "windows of 7×7: write 7"),
        (lambda: counting.build(tiny(data=DataConfig(source="made-up", valid="train", test="train",
                                                     resident_limit_mb=0))), "resident_limit_mb is 0"),
        (lambda: counting.build(tiny(trunk=TrunkConfig(weights="vgg16.safetensors"))), "safetensors does not exist"),
    ],
)  # fmt: skip
def test_what_the_protocol_cannot_do_is_refused_in_one_line(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_an_unknown_method_or_rule_is_one_line_with_the_known_ones():
    for key, value in (("method.name", "FCN8"), ("method.rule", "packages"), ("task.overlap", "all")):
        config = config_file.load("configs/synbols_counting.py:smoke")
        config_file.set_value(config, key, value)
        with pytest.raises(UserError, match=f"unknown value of config.{key} '{value}'.*known"):
            parse(counting.Config, config)


def test_blobs_refuse_several_cpu_devices_of_one_process(monkeypatch):
    """Their callbacks wait for ever there, and XLA ends the process after forty seconds."""
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    with pytest.raises(UserError, match="the 4 CPU devices of this process would wait for ever; take one"):
        counting.build(tiny("FCN8-L"))
    assert counting.build(tiny("FCN8-D"))
