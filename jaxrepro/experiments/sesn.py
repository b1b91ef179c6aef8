"""Scale-equivariant steerable networks and their rivals on MNIST-scale (table 2).

    python launch.py --config=configs/sesn_mnist_scale.py:smoke

A seed is a realisation of the data as well as of the weights: `config.seeds=(0,1,2)` trains on three data sets. A run
may train other methods beside the main one, in the same program and on the same batches (`config.model.beside`).

Source: Sosnovik, Szmaja & Smeulders, "Scale-Equivariant Steerable Networks" (ICLR 2020), section 6.1, and the released
code. Kept from it: parameters are those of the epoch with the best validation accuracy, tested once at the end.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from jaxrepro.config import RunConfig
from jaxrepro.data import augment, mnist_scale
from jaxrepro.durations import check_duration, num_steps
from jaxrepro.errors import check, unknown
from jaxrepro.evaluators import equivariance
from jaxrepro.evaluators.means import dataset_means
from jaxrepro.experiment import Evaluation, Evaluator, Experiment, Record, Transition
from jaxrepro.metrics import Mean
from jaxrepro.models.mnist_scale import MODELS, RESOLUTIONS, column_of, make_model
from jaxrepro.optim import make_optimizer
from jaxrepro.precision import apply_in


@dataclass(frozen=True)
class ModelConfig:
    """method: a row of table 2. beside: other rows, trained in the same run.

    resolution: 28 or 56 pixels. tuned_with_zoom: take the hyper-parameters of the columns with "+" (SESN only).
    channels: of the three stages, () = the method's own. hidden, dropout: of the dense layers; dropout is the
    probability that a unit is dropped.
    """

    method: str = "SESN Scalar"
    beside: tuple[str, ...] = ()
    resolution: int = 28
    tuned_with_zoom: bool = False
    channels: tuple[int, ...] = ()
    hidden: int = 256
    dropout: float = 0.7

    def __post_init__(self):
        for name in self.methods:
            if name not in MODELS:
                raise unknown("method in config.model:", name, MODELS)
        check(len(set(self.methods)) == len(self.methods), f"beside is {self.beside}; a method stands there twice")
        check(self.resolution in RESOLUTIONS, f"resolution is {self.resolution}; it must be one of {RESOLUTIONS}")
        check(len(self.channels) in (0, 3), f"channels is {self.channels}; give three numbers, or () for the usual")
        check(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must lie in [0, 1)")

    @property
    def methods(self) -> tuple[str, ...]:
        return (self.method, *self.beside)


@dataclass(frozen=True)
class RealisationConfig:
    """How `config.data.source` becomes MNIST-scale, see `jaxrepro.data.mnist_scale`. It always stays on the device.

    num_train, num_valid, num_test: images; a smaller source gives fewer to test. test_source: another source of digits
    for the test set; "" = the same. min_scale, max_scale: the zoom of every image is uniform between them.
    """

    num_train: int = 10_000
    num_valid: int = 2_000
    num_test: int = 50_000
    test_source: str = ""
    min_scale: float = 0.3
    max_scale: float = 1.0

    def __post_init__(self):
        for name in ("num_train", "num_valid", "num_test"):
            check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be positive")
        low, high = self.min_scale, self.max_scale
        check(0 < low <= high, f"min_scale is {low} and max_scale {high}; it must be 0 < min_scale <= max_scale")


@dataclass(frozen=True)
class AugmentConfig:
    """zoom: lowest and highest factor of the random zoom in training, uniform; () = none."""

    zoom: tuple[float, ...] = ()

    def __post_init__(self):
        usable = len(self.zoom) == 0 or (len(self.zoom) == 2 and 0 < self.zoom[0] <= self.zoom[1])
        check(usable, f"zoom is {self.zoom}; write () or (0.5,2.0)")


@dataclass(frozen=True)
class DecayConfig:
    """The learning rate is multiplied by `factor` after each of the durations `after`."""

    after: tuple[str, ...] = ()
    factor: float = 0.1

    def __post_init__(self):
        for i, duration in enumerate(self.after):
            check_duration(f"after[{i}]", duration)
        check(self.factor > 0, f"factor is {self.factor}; it must be positive")


@dataclass(frozen=True)
class Config(RunConfig):
    model: ModelConfig = ModelConfig()
    realisation: RealisationConfig = RealisationConfig()
    augment: AugmentConfig = AugmentConfig()
    decay: DecayConfig = DecayConfig()

    def __post_init__(self):
        super().__post_init__()
        for name in ("train", "valid", "test"):
            given = getattr(self.data, name)
            check(
                given == name,
                f"data.{name} is {given!r}; MNIST-scale draws its splits itself, see config.realisation.num_{name}",
            )


@struct.dataclass
class Member:
    """One network in training.

    Attributes:
      variables: {"params", "batch_stats"}.
      best: the variables of the epoch with the best validation accuracy so far.
      best_accuracy: float32 scalar, -1 before the first epoch's end.
    """

    variables: Any
    opt_state: Any
    best: Any
    best_accuracy: jax.Array


@struct.dataclass
class State:
    """members: name -> Member. realisation: int32, the position of this run's seed in `config.seeds`."""

    members: dict[str, Member]
    realisation: jax.Array


