"""A tiny experiment of Synbols' tables 1 and 2, and the configs of the files."""

from jaxrepro import config_file
from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig, parse
from jaxrepro.experiments import synbols_supervised as supervised
from jaxrepro.experiments.synbols_supervised import TaskConfig
from jaxrepro.models.classifiers import ClassifierConfig


def config_of(name, preset="paper", point=()):
    config = config_file.load(f"configs/{name}.py:{preset}")
    for path, value in dict(point).items():
        config_file.set_value(config, path, value)
    return parse(supervised.Config, config)


def plateau(**changes):
    return OptimConfig(**{"lr": 4e-4, "schedule": "plateau"} | changes)


def tiny(**changes):
    defaults = {
        "experiment": "synbols_supervised",
        "name": "synbols_supervised",
        "train": TrainConfig(duration="6 epochs", batch_size=16),
        "optim": plateau(),
        "data": DataConfig(source="synbols:default-bw?num_samples=60&resolution=8&auxiliary=false"),
        "model": ClassifierConfig("Conv-4 GAP", channels=(2, 2, 2, 4)),
        "task": TaskConfig(column="Synbols Default 100k", image_size=8),
        "eval": EvalConfig(every="1 epochs", batch_size=32),
        "log": LogConfig(every="1 epochs"),
        "checkpoint": CheckpointConfig(every="1 epochs"),
    }
    return supervised.Config(**defaults | changes)
