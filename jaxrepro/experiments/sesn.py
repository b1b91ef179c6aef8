"""Scale-equivariant steerable networks and their rivals on MNIST-scale (table 2).

    python launch.py --config=configs/sesn_mnist_scale.py:smoke

A seed is a realisation of the data as well as of the weights: `config.seeds=(0,1,2)` trains on three data sets. A run
may train other methods beside the main one, in the same program and on the same batches (`config.model.beside`).

Source: Sosnovik, Szmaja & Smeulders, "Scale-Equivariant Steerable Networks" (ICLR 2020), section 6.1, and the released
code. Kept from it: parameters are those of the epoch with the best validation accuracy, tested once at the end.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.config import RunConfig
from jaxrepro.data import augment, mnist_scale
from jaxrepro.data.batches import whole_epoch_weights
from jaxrepro.data.mnist_scale import RealisationConfig
from jaxrepro.durations import num_steps
from jaxrepro.errors import check
from jaxrepro.evaluators import equivariance, scale_error
from jaxrepro.evaluators.classification import make_judge
from jaxrepro.experiment import Evaluation, Evaluator, Experiment, Record, Transition, When
from jaxrepro.models.scale.methods import MethodsConfig, column_of, make_model, method_of
from jaxrepro.training.classification import Score, Task, chosen_variables, end_of_epoch, num_parameters
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.side_by_side import Rivals, init_networks, member_name


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to training images.

    Attributes:
      zoom: lowest and highest factor of the random zoom, uniform; () = none.
    """

    zoom: tuple[float, ...] = ()

    def __post_init__(self):
        usable = len(self.zoom) == 0 or (len(self.zoom) == 2 and 0 < self.zoom[0] <= self.zoom[1])
        check(usable, f"zoom is {self.zoom}; write () or (0.5,2.0)")


@dataclass(frozen=True)
class Config(RunConfig):
    """Table 2.

    Attributes:
      model: the networks.
      realisation: how digits become MNIST-scale.
      augment: of training images.
    """

    model: MethodsConfig = MethodsConfig()
    realisation: RealisationConfig = RealisationConfig()
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self):
        super().__post_init__()
        check(
            self.eval.every == "1 epochs",
            f"eval.every is {self.eval.every!r}; this protocol validates after every epoch: write '1 epochs'",
        )
        for name in ("train", "valid", "test"):
            given = getattr(self.data, name)
            check(
                given == name,
                f"data.{name} is {given!r}; MNIST-scale draws its splits itself, see config.realisation.num_{name}",
            )


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
    return init_networks(networks(config), jnp.zeros((1, 28, 28, 1)), key)


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


def make_rivals(config: Config, total: int, steps_per_epoch: int) -> Rivals:
    """Returns the methods of a run: one protocol for all."""
    optimizer, found = make_optimizer(config.optim, total, steps_per_epoch), networks(config)
    tasks = {
        method: Task(
            found[member_name(method)],
            functools.partial(prepare, config),
            optimizer,
            config.precision,
            config.eval.batch_size,
            score=Score.ERROR,
            select_by="error",
            weights=whole_epoch_weights(config.realisation.num_train, config.train.batch_size),
        )
        for method in config.model.methods
    }
    return Rivals(tasks)


def build(config: Config) -> Experiment:
    """Returns the experiment: training of all methods, the choice of the best epoch, and the test."""
    data = mnist_scale.load_realisations(
        config.data.source,
        config.seeds,
        config.realisation,
        limit=config.eval.num_examples,
        smoke_command=f"python launch.py --config=configs/{config.name}.py:smoke",
    )
    source = mnist_scale.make_source(data["train"], config.seeds, config.train.batch_size)
    epoch = round(source.steps_per_epoch)
    total = num_steps(config.train.duration, steps_per_epoch=epoch)
    rivals = make_rivals(config, total, epoch)

    def init(context, given):
        return rivals.init(init_variables(config, context.key), keep_best=True)

    def update(state, batch, context):
        augment_key, dropout_key = jax.random.split(context.key)
        batch = {**batch, "image": prepare(config, batch["image"], augment_key)}
        return rivals.train(state, batch, context.replace(key=dropout_key))

    def validation(state, arrays, context):
        arrays = jax.tree.map(lambda a: a[context.seed_index], arrays)
        return rivals.apply(lambda task, classifier: end_of_epoch(task, classifier, arrays), state)

    valid = {k: data["valid"][k] for k in ("image", "label")}
    when = When(every=epoch, end=True)
    return Experiment(
        source=source,
        init=init,
        update=update,
        transitions=(Transition("validation", when, validation, valid, before_evaluation=True),),
        evaluators=(make_test(config, rivals, data["test"]),),
    )


def make_test(config: Config, rivals: Rivals, arrays: Mapping) -> Evaluator:
    """Returns the test of the best weights of every method, also by the scale of the digits, and their equivariance."""
    judge = {method: make_judge(task) for method, task in rivals.tasks.items()}
    observed = [equivariance.measured(m, member_name(m), task) for m, task in rivals.tasks.items()]

    def evaluate(state, arrays, context):
        arrays = jax.tree.map(lambda a: a[context.seed_index], arrays)
        best = {name: chosen_variables(classifier) for name, classifier in state.items()}
        metrics, records = {}, []
        sizes = {f"num_{split}": getattr(config.realisation, f"num_{split}") for split in ("train", "valid")}
        facts = sizes | {"num_test": len(arrays["label"]), "num_classes": int(arrays["label"].max()) + 1}
        for method, name in rivals.names.items():
            found = judge[method](best[name], arrays)
            means = {"error": float(found["wrong"].mean()), "loss": float(found["loss"].mean())}
            metrics |= {rivals.prefix(method) + k: v for k, v in means.items()}
            records += [
                Record("table2", method, cell_column(config, method), "error", means["error"], "percent", facts),
                Record("table2", method, "params", "num_params", num_parameters(state[name]), "count"),
                *scale_error.binned(method, found["wrong"], np.asarray(arrays["scale"])),
            ]
        digits = equivariance.least_shrunk(arrays["image"], arrays["scale"])
        more, pictures = equivariance.compare(observed, best, digits)
        return Evaluation(metrics, pictures, records + more)

    return Evaluator("test", "test", When(end=True), evaluate, dict(arrays))


def cell_column(config: Config, method: str) -> str:
    """Returns the column of table 2 that a run measures, or words for a combination that is in none of its cells."""
    zoomed, tuned = bool(config.augment.zoom), config.model.tuned_with_zoom
    if zoomed == tuned or not method_of(method).settings:
        return column_of(config.model.resolution, zoomed)
    return f"{column_of(config.model.resolution, tuned)} settings, {'with' if zoomed else 'without'} zoom"
