"""Weights for active learning where ImageNet's are not at hand: its network, trained on letters of another script.

    python launch.py --config=configs/synbols_trunk.py:small
    python launch.py --config=configs/synbols_active_learning.py:small     # begins with the trunk of that run

No paper has this experiment. It normalises by batches, without which such a network hardly begins to learn; active
learning gets the normalisation as a part of the convolutions (`models.vgg.fold_batch_norm`). Results with such a trunk
show the order of the methods, not the published numbers. The script must not be that of active learning, or the trunk
would know the answers.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrepro.config import RunConfig
from jaxrepro.data import make_source
from jaxrepro.data.classes import class_names, held_out, labelled_splits
from jaxrepro.data.dataset import check_colours, notes_of
from jaxrepro.durations import num_steps
from jaxrepro.errors import check
from jaxrepro.evaluators.classification import classifier_test
from jaxrepro.experiment import Evaluation, Evaluator, Experiment, Transition, When
from jaxrepro.models.trunk import TrunkConfig, prepare, trunk_arrays
from jaxrepro.models.vgg import VGG16
from jaxrepro.training.classification import Task, end_of_epoch, init_classifier, train_step
from jaxrepro.training.optim import make_optimizer

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Config(RunConfig):
    """The config of a trunk.

    Attributes:
      title: names the trunk in the tables of active learning.
      num_classes: of the data, for --mode=print.
      trunk: the network, from random weights.
    """

    title: str = "Russian letters"
    num_classes: int = 33
    trunk: TrunkConfig = TrunkConfig(weights="")

    def __post_init__(self):
        super().__post_init__()
        check(not self.trunk.weights, f"trunk.weights is {self.trunk.weights!r}; a trunk begins at random: write ''")
        check(len(self.seeds) == 1, f"seeds is {self.seeds}; one trunk is enough, write (0,)")


def make_network(config: Config, num_classes: int) -> VGG16:
    return config.trunk.network(num_classes).clone(batch_norm=True)


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns random parameters for the stated number of classes."""
    return make_network(config, config.num_classes).init(key, jnp.zeros((1, 32, 32, 3)), False)["params"]


def build(config: Config) -> Experiment:
    """Returns the experiment: plain classification with dropout."""
    tables = labelled_splits(config.data.source, {s: getattr(config.data, s) for s in SPLITS}, "label")
    names = class_names(tables, "label")
    check_colours(tables["train"])
    config.trunk.check_images(tables["train"].columns["image"].shape)
    limit = config.data.resident_limit_mb
    source, draw = make_source(
        tables["train"], config.train.batch_size, columns=("image", "label"), resident_limit_mb=limit
    )
    total = num_steps(config.train.duration, steps_per_epoch=source.steps_per_epoch)
    network = make_network(config, len(names))
    optimizer = make_optimizer(config.optim, total, source.steps_per_epoch)
    task = Task(network, lambda images, key: prepare(images), optimizer, config.precision, config.eval.batch_size)
    size = tables["train"].columns["image"].shape[:2]

    def init(context, given):
        variables = network.init(context.key, jnp.zeros((1, *size, 3)), False)
        return init_classifier(task, variables, keep_best=False)

    def update(state, batch, context):
        return train_step(task, state, {"image": prepare(batch["image"]), "label": batch["label"]}, context)

    every = num_steps(config.eval.every, steps_per_epoch=source.steps_per_epoch, total=total)
    validation = Transition(
        "validation",
        When(every=every, end=True),
        lambda state, arrays, context: end_of_epoch(task, state, arrays),
        held_out(tables["valid"], "label"),
        before_evaluation=True,
    )
    arrays = held_out(tables["test"], "label", config.eval.num_examples)
    test = classifier_test(task, arrays, names, lambda state, found: [])

    def keep(state, arrays, context):
        return Evaluation(arrays={"trunk": trunk_arrays(jax.device_get(state.variables), config.title)})

    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=update,
        transitions=(validation,),
        evaluators=(test, Evaluator("trunk", "trunk", When(end=True), keep)),
        notes=notes_of(tables.values()),
    )
