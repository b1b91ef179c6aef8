"""Classification of Synbols and rivals: table 1 (i.i.d.), and table 2 (out of distribution), by config.

    python launch.py --config=configs/synbols_supervised.py:smoke
    python launch.py --config=configs/synbols_ood.py:smoke

Both tables are one protocol on different partitions of the data, of which the validation part drives the learning rate
and ends the training. All seeds share the partition.

Source: Lacoste et al., "Synbols: Probing Learning Algorithms with Synthetic Datasets" (NeurIPS 2020), section 4 and
appendix, and the released benchmark code, which has what the paper leaves out: L2, the plateau rule, the strengths of
the colour changes. Kept from it: the weights tested are those of the last epoch.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.config import EnergyConfig, RunConfig, Schedule
from jaxrepro.data import Table, augment, make_source, pil_augment
from jaxrepro.data.batches import whole_epoch_weights
from jaxrepro.data.classes import class_names, held_out, labelled_splits
from jaxrepro.data.dataset import notes_of
from jaxrepro.data.pil_augment import PlusConfig
from jaxrepro.durations import num_steps
from jaxrepro.errors import check, unknown
from jaxrepro.evaluators.class_embeddings import class_embeddings
from jaxrepro.evaluators.classification import classifier_test
from jaxrepro.evaluators.split_scatter import draw_splits
from jaxrepro.experiment import Experiment, Record, Transition, When
from jaxrepro.models.classifiers import ClassifierConfig, make_classifier
from jaxrepro.progress import say
from jaxrepro.training.classification import Task, end_of_epoch, init_classifier, num_parameters, train_step
from jaxrepro.training.optim import make_optimizer

TABLES = {"synbols_supervised": "table1", "synbols_ood": "table2"}  # experiment -> the paper's table
SPLITS = ("train", "valid", "test")


class Weights(StrEnum):
    """Which weights are tested: those of the last epoch, or of the epoch with the lowest validation loss."""

    LAST = "last"
    BEST = "best"


@dataclass(frozen=True)
class TaskConfig:
    """What is predicted, from which images.

    Attributes:
      column: of the table; it names the results.
      label: column of the data that is predicted, "label" or "font".
      num_classes: the published number, shown by --mode=print; a run has as many outputs as its data has classes.
      num_train: the published number; a run on others says so.
      trim: images of train, valid and test that are kept, as many of every class; () = all.
      image_size: other images are resized to this side, bilinear.
      validate_on_test: where the validation images are a part of the training set (MNIST, SVHN), train on all of it
        and validate on the test set, as the released code does: the test set then drives the learning rate.
    """

    column: str = "Synbols Default 100k"
    label: str = "label"
    num_classes: int = 26
    num_train: int = 60_000
    trim: tuple[int, ...] = ()
    image_size: int = 32
    validate_on_test: bool = False

    def __post_init__(self):
        check(len(self.trim) in (0, 3), f"trim is {self.trim}; write () or (60000,20000,20000)")
        check(self.image_size >= 8, f"image_size is {self.image_size}; it must be at least 8")


@dataclass(frozen=True)
class Config(RunConfig):
    """A classification task of Synbols.

    Attributes:
      version: of the data, "v1" (26 letters) or "v2" (48 symbols); reports join that version's numbers only.
      tested: which weights.
      model: the network.
      task: what is predicted, on how many images.
      augment: of training images.
      energy: for the estimate of a run's cost.
    """

    version: str = "v1"
    tested: Weights = Weights.LAST
    model: ClassifierConfig = ClassifierConfig()
    task: TaskConfig = TaskConfig()
    augment: PlusConfig = PlusConfig()
    energy: EnergyConfig = EnergyConfig()

    def __post_init__(self):
        super().__post_init__()
        check(
            self.eval.every == "1 epochs",
            f"eval.every is {self.eval.every!r}; this protocol validates after every epoch: write '1 epochs'",
        )
        check(self.version in ("v1", "v2"), f"version is {self.version!r}; it must be 'v1' or 'v2'")


def make_network(config: Config, num_classes: int) -> nn.Module:
    """Returns the network of a config."""
    model = config.model
    options = {"channels": model.channels} if model.channels else {}
    options |= {"max_pooling": True} if model.max_pooling else {}
    return make_classifier(model.name, num_classes, **options)


def init_variables(config: Config, network: nn.Module, key: jax.Array, num_channels: int = 3) -> dict[str, Any]:
    """Returns {"params", "batch_stats"}; the latter is empty for the MLP."""
    size = config.task.image_size
    return {"batch_stats": {}} | dict(network.init(key, jnp.zeros((1, size, size, num_channels)), False))


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters for colour images and the published number of classes."""
    return init_variables(config, make_network(config, config.task.num_classes), key)["params"]


