"""Counting letters by blobs and by density: table 5 of Synbols.

    python launch.py --config=configs/synbols_counting.py:smoke

FCN8 sees 128×128 pixels with letters of which about 71 % are an "a", and counts these: FCN8-L draws a blob for each
(LCFCN, trained with one point a letter), FCN8-D a map of density. Tested are the weights that were best in validation,
on images split from those of training by the letter of their first symbol, which is the one that others cover.

Source: Lacoste et al., "Synbols: Probing Learning Algorithms with Synthetic Datasets" (NeurIPS 2020), section 4, table
5 and appendix, and the released benchmark code. Different from it: seeds are set; the fixed scale has two columns, as
in the paper.
"""

import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.config import RunConfig, Schedule
from jaxrepro.data.counting import Overlap, counting_parts, with_replacement
from jaxrepro.durations import num_steps
from jaxrepro.errors import check
from jaxrepro.evaluators.counting import counting_test
from jaxrepro.experiment import Experiment, Source, Transition, When
from jaxrepro.models.fcn8 import FCN8, NARROW, NUM_BLOCKS, WIDE
from jaxrepro.models.trunk import TrunkConfig, load_trunk, with_trunk
from jaxrepro.models.vgg import POOLED
from jaxrepro.progress import say
from jaxrepro.training import counting
from jaxrepro.training.blobs import SplitRule
from jaxrepro.training.counting import Blobs, Density, Task
from jaxrepro.training.optim import make_optimizer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels


class MethodName(StrEnum):
    """The rows of the table."""

    BLOBS = "FCN8-L"
    DENSITY = "FCN8-D"


@dataclass(frozen=True)
class MethodConfig:
    """What is trained.

    Attributes:
      name: a row of the table.
      rule: of FCN8-L's loss: "benchmark", or "package" for that of the authors' later package, one sigmoid output.
      root: whether FCN8-D's loss is the root of the mean square (released code) or the mean square (paper).
      padding: of the first convolution, 100, or 1 for a network without the wide border.
    """

    name: MethodName = MethodName.BLOBS
    rule: SplitRule = SplitRule.BENCHMARK
    root: bool = True
    padding: int = WIDE

    def __post_init__(self):
        check(self.padding in (WIDE, NARROW), f"padding is {self.padding}; it must be {WIDE} or {NARROW}")


@dataclass(frozen=True)
class TaskConfig:
    """The data of a column.

    Attributes:
      column: of the table.
      overlap: images that are kept, "any", "none" or "some", by whether letters overlap.
      patience: epochs in turn with a higher validation error than the lowest, after which training ends.
      epoch_share: images of an epoch, drawn with replacement, per test image.
    """

    column: str = "Fixed scale/Non-overlapping"
    overlap: Overlap = Overlap.NONE
    patience: int = 6
    epoch_share: float = 2.0

    def __post_init__(self):
        check(self.patience >= 1, f"patience is {self.patience}; it must be 1 or more")
        check(self.epoch_share > 0, f"epoch_share is {self.epoch_share}; it must be positive")


@dataclass(frozen=True)
class Config(RunConfig):
    """version: of the data, "v1" (26 letters) or "v2" (48 symbols); reports join that version's numbers only."""

    version: str = "v1"
    method: MethodConfig = MethodConfig()
    task: TaskConfig = TaskConfig()
    trunk: TrunkConfig = TrunkConfig()

    def __post_init__(self):
        super().__post_init__()
        schedule, every = str(self.optim.schedule), self.eval.every
        check(schedule != Schedule.PLATEAU, f"optim.schedule is {schedule!r}; here no rate follows the validation")
        check(every == "1 epochs", f"eval.every is {every!r}; every epoch is validated: write '1 epochs'")
        blocks, pooled = self.trunk.blocks, self.trunk.pooled
        check(len(blocks) == NUM_BLOCKS, f"trunk.blocks has {len(blocks)} blocks; FCN8 has {NUM_BLOCKS}")
        check(pooled == POOLED, f"trunk.pooled is {pooled}; FCN8 sees windows of {POOLED}×{POOLED}: write {POOLED}")


