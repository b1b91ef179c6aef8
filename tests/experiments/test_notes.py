"""What a data set lacks of the published one stands in the results of every experiment that can read it."""

import dataclasses

import numpy as np
import pytest

from jaxrepro import config_file
from jaxrepro.config import parse
from jaxrepro.data import active, classes, table_from_arrays
from jaxrepro.experiments import dcgan, synbols_few_shot, synbols_trunk, yoto

NOTE = "only 2 of 14 languages: no fonts for the others"
SMALL = {"train.batch_size": 4, "train.duration": "3 steps"}
CHANGES = {
    yoto: ("yoto_cifar", SMALL | {"optim.warmup_steps": 0}),
    dcgan: ("dcgan", SMALL | {"eval.judge": "", "eval.arithmetic.concepts": (), "eval.features.source": ""}),
    synbols_few_shot: ("synbols_few_shot", {"episodes.ways": 2, "episodes.shots": 2, "episodes.queries": 2}),
    synbols_trunk: ("synbols_trunk", SMALL | {"num_classes": 12}),
}


@pytest.fixture
def loaded(monkeypatch):
    def load(side, channels):
        label = np.arange(240, dtype=np.int32) % 12
        image = np.zeros((240, side, side, channels), np.uint8)
        table = table_from_arrays("made-up", {"image": image, "label": label, "font": label})
        table = dataclasses.replace(table, note=NOTE)
        splits = dict.fromkeys(("train", "valid", "test"), table)
        for module in (*CHANGES, active, classes):
            if hasattr(module, "load_dataset"):
                monkeypatch.setattr(module, "load_dataset", lambda source, **_: splits)

    return load


@pytest.mark.parametrize("module", list(CHANGES), ids=lambda module: module.__name__.rpartition(".")[2])
def test_an_experiment_notes_what_its_data_lack(module, loaded):
    name, changes = CHANGES[module]
    values = config_file.load(f"configs/{name}.py:smoke")
    for path, value in changes.items():
        config_file.set_value(values, path, value)
    config = parse(module.Config, values)
    shape = getattr(getattr(config, "model", None), "image_shape", (32, 32, 3))
    loaded(shape[0], shape[2])
    assert module.build(config).notes == (NOTE,)


def test_the_parts_of_active_learning_come_with_the_notes_of_their_data(loaded):
    loaded(8, 3)
    assert active.active_parts("made-up", official_test=False)[2] == (NOTE,)