def member_name(method: str) -> str:
    """Returns the name of a method in metrics and checkpoints: "SESN Scalar" -> "sesn_scalar"."""
    return re.sub(r"\W", "_", method.lower())


def networks(config: Config) -> dict[str, nn.Module]:
    """Returns name -> network of every method of a run."""
    model = config.model
    changes = {"hidden": model.hidden, "dropout": model.dropout}
    changes |= {"channels": model.channels} if model.channels else {}
    return {
        member_name(method): make_model(method, model.resolution, model.tuned_with_zoom, **changes)
        for method in model.methods
    }


def init_variables(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns name -> {"params", "batch_stats"} of every network."""
    images = jnp.zeros((1, 28, 28, 1))
    return {
        name: network.init(jax.random.fold_in(key, i), images, False)
        for i, (name, network) in enumerate(networks(config).items())
    }


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters of every network."""
    return {name: variables["params"] for name, variables in init_variables(config, key).items()}


def prepare(config: Config, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns uint8 images [B, 28, 28, 1] normalised to float32; zoomed at random where a key is given."""
    pixels = images.astype(jnp.float32)
    if key is not None and config.augment.zoom:
        pixels = augment.random_zoom(key, pixels, *config.augment.zoom)
        pixels = jnp.clip(jnp.round(pixels), 0, 255)  # the original zooms 8-bit pictures
    return (pixels / 255 - mnist_scale.MEAN) / mnist_scale.STD


def apply(config: Config, network: nn.Module, variables: Any, images: jax.Array, **options: Any) -> Any:
    """Returns what `network.apply` does for normalised images, computed in the precision of the config."""
    return apply_in(config.precision, network, variables, images, **options)


def loss(config: Config, network: nn.Module, params: Any, batch_stats: Any, batch: Mapping, key: jax.Array):
    """Returns (mean cross-entropy in nats, (new batch statistics, metrics)) of a training batch.

    Args:
      batch: "image" float32 [B, 28, 28, 1] normalised, "label" int32 [B].
    """
    logits, changed = apply(
        config,
        network,
        {"params": params, "batch_stats": batch_stats},
        batch["image"],
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    metrics = {"loss": Mean.of(losses), "error": Mean.of(100.0 * (logits.argmax(-1) != batch["label"]))}
    return losses.mean(), (changed["batch_stats"], metrics)


def accuracy(config: Config, network: nn.Module, variables: Any, arrays: Mapping) -> jax.Array:
    """Returns the share of images {"image": uint8 [N, 28, 28, 1], "label"} that are classified correctly."""

    def correct(batch, key):
        logits = apply(config, network, variables, prepare(config, batch["image"]), train=False)
        return {"accuracy": (logits.argmax(-1) == batch["label"]).astype(jnp.float32)}

    return dataset_means(correct, dict(arrays), config.eval.batch_size, jax.random.key(0))["accuracy"]


def keep_best(member: Member, found: jax.Array) -> Member:
    """Returns the member with its variables kept as the best where `found`, their accuracy, is strictly better."""
    better = found > member.best_accuracy
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), member.variables, member.best)
    return member.replace(best=best, best_accuracy=jnp.where(better, found, member.best_accuracy))


def make_tx(config: Config, steps_per_epoch: float) -> optax.GradientTransformation:
    """Returns the optimizer with the config's drops of the learning rate."""
    total = num_steps(config.train.duration, steps_per_epoch=steps_per_epoch)
    drops = [num_steps(d, steps_per_epoch=steps_per_epoch, total=total) for d in config.decay.after]
    decay = optax.piecewise_constant_schedule(1.0, dict.fromkeys(drops, config.decay.factor))
    return optax.chain(make_optimizer(config.optim, total), optax.scale_by_schedule(decay))


def load(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Returns split -> {"image": uint8 [R, N, 28, 28, 1], "label": int32 [R, N]} of the R realisations of a run."""
    settings = config.realisation
    found = [
        mnist_scale.realisation(
            config.data.source,
            seed,
            mnist_scale.Sizes(settings.num_train, settings.num_valid, settings.num_test),
            test_source=settings.test_source,
            scale=(settings.min_scale, settings.max_scale),
            smoke_command=f"python launch.py --config=configs/{config.name}.py:smoke",
        )
        for seed in config.seeds
    ]
    limit = config.eval.num_examples or None
    return {
        split: {
            column: np.stack([r[split].arrays()[column][: limit if split == "test" else None] for r in found])
            for column in ("image", "label", "scale")
        }
        for split in ("train", "valid", "test")
    }


def build(config: Config) -> Experiment:
    """Returns the experiment: training of all methods, the choice of the best epoch, and the test."""
    data = load(config)
    source = mnist_scale.make_source(data["train"], config.seeds, config.train.batch_size)
    num_rows = data["train"]["label"].shape[1]
    epoch = round(source.steps_per_epoch)
    total = num_steps(config.train.duration, steps_per_epoch=epoch)
    tx = make_tx(config, epoch)
    nets = networks(config)

    def init(key):
        members = {
            name: Member(variables, tx.init(variables["params"]), variables, jnp.float32(-1))
            for name, variables in init_variables(config, key).items()
        }
        return State(members, jnp.int32(0))

    def draw(state, arrays, x, key):
        # The rows tell which realisation this seed has; the state keeps it for the validation and the test.
        return {k: a[x] for k, a in arrays.items()} | {"realisation": x // num_rows}

    def update(state, batch, key):
        augment_key, dropout_key = jax.random.split(key)
        batch = {**batch, "image": prepare(config, batch["image"], augment_key)}
        members, metrics = {}, {}
        for i, (name, network) in enumerate(nets.items()):
            member = state.members[name]
            gradient = jax.grad(functools.partial(loss, config, network), has_aux=True)
            old = member.variables
            stats = old.get("batch_stats", {})
            grads, (stats, found) = gradient(old["params"], stats, batch, jax.random.fold_in(dropout_key, i))
            updates, opt_state = tx.update(grads, member.opt_state, old["params"])
            variables = {**old, "params": optax.apply_updates(old["params"], updates), "batch_stats": stats}
            members[name] = member.replace(variables=variables, opt_state=opt_state)
            metrics |= {("" if i == 0 else f"{name}/") + k: v for k, v in found.items()}
        return State(members, batch["realisation"][0]), metrics

    def end_of_epoch(state, arrays, key):
        arrays = jax.tree.map(lambda a: a[state.realisation], arrays)
        kept = {
            name: keep_best(member, accuracy(config, nets[name], member.variables, arrays))
            for name, member in state.members.items()
        }
        return state.replace(members=kept)

    valid = {k: data["valid"][k] for k in ("image", "label")}
    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=update,
        transitions=(Transition("best_epoch", epoch, end_of_epoch, valid),),
        evaluators=evaluators(config, nets, valid, data["test"], epoch, total),
    )


def evaluators(config: Config, nets: Mapping, valid: Mapping, test: Mapping, epoch: int, total: int) -> tuple:
    """Returns the evaluator of the current parameters on the validation set, and the test of the best ones."""
    measure = {name: jax.jit(functools.partial(accuracy, config, network)) for name, network in nets.items()}
    observed = [view(config, method) for method in config.model.methods]
    first = member_name(config.model.method)

    def part(arrays, state):
        return jax.tree.map(lambda a: a[int(state.realisation)], arrays)

    def validate(state, arrays, key):
        arrays = part(arrays, state)
        errors = {n: 100 * (1 - float(measure[n](m.variables, arrays))) for n, m in state.members.items()}
        return Evaluation({("" if n == first else f"{n}/") + "error": e for n, e in errors.items()})

    def run_test(state, arrays, key):
        arrays = part(arrays, state)
        best = {
            n: keep_best(m, measure[n](m.variables, arrays["valid"])).best  # the last epoch has no transition
            for n, m in state.members.items()
        }
        metrics, records = {}, []
        facts = {f"num_{split}": len(arrays[split]["label"]) for split in ("valid", "test")}
        facts |= {"num_train": config.realisation.num_train, "num_classes": int(arrays["test"]["label"].max()) + 1}
        shown = {k: arrays["test"][k] for k in ("image", "label")}
        for method in config.model.methods:
            name = member_name(method)
            error = 100 * (1 - float(measure[name](best[name], shown)))
            metrics[("" if name == first else f"{name}/") + "error"] = error
            size = sum(leaf.size for leaf in jax.tree.leaves(best[name]["params"]))
            records += [
                Record("table2", method, cell_column(config, method), "error", error, "percent", facts),
                Record("table2", method, "params", "num_params", size, "count"),
            ]
        digits = equivariance.least_shrunk(arrays["test"]["image"], arrays["test"]["scale"])
        more, pictures = equivariance.compare(observed, best, digits)
        return Evaluation(metrics, pictures, records + more)

    every = num_steps(config.eval.every, steps_per_epoch=epoch, total=total)
    return (
        Evaluator("validation", "valid", every, validate, valid),
        Evaluator("test", "test", total, run_test, {"valid": valid, "test": dict(test)}),
    )


def cell_column(config: Config, method: str) -> str:
    """Returns the column of table 2 that a run measures, or words for a combination that is in none of its cells."""
    zoomed, tuned = bool(config.augment.zoom), config.model.tuned_with_zoom
    if zoomed == tuned or not MODELS[method].settings:
        return column_of(config.model.resolution, zoomed)
    return f"{column_of(config.model.resolution, tuned)} settings, {'with' if zoomed else 'without'} zoom"


def view(config: Config, method: str) -> equivariance.Network:
    """Returns a method as the equivariance measurement sees it: uint8 images in, maps of every stage out."""
    name = member_name(method)
    network = networks(config)[name]

    def features(variables, images):
        _, kept = apply(config, network, variables, prepare(config, images), train=False, mutable=["intermediates"])
        stages = kept["intermediates"]
        return [stages[k]["features"][0].astype(jnp.float32) for k in sorted(stages) if k.startswith("stage_")]

    return equivariance.Network(method, name, features)