def make_method(config: Config) -> Blobs | Density:
    if config.method.name == MethodName.BLOBS:
        return Blobs(config.method.rule)
    return Density(config.method.root)


def make_network(config: Config) -> FCN8:
    trunk = config.trunk
    return FCN8(make_method(config).num_outputs, trunk.blocks, trunk.hidden_size, trunk.dropout, config.method.padding)


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns random parameters; they do not depend on the size of the images."""
    return make_network(config).init(key, jnp.zeros((1, 32, 32, 3)), False)["params"]


def prepare(images: jax.Array) -> jax.Array:
    """Returns uint8 images as ImageNet's networks see them, float32 with mean 0 and variance 1 over its pixels."""
    return (images.astype(jnp.float32) / 255 - jnp.array(MEAN)) / jnp.array(STD)


def make_source(config: Config, part: dict[str, np.ndarray], num_test: int) -> Source:
    """Returns the source of rows drawn with replacement; an epoch is a number of whole batches."""
    arrays, limit = {k: part[k] for k in ("image", "points")}, config.data.resident_limit_mb
    size = sum(a.nbytes for a in arrays.values()) / 2**20
    check(size <= limit, f"data.resident_limit_mb is {limit}; training draws from all {size:.0f} MB of images at once")
    batch_size = config.train.batch_size
    epoch = max(1, round(config.task.epoch_share * num_test / batch_size))
    return Source(arrays, with_replacement(len(part["image"]), batch_size), batch_size, epoch * batch_size)


def build(config: Config) -> Experiment:
    """Returns the experiment: training, validation after every epoch, and the test of the best weights at the end.

    Raises:
      UserError: no data to count, or several CPU devices: JAX hands arrays of more than 100 kB to the host by threads
        that are all waiting for each other then.
    """
    num_devices = jax.local_device_count() if jax.default_backend() == "cpu" else 1
    check(
        num_devices == 1 or config.method.name != MethodName.BLOBS,
        f"FCN8-L calls the host at every step, for which the {num_devices} CPU devices of this process would wait for "
        "ever; take one: leave xla_force_host_platform_device_count out of XLA_FLAGS",
    )
    splits = {"train": config.data.train, "valid": config.data.valid, "test": config.data.test}
    smoke = f"python launch.py --config=configs/{config.name}.py:smoke"
    parts, facts, notes = counting_parts(config.data.source, splits, config.task.overlap, smoke)
    facts["test_split"] = config.data.test
    if 0 < (limit := config.eval.num_examples) < len(parts["test"]["image"]):
        parts["test"] = {k: a[:limit] for k, a in parts["test"].items()}
        facts["test_split"] += f", first {limit}"
    source = make_source(config, parts["train"], len(parts["test"]["image"]))
    epoch = round(source.steps_per_epoch)
    trunk = load_trunk(config.trunk.weights, config.trunk.network(2), parts["train"]["image"].shape[1:])
    if not trunk.params:
        say("FCN8 begins with random weights: its numbers cannot be compared with the published ones, see config.trunk")
    facts |= {"trunk": trunk.name, "padding": config.method.padding}
    task = Task(
        make_network(config),
        make_method(config),
        prepare,
        make_optimizer(config.optim, num_steps(config.train.duration, steps_per_epoch=epoch), epoch),
        config.task.patience,
        config.eval.batch_size,
        config.precision,
    )

    def init(context, given):
        return counting.start_counter(task, with_trunk(init_params(config, context.key), given))

    validation = Transition(
        "validation",
        When(every=epoch, end=True),
        lambda state, arrays, context: counting.end_of_epoch(task, state, arrays),
        {k: parts["valid"][k] for k in ("image", "points")},
        before_evaluation=True,
    )
    counts = parts["train"]["points"].sum((1, 2))
    return Experiment(
        source=source,
        init=init,
        given=dict(trunk.params),
        update=functools.partial(counting.train_step, task),
        transitions=(validation,),
        evaluators=(counting_test(task, str(config.method.name), config.task.column, parts["test"], counts, facts),),
        stopped=functools.partial(counting.stopped, task),
        notes=notes,
    )
