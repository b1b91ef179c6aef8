"""Scale-equivariant steerable networks and their rivals on STL-10 (table 3).

    python launch.py --config=configs/sesn_stl10.py:smoke

A run may train other methods beside the main one, in the same program and on the same batches (`config.model.beside`).
`config.memory` and `config.model.remat` decide how much of a step is in memory at once.

Source: Sosnovik, Szmaja & Smeulders, "Scale-Equivariant Steerable Networks" (ICLR 2020), section 6.2, and the released
code. Kept from it: there is no validation; the weights tested are those of the last epoch, and the best test error on
the way is logged only ("test/best_error"). The row Harm WRN was quoted there from Ulicny et al. (2019), whose own
protocol had reflected borders, no cutout and momentum that began anew at each drop; here all methods have one protocol.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.config import RunConfig
from jaxrepro.data import make_source
from jaxrepro.data.batches import whole_epoch_weights
from jaxrepro.data.classes import class_names, held_out
from jaxrepro.data.dataset import notes_of
from jaxrepro.data.pictures import AugmentConfig, PicturesConfig, at_random_scales, load_pictures, prepare
from jaxrepro.durations import num_steps
from jaxrepro.errors import check
from jaxrepro.evaluators import equivariance, scale_error
from jaxrepro.evaluators.classification import make_judge
from jaxrepro.experiment import Evaluation, Evaluator, Experiment, Record, Transition, When
from jaxrepro.models.scale.residual_methods import ResidualConfig, make_residual
from jaxrepro.progress import say
from jaxrepro.training import selection
from jaxrepro.training.classification import Score, Task, num_parameters, validate
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.side_by_side import Rivals, init_networks, member_name

PICTURED = 32  # test images of the equivariance measurement


@dataclass(frozen=True)
class MemoryConfig:
    """How much of a step is in memory at once, beside `config.model.remat` and `config.precision`.

    Attributes:
      micro_batches: portions of a batch, one after the other; batch statistics are then those of a portion.
    """

    micro_batches: int = 1

    def __post_init__(self):
        check(self.micro_batches >= 1, f"micro_batches is {self.micro_batches}; it must be 1 or more")


@dataclass(frozen=True)
class Config(RunConfig):
    """Table 3.

    Attributes:
      model: the networks.
      task: what is predicted.
      augment: of training images.
      memory: what a step keeps.
    """

    model: ResidualConfig = ResidualConfig()
    task: PicturesConfig = PicturesConfig()
    augment: AugmentConfig = AugmentConfig()
    memory: MemoryConfig = MemoryConfig()

    def __post_init__(self):
        super().__post_init__()
        for method in self.model.methods:
            shrinks, size = self.model.shrinks(method), self.task.image_size
            check(
                size % shrinks == 0,
                f"task.image_size is {size}; {method} halves images until they are {shrinks} times smaller: "
                f"take a multiple of {shrinks}, such as {max(shrinks, round(size / shrinks) * shrinks)}",
            )
        portions, batch = self.memory.micro_batches, self.train.batch_size
        check(batch % portions == 0, f"memory.micro_batches is {portions}; it must divide train.batch_size, {batch}")


def networks(config: Config, num_classes: int) -> dict[str, nn.Module]:
    """Returns name -> network of every method of a run."""
    m = config.model
    return {
        member_name(method): make_residual(method, num_classes, m.width, m.stem_strides, m.dropout, m.remat)
        for method in m.methods
    }


def init_variables(config: Config, key: jax.Array, num_classes: int) -> dict[str, Any]:
    """Returns name -> {"params", "batch_stats"} of every network."""
    size, channels = config.task.image_size, len(config.task.mean)
    return init_networks(networks(config, num_classes), jnp.zeros((1, size, size, channels)), key)


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters of every network for the published number of classes."""
    return {name: v["params"] for name, v in init_variables(config, key, config.task.num_classes).items()}


def make_rivals(config: Config, num_classes: int, num_train: int, total: int, steps_per_epoch: int) -> Rivals:
    """Returns the methods of a run: one protocol for all."""
    optimizer, found = make_optimizer(config.optim, total, steps_per_epoch), networks(config, num_classes)
    tasks = {
        method: Task(
            found[member_name(method)],
            functools.partial(prepare, config.task, config.augment),
            optimizer,
            config.precision,
            config.eval.batch_size,
            score=Score.ERROR,
            weights=whole_epoch_weights(num_train, config.train.batch_size),
            micro_batches=config.memory.micro_batches,
        )
        for method in config.model.methods
    }
    return Rivals(tasks)