def prepare(config: Config, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns uint8 images [B, H, W, C] as float32 [B, size, size, C] in [-1, 1]; with a key those of training."""
    pixels, size = images.astype(jnp.float32) / 255, config.task.image_size
    if pixels.shape[1:3] != (size, size):
        pixels = augment.resize(pixels, size)
    if key is not None and config.augment.plus:
        pixels = pil_augment.random_plus(key, pixels, config.augment)
    return 2 * pixels - 1


def row_of(config: Config) -> str:
    """Returns the row of the table that a run belongs to."""
    return config.model.name + "+" * config.augment.plus


def splits_of(config: Config) -> dict[str, str]:
    """Returns "train", "valid", "test" -> the split of the source that is used."""
    splits = {split: getattr(config.data, split) for split in SPLITS}
    if config.task.validate_on_test and splits["valid"].startswith("train["):
        splits |= {"train": "train", "valid": splits["test"]}
    return splits


def facts_of(config: Config, tables: Mapping[str, Table], num_classes: int, num_test: int) -> dict[str, Any]:
    """Returns what a run is measured on, by which reports tell whether a published number is of the same task."""
    kind, _, rest = config.data.source.partition(":")
    options = dict(item.split("=", 1) for item in rest.partition("?")[2].split("&") if "=" in item)
    return {
        "num_classes": num_classes,
        "num_train": tables["train"].num_rows,
        "num_test": num_test,
        "partition": options.get("split", "random" if kind in ("synbols", "hdf5") else "official"),
        "validated_on": splits_of(config)["valid"],
    }


def load(config: Config) -> dict[str, Table]:
    """Returns "train", "valid", "test" -> table with at least "image" and the column that is predicted."""
    return labelled_splits(
        config.data.source,
        splits_of(config),
        config.task.label,
        trim=config.task.trim,
        smoke_command=f"python launch.py --config=configs/{config.name}.py:smoke",
    )


def build(config: Config) -> Experiment:
    """Returns the experiment: training with the plateau rule, validation after every epoch, and the test at the end."""
    if config.experiment not in TABLES:
        raise unknown("experiment", config.experiment, TABLES)
    tables, label = load(config), config.task.label
    names = class_names(tables, label)
    found = {"classes": len(names), "training images": tables["train"].num_rows}
    for (what, number), known in zip(found.items(), (config.task.num_classes, config.task.num_train), strict=True):
        if number != known:
            say(f"{config.data.source} has {number:,} {what}; the published data has {known:,}")
    source, draw = make_source(
        tables["train"],
        config.train.batch_size,
        columns=("image", label),
        resident_limit_mb=config.data.resident_limit_mb,
        whole_epochs=True,
    )
    epoch = round(source.steps_per_epoch)
    total = num_steps(config.train.duration, steps_per_epoch=epoch)
    network = make_network(config, len(names))
    task = Task(
        network,
        functools.partial(prepare, config),
        make_optimizer(config.optim, total, epoch),
        config.precision,
        config.eval.batch_size,
        plateau=config.optim.plateau if config.optim.schedule == Schedule.PLATEAU else None,
        weights=whole_epoch_weights(tables["train"].num_rows, config.train.batch_size),
    )

    def init(context, given):
        variables = init_variables(config, network, context.key, tables["train"].columns["image"].shape[-1])
        return init_classifier(task, variables, keep_best=config.tested == Weights.BEST)

    def update(state, batch, context):
        augment_key, dropout_key = jax.random.split(context.key)
        prepared = {"image": prepare(config, batch["image"], augment_key), "label": batch[label]}
        return train_step(task, state, prepared, context.replace(key=dropout_key))

    validation = Transition(
        "validation",
        When(every=epoch, end=True),
        lambda state, arrays, context: end_of_epoch(task, state, arrays),
        held_out(tables["valid"], label),
        before_evaluation=True,
    )
    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=update,
        transitions=(validation,),
        evaluators=make_evaluators(config, task, tables, names),
        stopped=(lambda state: state.plateau.stopped(len(task.optimizer.plateau_rates))) if task.plateau else None,
        notes=notes_of(tables.values()),
    )


def make_evaluators(config: Config, task: Task, tables: Mapping[str, Table], names: tuple[str, ...]):
    """Returns the test of the chosen weights; where fonts are predicted, also what tells which of them look alike."""
    arrays = held_out(tables["test"], config.task.label, config.eval.num_examples)
    cell, facts = (row_of(config), config.task.column), facts_of(config, tables, len(names), len(arrays["label"]))

    def records(state, found):
        return [
            Record(TABLES[config.experiment], *cell, "accuracy", found["accuracy"], "percent", facts),
            Record("parameters", *cell, "num_params", num_parameters(state), "count", facts),
        ]

    pictures = {"split": lambda: draw_splits(tables)} if config.experiment == "synbols_ood" else {}
    test = classifier_test(task, arrays, names, records, pictures)
    return (test, class_embeddings("font_embeddings", task, arrays, names)) if config.task.label == "font" else (test,)
