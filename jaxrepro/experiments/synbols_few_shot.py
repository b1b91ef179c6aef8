"""Few-shot classification of symbols and of fonts: table 6 of Synbols.

    python launch.py --config=configs/synbols_few_shot.py:smoke

A run trains one method on episodes of characters or of fonts, and tests it on both, on classes that it never saw: two
of the table's four columns. Classes are split once, whatever the seed.

Source: Lacoste et al., "Synbols: Probing Learning Algorithms with Synthetic Datasets" (NeurIPS 2020), section 4.4 and
appendix, and the benchmark code. Not taken over from the released code: its loader, which wraps pixels around at mid
grey; that all parts share their classes; a plateau rule that is fed the losses of the test, three times an epoch.
"""

import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.config import EvalConfig, RunConfig, Schedule
from jaxrepro.data import load_dataset
from jaxrepro.data.classes import language_names
from jaxrepro.data.dataset import check_colours, notes_of
from jaxrepro.data.episodes import ClassTable, EpisodeShape, class_tables
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError, check
from jaxrepro.evaluators.few_shot import Look, few_shot_test
from jaxrepro.experiment import Experiment, Source, Transition, When
from jaxrepro.models.few_shot import CHANNELS, Encoder, Learner, RelationNet
from jaxrepro.training import episodic, few_shot
from jaxrepro.training.few_shot import Method
from jaxrepro.training.optim import make_optimizer


class Attribute(StrEnum):
    """What the classes are."""

    CHAR = "char"
    FONT = "font"


COLUMNS = {Attribute.CHAR: "label", Attribute.FONT: "font"}  # of the data


class MethodName(StrEnum):
    """The rows of the table."""

    PROTO_NET = "ProtoNet"
    RELATION_NET = "RelationNet"
    MAML = "MAML"


@dataclass(frozen=True)
class MethodConfig:
    """name: a row of the table. channels: of the encoder's convolutions.

    inner_lr, inner_steps, first_order, transductive: of MAML, see `training.few_shot.ModelAgnostic`.
    """

    name: MethodName = MethodName.PROTO_NET
    channels: tuple[int, ...] = CHANNELS
    inner_lr: float = 0.01
    inner_steps: int = 1
    first_order: bool = False
    transductive: bool = True

    def __post_init__(self):
        check(len(self.channels) > 0, "channels is (); give a width per convolution, such as (64,64,64,64)")
        check(self.inner_lr > 0, f"inner_lr is {self.inner_lr}; it must be positive")
        check(self.inner_steps >= 1, f"inner_steps is {self.inner_steps}; it must be 1 or more")


