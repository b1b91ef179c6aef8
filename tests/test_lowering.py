"""Every config's training program is one that accelerators take, shown on a machine that has none.

It is lowered, not compiled: for NVIDIA GPUs and for TPUs, with the sizes of the preset and a few made-up images.
"""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrepro import config_file, loop, registry
from jaxrepro.config import SeedMode, parse
from jaxrepro.data.rounds import Rounds

ROOT = Path(__file__).parent.parent
NUM_ROWS = 130  # images of every split
# Experiments whose steps call the host, for what no accelerator does better: the watershed of a loss. JAX lowers such
# calls only for the platform that it runs on, so zeros stand in their places.
HOST_WORK = ("synbols_counting",)


def programs():
    """Yields every config file and preset, "configs/yoto_cifar.py:smoke"; all but paper and smoke marked slow."""
    for file in sorted((ROOT / "configs").glob("[a-z]*.py")):
        for preset in ("paper", *config_file.load_module(str(file)).PRESETS):
            marks = () if preset in ("paper", "smoke") else pytest.mark.slow
            yield pytest.param(f"configs/{file.name}:{preset}", marks=marks)


def image_shape(config):
    """Returns the shape of the images that a config's data has, (height, width, channels)."""
    if config.experiment == "yoto":
        return tuple(config.model.image_shape)
    if config.experiment == "dcgan":
        return (config.model.image_size, config.model.image_size, config.model.image_channels)
    if config.experiment == "sesn":
        return (28, 28, 1)
    if config.experiment == "synbols_counting":
        return (64, 64, 3) if "resolution=64" in config.data.source else (128, 128, 3)
    if config.experiment == "sesn_stl10":
        return (config.task.image_size, config.task.image_size, len(config.task.mean))
    plain = ("synbols_trunk", "synbols_active_learning", "synbols_few_shot", "synbols_unsupervised")
    if config.experiment in plain:
        return (16, 16, 3) if "resolution=16" in config.data.source else (32, 32, 3)
    return (config.task.image_size, config.task.image_size, 1 if "-bw" in config.data.source else 3)


def without_data(config, path):
    """Returns overrides that give a config made-up images of the right shape, and as few as its protocol allows."""
    num_classes = config.task.num_classes if "num_classes" in config.get("task", ()) else 10
    arrays = {}
    for split in ("train", "valid", "test"):
        arrays[f"{split}_images"] = np.zeros((NUM_ROWS, *image_shape(config)), np.uint8)
        arrays[f"{split}_labels"] = np.arange(NUM_ROWS) % num_classes
    if config.experiment == "synbols_few_shot":  # thirty characters in thirty fonts
        rows = np.arange(900)
        arrays = {"train_images": np.zeros((900, *image_shape(config)), np.uint8)}
        arrays |= {"train_label": rows % 30, "train_font": rows // 30}
    changes = {"data.source": f"npz:{path}"}
    if config.experiment == "synbols_counting":
        height, width, _ = image_shape(config)
        for split in ("train", "valid", "test"):
            arrays[f"{split}_points"] = np.ones((NUM_ROWS, height, width // 8), np.uint8)
            arrays[f"{split}_letter_size"] = np.ones(NUM_ROWS, np.float32)
        changes |= {"trunk.weights": "", "task.overlap": "any"}
    if config.experiment == "synbols_unsupervised":
        numbers = {"font": np.arange(NUM_ROWS) % 30}
        measures = [a for a in config.probe.attributes if a not in ("char", "font")]
        numbers |= {a: np.linspace(-1, 1, NUM_ROWS, dtype=np.float32) for a in measures}
        arrays |= {f"{split}_{a}": values for split in ("train", "valid") for a, values in numbers.items()}
    changes |= {f"data.{split}": split for split in ("train", "valid", "test")}
    if config.experiment == "synbols_active_learning":
        rounds = Rounds(100, config.active.queries, config.active.epochs, config.train.batch_size)
        changes |= {"active.initial": 100, "train.duration": f"{rounds.end_of(0)} steps"}
        changes |= {"task.flag": "none", "trunk.weights": ""}
    elif "label" in config.get("task", ()):
        changes |= {"task.label": "label"} | ({"task.trim": ()} if "trim" in config.task else {})
    if "realisation" in config:
        changes |= {f"realisation.num_{split}": 40 for split in ("train", "valid", "test")}
        changes |= {"realisation.test_source": ""}
    if config.experiment == "yoto":
        changes |= {"order_by": ()}
    np.savez(path, **arrays)
    if config.experiment == "dcgan":
        changes |= {"eval.features.source": "", "eval.judge": "", "eval.arithmetic.concepts": ()}
    return changes


def zeros_of(function, result, *args, **options):
    """Returns what a callback would, all zeros."""
    return jax.tree.map(lambda a: jax.numpy.zeros(a.shape, a.dtype), result)


@pytest.mark.parametrize("name", list(programs()))
def test_the_training_program_of_a_preset_lowers_for_accelerators(name, tmp_path, monkeypatch):
    values = config_file.load(str(ROOT / name))
    for key, value in without_data(values, tmp_path / "images.npz").items():
        config_file.set_value(values, key, value)
    module = registry.find(values.experiment)
    config = parse(module.Config, values)
    monkeypatch.setenv("JAXREPRO_DATA", str(tmp_path))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # everything that a layer or the loop asks
    if config.experiment in HOST_WORK:
        monkeypatch.setattr(jax, "pure_callback", zeros_of)
    run = loop.Run(config, module.build(config))
    assert run.program.mode == (SeedMode.UNROLL if len(config.seeds) == 1 else SeedMode.VMAP)
    traced = run.program.trace(run.upload()["train"])
    text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()  # one module, which branches where they differ
    calls = set(re.findall(r"custom_call @(\w+)", text))
    assert not [c for c in calls if "callback" in c.lower()], calls
    assert "stablehlo.convolution" in text or getattr(config.model, "name", "") == "MLP"
    assert "stablehlo.fft" not in text
    assert len(text) < 2_000_000  # no large constant
