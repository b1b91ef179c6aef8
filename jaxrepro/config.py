"""Typed configs: from the locked ConfigDict of a config file to frozen dataclasses, checked at the border.

@dataclass(frozen=True)
class Config(RunConfig):                # an experiment adds its own sections
    model: VAEConfig = VAEConfig()

config = parse(Config, config_dict)     # UserError with the nearest key, the wrong type, the impossible value
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jaxrepro.durations import check_duration
from jaxrepro.errors import UserError, check, unknown


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
    """duration: "1200 steps" or "100 epochs"; batch_size: global, over all devices."""

    duration: str = "1000 steps"
    batch_size: int = 128

    def __post_init__(self):
        check_duration("duration", self.duration, units=("steps", "epochs"))
        check(self.batch_size > 0, f"batch_size is {self.batch_size}; it must be positive")


@dataclass(frozen=True)
class DataConfig:
    """source: see `jaxrepro.data`; train, valid and test: splits in TFDS's slice syntax, "train[20%:]".

    resident_limit_mb: training sets up to this size stay on the device, larger ones are streamed.
    """

    source: str = "synbols:default?num_samples=20000"
    train: str = "train"
    valid: str = "valid"
    test: str = "test"
    resident_limit_mb: int = 4096


@dataclass(frozen=True)
class EvalConfig:
    """every: a duration, or "end"; batch_size: of evaluation; num_examples: at most so many, 0 = all."""

    every: str = "10%"
    batch_size: int = 256
    num_examples: int = 0

    def __post_init__(self):
        check_duration("every", self.every)
        check(self.batch_size > 0, f"batch_size is {self.batch_size}; it must be positive")
        check(self.num_examples >= 0, f"num_examples is {self.num_examples}; it must be 0 (all) or more")


@dataclass(frozen=True)
class LogConfig:
    every: str = "100 steps"
    tensorboard: bool = False

    def __post_init__(self):
        check_duration("every", self.every)


@dataclass(frozen=True)
class CheckpointConfig:
    """every: a duration; keep: that many of the latest; best: metric whose best checkpoint is kept too.

    best: "" or "split/metric", such as "valid/loss"; best_mode: "min" or "max".
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
    """How a run is laid out on the hardware; nothing here changes what is computed, only where.

    model_axis: devices that share one copy of the parameters (sharding rules of the experiment); the rest is `data`.
    seeds: how several seeds become one program. steps_per_call: steps scanned per dispatch, 0 = automatic.
    """

    model_axis: int = 1
    seeds: SeedMode = SeedMode.AUTO
    steps_per_call: int = 0

    def __post_init__(self):
        check(self.model_axis >= 1, f"model_axis is {self.model_axis}; it must be 1 or more")
        check(self.steps_per_call >= 0, f"steps_per_call is {self.steps_per_call}; it must be 0 (auto) or more")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer, see `jaxrepro.optim`.

    halve_at: steps at which the learning rate is halved. warmup_steps: linear from 0.
    clip_norm: global norm that gradients are clipped to, 0 = never.
    weight_decay: decoupled, theta <- theta * (1 - lr * weight_decay) at every step.
    """

    name: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"
    halve_at: tuple[int, ...] = ()
    warmup_steps: int = 0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    def __post_init__(self):
        check(self.lr > 0, f"lr is {self.lr}; it must be positive")
        check(self.warmup_steps >= 0, f"warmup_steps is {self.warmup_steps}; it must be 0 or more")
        check(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; it must be 0 or more")
        check(self.clip_norm >= 0, f"clip_norm is {self.clip_norm}; it must be 0 (never) or more")
        for name in ("b1", "b2", "momentum"):
            check(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; it must lie in [0, 1)")


@dataclass(frozen=True)
class RunConfig:
    """The sections that every experiment has. An experiment's own config extends this one."""

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


def to_dict(config: Any) -> dict:
    """Returns a dataclass as plain nested dicts, tuples and strings, ready for a ConfigDict or JSON."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    return str(config) if isinstance(config, StrEnum) else config


def parse(cls: type, values: Mapping[str, Any], path: str = "config") -> Any:
    """Returns `cls(**values)` with nested sections built and every type checked.

    Args:
      cls: a frozen dataclass; its `__post_init__` raises UserError for impossible values.
      values: ConfigDict or dict, with exactly the fields of `cls` (those with a default may be absent).
      path: dotted name of this section, for messages.

    Raises:
      UserError: unknown or missing key, wrong type, impossible value; the message names the key.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in fields:
            raise unknown(f"key in {path}:", name, fields)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"{path}.{name} is missing")
    converted = {name: convert(types[name], value, f"{path}.{name}") for name, value in values.items()}
    try:
        return cls(**converted)
    except UserError as error:
        raise UserError(f"{path}.{error}") from None


def convert(kind: Any, value: Any, path: str) -> Any:
    """Returns `value` as type `kind`: a dataclass, enum, tuple[x, ...], int, float, bool or str."""
    if dataclasses.is_dataclass(kind):
        if not hasattr(value, "items"):
            raise UserError(f"{path} is {value!r}; it is a section, set one of its keys: {path}.KEY=VALUE")
        return parse(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError:
            raise unknown(f"value of {path}", value, list(kind)) from None
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, (tuple, list)):
            raise UserError(f"{path} is {value!r}; write a tuple such as (0,1,2)")
        item = typing.get_args(kind)[0]
        return tuple(convert(item, v, f"{path}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path} is {value}; it must be finite")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{path} is {value!r} ({type(value).__name__}); it must be {kind.__name__}")
    return value