@dataclass(frozen=True)
class EpisodesConfig:
    """train: what the classes of training and validation are, "char" or "font"; both are tested.

    ways, shots, queries: of an episode. shares: of the classes, for training, validation and test.
    num_train: episodes of an epoch. num_valid, num_test: of a validation, of the test of each attribute.
    """

    train: Attribute = Attribute.CHAR
    ways: int = 5
    shots: int = 5
    queries: int = 15
    shares: tuple[float, ...] = (0.6, 0.2, 0.2)
    num_train: int = 500
    num_valid: int = 500
    num_test: int = 500

    def __post_init__(self):
        EpisodeShape(self.ways, self.shots, self.queries)
        for name in ("num_train", "num_valid"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be 1 or more")
        check(self.num_test >= 2, f"num_test is {self.num_test}; an interval needs 2 or more")

    @property
    def shape(self) -> EpisodeShape:
        return EpisodeShape(self.ways, self.shots, self.queries)


@dataclass(frozen=True)
class EvaluationConfig(EvalConfig):
    """batch_size: episodes that an accelerator tests together. look: at what beside the table."""

    look: Look = Look()


@dataclass(frozen=True)
class Config(RunConfig):
    """version: of the data that the published numbers beside ours were measured on, "v1" (paper) or "v2"."""

    version: str = "v1"
    method: MethodConfig = MethodConfig()
    episodes: EpisodesConfig = EpisodesConfig()
    eval: EvaluationConfig = EvaluationConfig()

    def __post_init__(self):
        super().__post_init__()
        check(
            self.eval.every == "1 epochs",
            f"eval.every is {self.eval.every!r}; this protocol validates after every epoch: write '1 epochs'",
        )
        check(
            self.optim.schedule == Schedule.PLATEAU,
            f"optim.schedule is {str(self.optim.schedule)!r}; this protocol follows the validation: write 'plateau'",
        )
        check(self.version in ("v1", "v2"), f"version is {self.version!r}; it must be 'v1' or 'v2'")
        batch, epoch = self.train.batch_size, self.episodes.num_train
        check(epoch % batch == 0, f"train.batch_size is {batch} episodes; it must divide episodes.num_train, {epoch}")


def make_method(config: Config) -> Method:
    """Returns the method of a config with its network."""
    given, shots, precision = config.method, config.episodes.shots, config.precision
    if given.name == MethodName.PROTO_NET:
        return few_shot.PrototypicalNetwork(Encoder(given.channels), shots, precision)
    if given.name == MethodName.RELATION_NET:
        return few_shot.RelationNetwork(RelationNet(given.channels), shots, precision)
    network = Learner(config.episodes.ways, given.channels, momentum=0.0)
    inner = (given.inner_lr, given.inner_steps, given.first_order, given.transductive)
    return few_shot.ModelAgnostic(network, shots, precision, *inner)


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters for colour images of 32×32 pixels."""
    return make_method(config).init(key, jnp.zeros((2, 32, 32, 3)))["params"]


def prepare(images: jax.Array) -> jax.Array:
    """Returns uint8 images as float32 in [-1, 1]."""
    return 2 * (images.astype(jnp.float32) / 255) - 1


def load(config: Config) -> tuple[dict[Attribute, dict[str, ClassTable]], np.ndarray, tuple[str, ...]]:
    """Returns (attribute -> part -> table, language of every image, notes on the data).

    Raises:
      UserError: the data lacks an attribute, has images without a class, or a part has too few classes for an episode.
    """
    parts = load_dataset(config.data.source, smoke_command=f"python launch.py --config=configs/{config.name}.py:smoke")
    first = next(iter(parts.values()))
    for attribute, column in COLUMNS.items():
        if column not in first.columns:
            has = ", ".join(sorted(first.columns))
            raise UserError(f"{first.name} has no column {column!r}, the {attribute} of an image; it has {has}")
    split = (config.data.train, config.data.valid, config.data.test)
    fix = "but parts are shares of the classes of the whole source; leave them, and write config.episodes.shares"
    check(split == ("train", "valid", "test"), f"config.data.train, valid and test are {split}, {fix}")
    check_colours(first)
    read = [table.arrays() for table in parts.values()]
    columns = {k: np.concatenate([r[k] for r in read]) for k in ("image", *COLUMNS.values())}
    tables = {}
    for attribute, column in COLUMNS.items():
        labels = columns[column]
        check(labels.min() >= 0, f"{first.name} has images without a {attribute} (number -1)")
        names = first.classes.get(column) or [str(i) for i in range(labels.max() + 1)]
        tables[attribute] = class_tables(
            columns["image"], labels, names, attribute, config.episodes.shape, config.episodes.shares
        )
    languages = language_names(first.classes.get("label", ()), columns["label"])
    return tables, languages, notes_of(parts.values())


def make_source(config: Config, table: ClassTable) -> Source:
    """Returns the source whose rows are numbers of episodes: what is in them is drawn on the device."""
    batch_size, limit = config.train.batch_size, config.data.resident_limit_mb
    size = table.arrays["image"].nbytes / 2**20
    check(
        size <= limit,
        f"data.resident_limit_mb is {limit}; episodes are drawn on the device, which must hold {size:.0f} MB of images",
    )

    def block(seed: int, start: int, length: int) -> np.ndarray:
        del seed
        return np.arange(start * batch_size, (start + length) * batch_size, dtype=np.int32).reshape(length, batch_size)

    return Source(table.arrays, block, batch_size, config.episodes.num_train)


def build(config: Config) -> Experiment:
    """Returns the experiment: training on episodes, validation after every epoch, and the test at the end."""
    tables, languages, notes = load(config)
    own = tables[config.episodes.train]
    source, method = make_source(config, own["train"]), make_method(config)
    epoch = round(source.steps_per_epoch)
    total = num_steps(config.train.duration, steps_per_epoch=epoch)
    task = episodic.Task(
        method,
        config.episodes.shape,
        prepare,
        make_optimizer(config.optim, total, epoch),
        config.optim.plateau,
        config.episodes.num_valid,
        at_once=config.eval.batch_size,
    )

    def init(context, given):
        variables_key, sampler_key = jax.random.split(context.key)
        images = jnp.zeros((2, *source.arrays["image"].shape[1:]))
        variables = method.init(variables_key, images)
        return episodic.init_learner(task, variables, len(own["train"].names), sampler_key)

    def draw(state, arrays, x, context):
        return episodic.draw_batch(task, state, arrays, len(x), context.key)

    validation = Transition(
        "validation",
        When(every=epoch, end=True),
        lambda state, arrays, context: episodic.end_of_epoch(task, state, arrays, context.key),
        own["valid"].arrays,
        before_evaluation=True,
    )
    tests = {str(attribute): parts["test"] for attribute, parts in tables.items()}
    row, trained_on, shape = str(config.method.name), str(config.episodes.train), config.episodes.shape
    known = {"image_side": source.arrays["image"].shape[1], "classes": "disjoint"}  # as released: shared
    known |= {"num_images": len(languages), "ways": shape.ways, "shots": shape.shots}
    facts = {str(a): known | {"num_classes": sum(len(t.names) for t in parts.values())} for a, parts in tables.items()}
    test = few_shot_test(task, row, trained_on, tests, languages, config.episodes.num_test, config.eval.look, facts)
    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=functools.partial(episodic.train_step, task),
        transitions=(validation,),
        evaluators=(test,),
        stopped=functools.partial(episodic.stopped, task),
        notes=notes,
    )
