"""Typed configs: the sections that every run has, frozen dataclasses that refuse impossible values.

@dataclass(frozen=True)
class Config(RunConfig):                # an experiment adds its own sections
    model: VAEConfig = VAEConfig()

config = parse(Config, config_dict)     # UserError with the nearest key, the wrong type, the impossible value
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from jaxrepro.config_values import MOST, convert, parse, shown, to_dict  # noqa: F401, they are imported from here
from jaxrepro.durations import check_duration
from jaxrepro.errors import check

MOST_BATCH = 1_000_000


class Precision(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class SeedMode(StrEnum):
    """How several seeds become one program; `auto` picks by backend, see `jaxrepro.seeds`."""

    AUTO = "auto"
    UNROLL = "unroll"
    VMAP = "vmap"
    SHARD = "shard"


class Keep(StrEnum):
    LATEST = "latest"
    BEST = "best"


@dataclass(frozen=True)
class TrainConfig:
    """How long and in which portions.

    Attributes:
      duration: "1200 steps" or "100 epochs".
      batch_size: global, over all devices.
    """

    duration: str = "1000 steps"
    batch_size: int = 128

    def __post_init__(self):
        check_duration("duration", self.duration, units=("steps", "epochs"))
        check_batch_size(self.batch_size)


def check_batch_size(size: int) -> None:
    """Raises UserError for a batch that no machine can hold, before its rows are drawn."""
    check(0 < size <= MOST_BATCH, f"batch_size is {size}; it must be positive, and at most {MOST_BATCH:,}")


@dataclass(frozen=True)
class DataConfig:
    """The data.

    Attributes:
      source: see `jaxrepro.data`.
      train, valid, test: splits in TFDS's slice syntax, "train[20%:]".
      resident_limit_mb: training sets up to this size, in MiB, stay on the device; larger ones are streamed.
    """

    source: str = "synbols:default?num_samples=20000"
    train: str = "train"
    valid: str = "valid"
    test: str = "test"
    resident_limit_mb: int = 4096

    def __post_init__(self):
        check(self.resident_limit_mb >= 0, f"resident_limit_mb is {self.resident_limit_mb}; it must be 0 or more")


@dataclass(frozen=True)
class EvalConfig:
    """How evaluators run.

    Attributes:
      every: a duration, or "end".
      batch_size: of evaluation.
      num_examples: at most so many, 0 = all.
    """

    every: str = "10%"
    batch_size: int = 256
    num_examples: int = 0

    def __post_init__(self):
        check_duration("every", self.every)
        check_batch_size(self.batch_size)
        check(self.num_examples >= 0, f"num_examples is {self.num_examples}; it must be 0 (all) or more")


@dataclass(frozen=True)
class LogConfig:
    """What is written while a run goes on.

    Attributes:
      every: a duration, between lines of training metrics.
      tensorboard: also write scalars and pictures for TensorBoard.
    """

    every: str = "100 steps"
    tensorboard: bool = False

    def __post_init__(self):
        check_duration("every", self.every)


@dataclass(frozen=True)
class CheckpointConfig:
    """Which checkpoints there are.

    Attributes:
      every: a duration.
      keep: that many of the latest.
      best: "split/metric", such as "valid/loss", whose best checkpoint is kept too; "" = none.
      best_mode: "min" or "max".
      evaluate: which one `--mode=eval` reads.
    """

    every: str = "10%"
    keep: int = 2
    best: str = ""
    best_mode: str = "min"
    evaluate: Keep = Keep.LATEST

    def __post_init__(self):
        check_duration("every", self.every)
        check(self.keep >= 2, f"keep is {self.keep}; it must be at least 2, so that a damaged one has a predecessor")
        check(self.best_mode in ("min", "max"), f"best_mode is {self.best_mode!r}; it must be 'min' or 'max'")


@dataclass(frozen=True)
class ParallelConfig:
    """How a run is laid out on the hardware; nothing here changes what is computed, but for rounding.

    Attributes:
      model_axis: devices that share one copy of the parameters (sharding rules of the experiment); the rest is `data`.
      seeds: how several seeds become one program.
      steps_per_call: steps scanned per dispatch, 0 = automatic.
      quick_compile: compile faster on CPU, for steps that may be slower: for short runs.
    """

    model_axis: int = 1
    seeds: SeedMode = SeedMode.AUTO
    steps_per_call: int = 0
    quick_compile: bool = False

    def __post_init__(self):
        check(self.model_axis >= 1, f"model_axis is {self.model_axis}; it must be 1 or more")
        check(self.steps_per_call >= 0, f"steps_per_call is {self.steps_per_call}; it must be 0 (auto) or more")


class OptimizerName(StrEnum):
    ADAM = "adam"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate changes after the warm-up; a run has exactly one."""

    CONSTANT = "constant"
    COSINE = "cosine"
    DROPS = "drops"
    LINEAR_TAIL = "linear_tail"
    PLATEAU = "plateau"