def build(config: Config) -> Experiment:
    """Returns the experiment: training of all methods, the test error on the way, and the test of the last epoch."""
    tables = load_pictures(
        config.data.source,
        {"train": config.data.train, "test": config.data.test},
        config.task,
        smoke_command=f"python launch.py --config=configs/{config.name}.py:smoke",
    )
    names = class_names(tables, config.task.label)
    if len(names) != config.task.num_classes:
        say(f"{config.data.source} has {len(names)} classes; the published data has {config.task.num_classes}")
    train, test = (at_random_scales(tables[split], config.task, split) for split in ("train", "test"))
    source, draw = make_source(
        train,
        config.train.batch_size,
        columns=("image", config.task.label),
        resident_limit_mb=config.data.resident_limit_mb,
        whole_epochs=True,
    )
    epoch = round(source.steps_per_epoch)
    total = num_steps(config.train.duration, steps_per_epoch=epoch)
    rivals = make_rivals(config, len(names), train.num_rows, total, epoch)

    def init(context, given):
        state = rivals.init(init_variables(config, context.key, len(names)), keep_best=False)
        return {"rivals": state, "lowest": {name: selection.start(()) for name in state}}

    def update(state, batch, context):
        augment_key, dropout_key = jax.random.split(context.key)
        prepared = {
            "image": prepare(config.task, config.augment, batch["image"], augment_key),
            "label": batch[config.task.label],
        }
        new, metrics = rivals.train(state["rivals"], prepared, context.replace(key=dropout_key))
        return {**state, "rivals": new}, metrics

    def watch(state, arrays, context):
        lowest, metrics = {}, {}
        for label, name in rivals.names.items():
            found = validate(rivals.tasks[label], state["rivals"][name].variables, arrays)
            lowest[name] = selection.keep_lowest(state["lowest"][name], (), found["error"])
            found = {**found, "best_error": lowest[name].value}
            metrics |= {rivals.prefix(label) + k: v for k, v in found.items()}
        return {**state, "lowest": lowest}, metrics

    held = {"test": test} | ({"unzoomed": tables["test"]} if config.task.zoom else {})
    held = {name: held_out(table, config.task.label, config.eval.num_examples) for name, table in held.items()}
    every = num_steps(config.eval.every, steps_per_epoch=epoch, total=total)
    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=update,
        transitions=(
            Transition("watch", When(every=every, end=True), watch, held["test"], "test", before_evaluation=True),
        ),
        evaluators=(make_test(config, rivals, held, train.num_rows, len(names)),),
        notes=notes_of(tables.values()),
    )


def make_test(config: Config, rivals: Rivals, arrays: Mapping, num_train: int, num_classes: int) -> Evaluator:
    """Returns the test of the last weights of every method, by the scale of the images, and how equivariant they are.

    Args:
      arrays: "test" and, where its images are zoomed, "unzoomed" ones for the curve over scales -> "image", "label".
    """
    judge = {method: make_judge(task) for method, task in rivals.tasks.items()}
    observed = [equivariance.measured(m, member_name(m), task) for m, task in rivals.tasks.items()]
    num_test, column = len(arrays["test"]["label"]), config.task.column
    facts = {"num_classes": num_classes, "num_train": num_train, "num_test": num_test}
    facts |= {"width": config.model.width, "image_size": config.task.image_size}
    facts |= {"scales": "random" if config.task.zoom else "natural"}

    def evaluate(state, arrays, context):
        variables = {name: classifier.variables for name, classifier in state["rivals"].items()}
        unzoomed = arrays.get("unzoomed", arrays["test"])
        metrics, records = {}, []
        for method, name in rivals.names.items():
            found = {k: float(v.mean()) for k, v in judge[method](variables[name], arrays["test"]).items()}
            metrics |= {rivals.prefix(method) + k: v for k, v in (("error", found["wrong"]), ("loss", found["loss"]))}
            records += [
                Record("table3", method, column, "error", found["wrong"], "percent", facts),
                Record("table3", method, "params", "num_params", num_parameters(state["rivals"][name]), "count", facts),
                *scale_error.zoomed_errors(method, judge[method], variables[name], unzoomed),
            ]
        shown = unzoomed["image"][:: max(1, num_test // PICTURED)][:PICTURED]
        more, pictures = equivariance.compare(observed, variables, shown)
        return Evaluation(metrics, pictures, records + more)

    return Evaluator("test", "test", When(end=True), evaluate, dict(arrays))