@dataclass(frozen=True)
class PlateauConfig:
    """The rate falls when the validation loss of an epoch stops falling, see `jaxrepro.training.plateau`.

    Attributes:
      factor: of a reduction.
      patience: so many epochs in turn may bring nothing.
      threshold: an improvement is a loss below (1 - threshold) times the lowest.
      stop_at: training ends when the rate is at most this share of the first.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    stop_at: float = 1e-3

    def __post_init__(self):
        check(0 < self.factor < 1, f"factor is {self.factor}; it must lie between 0 and 1")
        check(self.patience >= 0, f"patience is {self.patience}; it must be 0 or more")
        check(0 <= self.threshold < 1, f"threshold is {self.threshold}; it must lie in [0, 1)")
        check(0 < self.stop_at < 1, f"stop_at is {self.stop_at}; it must lie between 0 and 1")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rate, see `jaxrepro.training.optim`.

    Attributes:
      name: "adam" (b1, b2, eps) or "sgd" (momentum, nesterov).
      lr: the learning rate after the warm-up.
      schedule: of the learning rate; drops, linear_tail and plateau below belong to one each.
      warmup_steps: over which the rate rises linearly from 0.
      drops: durations after which the rate is multiplied by drop_factor, such as ("20 epochs", "60%").
      drop_factor: see drops.
      linear_tail: the last share of the run, over which the rate falls to 0.
      plateau: the rule of schedule="plateau".
      l2: times the parameters, added to every gradient in front of Adam or the momentum.
      weight_decay: decoupled, theta <- theta * (1 - lr * weight_decay) at every step.
      clip_norm: global norm that gradients are clipped to, 0 = never.
      no_decay: patterns of parameter paths without l2 and weight decay, such as (".*/bias",).
      frozen: patterns of parameter paths that are not trained.
    """

    name: OptimizerName = OptimizerName.ADAM
    lr: float = 1e-3
    schedule: Schedule = Schedule.CONSTANT
    warmup_steps: int = 0
    drops: tuple[str, ...] = ()
    drop_factor: float = 0.1
    linear_tail: float = 0.5
    plateau: PlateauConfig = PlateauConfig()
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    momentum: float = 0.9
    nesterov: bool = False
    l2: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    no_decay: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

    def __post_init__(self):
        check(self.lr > 0, f"lr is {self.lr}; it must be positive")
        for name in ("warmup_steps", "l2", "weight_decay", "clip_norm"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must be 0 or more")
        check(self.warmup_steps < 2**31, f"warmup_steps is {self.warmup_steps}; it must be below 2**31")
        for name in ("b1", "b2", "momentum"):
            check(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        for i, duration in enumerate(self.drops):
            check_duration(f"drops[{i}]", duration)
        check(self.drop_factor > 0, f"drop_factor is {self.drop_factor}; it must be positive")
        check(0 < self.linear_tail <= 1, f"linear_tail is {self.linear_tail}; it must lie in (0, 1]")
        for name in ("no_decay", "frozen"):
            for pattern in getattr(self, name):
                check(is_pattern(pattern), f"{name} has {pattern!r}, which is not a regular expression")
        self._check_combination()

    def _check_combination(self):
        """Refuses fields that would have no effect, or two that do the same."""
        for name, schedule in (
            ("drops", Schedule.DROPS),
            ("drop_factor", Schedule.DROPS),
            ("linear_tail", Schedule.LINEAR_TAIL),
            ("plateau", Schedule.PLATEAU),
        ):
            default = type(self).__dataclass_fields__[name].default
            unused = self.schedule != schedule and getattr(self, name) != default
            usual = default if isinstance(default, float | tuple) else "its defaults"
            check(
                not unused,
                f"{name} needs schedule={str(schedule)!r}; schedule is {str(self.schedule)!r}: set {name} to {usual}",
            )
        check(self.schedule != Schedule.DROPS or self.drops, "drops is (); schedule='drops' needs durations in it")
        unused = {OptimizerName.ADAM: ("momentum", "nesterov"), OptimizerName.SGD: ("b1", "b2", "eps")}[self.name]
        for name in unused:
            default = type(self).__dataclass_fields__[name].default
            check(getattr(self, name) == default, f"{name} has no meaning for name={str(self.name)!r}")
        check(not (self.l2 and self.weight_decay), "l2 and weight_decay are both set; decay is coupled or decoupled")
        decays = self.l2 or self.weight_decay
        check(decays or not self.no_decay, "no_decay is set, but neither l2 nor weight_decay")
        check(not self.nesterov or self.momentum > 0, "nesterov needs momentum > 0")


def is_pattern(text: str) -> bool:
    """Returns whether a text is a regular expression."""
    try:
        re.compile(text)
    except re.error:
        return False
    return True


@dataclass(frozen=True)
class EnergyConfig:
    """For the estimate of a run's cost.

    Attributes:
      watts: drawn by the device while it computes, a figure you state.
      grams_per_kwh: carbon dioxide emitted per kilowatt-hour of electricity.
    """

    watts: float = 300.0
    grams_per_kwh: float = 26.0

    def __post_init__(self):
        check(self.watts > 0, f"watts is {self.watts}; it must be positive")
        check(self.grams_per_kwh >= 0, f"grams_per_kwh is {self.grams_per_kwh}; it must be 0 or more")


@dataclass(frozen=True)
class RunConfig:
    """The sections that every experiment has. An experiment's own config extends this one.

    Attributes:
      experiment: a name of `jaxrepro.registry`.
      name: of the config file, without its ending.
      preset: of the config file.
      seeds: one run of each, in one program.
      precision: of the networks' arithmetic; parameters, statistics and losses are float32.
      train: duration and batch.
      optim: optimizer and learning rate.
      data: source and splits.
      eval, log, checkpoint: what happens on the way.
      parallel: layout on the hardware.
    """

    experiment: str
    name: str
    preset: str = "paper"
    seeds: tuple[int, ...] = (0,)
    precision: Precision = Precision.FLOAT32
    train: TrainConfig = TrainConfig()
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()
    eval: EvalConfig = EvalConfig()
    log: LogConfig = LogConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    parallel: ParallelConfig = ParallelConfig()

    def __post_init__(self):
        check(len(self.seeds) > 0, "seeds is empty; give at least one, such as (0,)")
        check(all(0 <= s < 2**31 for s in self.seeds), f"seeds is {self.seeds}; each must lie in [0, 2**31)")
        check(len(set(self.seeds)) == len(self.seeds), f"seeds is {self.seeds}; a seed stands there twice")
