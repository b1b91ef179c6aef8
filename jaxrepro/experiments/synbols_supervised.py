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
import numpy as np
import optax
from flax import struct

from jaxrepro import plateau as plateau_lib
from jaxrepro.config import RunConfig
from jaxrepro.data import Table, augment, load_dataset, make_source, pil_augment, read_split
from jaxrepro.data.pil_augment import PlusConfig
from jaxrepro.data.splits import balanced_part
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError, check, unknown
from jaxrepro.evaluators import mistakes
from jaxrepro.evaluators.batched import map_batches
from jaxrepro.evaluators.means import dataset_means
from jaxrepro.evaluators.split_scatter import draw_splits
from jaxrepro.experiment import Evaluation, Evaluator, Experiment, Record, Transition
from jaxrepro.metrics import Mean
from jaxrepro.models.classifiers import CLASSIFIERS, make_classifier
from jaxrepro.optim import make_optimizer
from jaxrepro.plateau import Plateau
from jaxrepro.precision import apply_in
from jaxrepro.progress import say

TABLES = {"synbols_supervised": "table1", "synbols_ood": "table2"}  # experiment -> the paper's table
MODELS = tuple(name for name in CLASSIFIERS if name != "VGG-16")  # the table's row VGG-16 is another network
SPLITS = ("train", "valid", "test")


class Weights(StrEnum):
    """Which weights are tested: those of the last epoch, or of the epoch with the lowest validation loss."""

    LAST = "last"
    BEST = "best"


@dataclass(frozen=True)
class ModelConfig:
    """name: a row of the table, without "+". channels, max_pooling: of Conv-4, see `models.conv4`; () = as executed."""

    name: str = "Conv-4 GAP"
    channels: tuple[int, ...] = ()
    max_pooling: bool = False

    def __post_init__(self):
        if self.name not in MODELS:
            raise unknown("name in config.model:", self.name, MODELS)
        check(len(self.channels) in (0, 4), f"channels is {self.channels}; give four numbers, or () for the usual")
        chosen = bool(self.channels) or self.max_pooling
        check(
            not chosen or self.name.startswith("Conv-4"),
            f"name is {self.name!r}; channels and max_pooling can be chosen for Conv-4 only",
        )


@dataclass(frozen=True)
class TaskConfig:
    """column: of the table; it names the results. label: column of the data that is predicted, "label" or "font".

    num_classes: the published number, shown by --mode=print; a run has as many outputs as its data has classes.
    num_train: the published number; a run on others says so.
    trim: images of train, valid and test that are kept, as many of every class; () = all.
    image_size: other images are resized to this side, bilinear.
    """

    column: str = "Synbols Default 100k"
    label: str = "label"
    num_classes: int = 26
    num_train: int = 60_000
    trim: tuple[int, ...] = ()
    image_size: int = 32

    def __post_init__(self):
        check(len(self.trim) in (0, 3), f"trim is {self.trim}; write () or (60000,20000,20000)")
        check(self.image_size >= 8, f"image_size is {self.image_size}; it must be at least 8")


@dataclass(frozen=True)
class PlateauConfig:
    """See `jaxrepro.plateau`. The loss is that of the validation set, after every epoch."""

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
class EnergyConfig:
    """For the estimate of a run's cost. watts: drawn by the device while it computes, a figure you state.

    grams_per_kwh: carbon dioxide emitted per kilowatt-hour of electricity.
    """

    watts: float = 300.0
    grams_per_kwh: float = 26.0

    def __post_init__(self):
        check(self.watts > 0, f"watts is {self.watts}; it must be positive")
        check(self.grams_per_kwh >= 0, f"grams_per_kwh is {self.grams_per_kwh}; it must be 0 or more")


@dataclass(frozen=True)
class Config(RunConfig):
    """version: of the data, "v1" (26 letters) or "v2" (48 symbols); reports compare with that version's numbers only.

    l2: times the parameters, added to every gradient in front of the optimizer.
    """

    version: str = "v1"
    l2: float = 1e-4
    tested: Weights = Weights.LAST
    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    augment: PlusConfig = PlusConfig()
    plateau: PlateauConfig = PlateauConfig()
    energy: EnergyConfig = EnergyConfig()

    def __post_init__(self):
        super().__post_init__()
        check(self.l2 >= 0, f"l2 is {self.l2}; it must be 0 or more")
        check(self.version in ("v1", "v2"), f"version is {self.version!r}; it must be 'v1' or 'v2'")


@struct.dataclass
class State:
    """variables: {"params", "batch_stats"}. best: those with the lowest validation loss, or () if nobody asks for them.

    best_loss: float32, of those; the largest number before the first epoch's end.
    """

    variables: Any
    opt_state: Any
    plateau: Plateau
    best: Any
    best_loss: jax.Array


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


def loss(config: Config, network: nn.Module, params: Any, batch_stats: Any, batch: Mapping, key: jax.Array):
    """Returns (mean cross-entropy in nats, (new batch statistics, metrics)) of a training batch.

    Args:
      batch: "image" float32 [B, H, W, C] of `prepare`, "label" int32 [B].
    """
    variables, options = {"params": params, "batch_stats": batch_stats}, {"rngs": {"dropout": key}}
    logits, changed = apply_in(
        config.precision, network, variables, batch["image"], train=True, mutable=["batch_stats"], **options
    )
    losses, correct = judge(logits, batch["label"])
    return losses.mean(), (changed.get("batch_stats", {}), {"loss": Mean.of(losses), "accuracy": Mean.of(correct)})


def judge(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns cross-entropies in nats and 0 or 100 (percent correct), both float32 [B]."""
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, 100.0 * (logits.argmax(-1) == labels)


def validate(config: Config, network: nn.Module, variables: Any, arrays: Mapping) -> dict[str, jax.Array]:
    """Returns mean "loss" and "accuracy" over images {"image": uint8 [N, H, W, C], "label"}."""

    def measure(batch, key):
        logits = apply_in(config.precision, network, variables, prepare(config, batch["image"]), train=False)
        losses, correct = judge(logits, batch["label"])
        return {"loss": losses, "accuracy": correct}

    return dataset_means(measure, dict(arrays), config.eval.batch_size, jax.random.key(0))


def keep_best(state: State, found: jax.Array) -> State:
    """Returns the state with its variables kept as the best where `found`, their validation loss, is lower."""
    better = found < state.best_loss
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.variables, state.best)
    return state.replace(best=best, best_loss=jnp.where(better, found, state.best_loss))


def load(config: Config) -> dict[str, Table]:
    """Returns split -> table with at least "image" and the column that is predicted.

    Raises:
      UserError: the data lacks the column, or has images without a class.
    """
    smoke = f"python launch.py --config=configs/{config.name}.py:smoke"
    splits = load_dataset(config.data.source, smoke_command=smoke)
    tables = {split: read_split(splits, getattr(config.data, split)) for split in SPLITS}
    for table in tables.values():
        if config.task.label not in table.columns:
            raise unknown(f"column of {table.name} in config.task.label:", config.task.label, table.columns)
    for split, size in zip(SPLITS, config.task.trim):
        tables[split] = balanced_part(tables[split], config.task.label, size)
    return tables


def held_out(config: Config, table: Table, limit: int = 0) -> dict[str, np.ndarray]:
    """Returns a split for evaluation: "image" uint8 [N, H, W, C], "label" int32 [N]; `limit` rows, 0 = all."""
    arrays = table.take(np.arange(min(limit or table.num_rows, table.num_rows)))
    return {"image": arrays["image"], "label": arrays[config.task.label].astype(np.int32)}


def class_names(config: Config, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Returns the names of all classes of the data, numbers where it has no names."""
    label = config.task.label
    if named := tables["train"].classes.get(label):
        return tuple(named)
    values = [table.arrays()[label] for table in tables.values()]
    if min(v.min() for v in values) < 0:
        raise UserError(f"{config.data.source} has images without a class (number -1); it cannot be classified")
    return tuple(str(i) for i in range(1 + max(int(v.max()) for v in values)))


def row_of(config: Config) -> str:
    """Returns the row of the table that a run belongs to."""
    return config.model.name + "+" * config.augment.plus


def facts_of(config: Config, tables: Mapping[str, Table], num_classes: int, num_test: int) -> dict[str, Any]:
    """Returns what a run is measured on, by which reports tell whether a published number is of the same task."""
    kind, _, rest = config.data.source.partition(":")
    options = dict(item.split("=", 1) for item in rest.partition("?")[2].split("&") if "=" in item)
    return {
        "num_classes": num_classes,
        "num_train": tables["train"].num_rows,
        "num_test": num_test,
        "partition": options.get("split", "random" if kind in ("synbols", "hdf5") else "official"),
        "validated_on": config.data.valid,
    }


def build(config: Config) -> Experiment:
    """Returns the experiment: training with the plateau rule, validation after every epoch, and the test at the end."""
    if config.experiment not in TABLES:
        raise unknown("experiment", config.experiment, TABLES)
    tables = load(config)
    names = class_names(config, tables)
    found = {"classes": len(names), "training images": tables["train"].num_rows}
    for (what, number), known in zip(found.items(), (config.task.num_classes, config.task.num_train), strict=True):
        if number != known:
            say(f"{config.data.source} has {number:,} {what}; the published data has {known:,}")
    columns = ("image", config.task.label)
    source, draw = make_source(
        tables["train"],
        config.train.batch_size,
        columns=columns,
        resident_limit_mb=config.data.resident_limit_mb,
        whole_epochs=True,
    )
    network = make_network(config, len(names))
    rule = config.plateau
    rates = plateau_lib.learning_rates(config.optim.lr, factor=rule.factor, stop_at=rule.stop_at)
    shares = jnp.asarray([*rates, 0.0]) / config.optim.lr
    epoch = round(source.steps_per_epoch)
    total = num_steps(config.train.duration, steps_per_epoch=epoch)
    tx = optax.chain(optax.add_decayed_weights(config.l2), make_optimizer(config.optim, total))
    gradient = jax.grad(functools.partial(loss, config, network), has_aux=True)

    def init(key):
        variables = init_variables(config, network, key, tables["train"].columns["image"].shape[-1])
        best = variables if config.tested == Weights.BEST else ()
        return State(
            variables, tx.init(variables["params"]), plateau_lib.start(), best, jnp.float32(plateau_lib.LARGEST)
        )

    def update(state, batch, key):
        augment_key, dropout_key = jax.random.split(key)
        prepared = {"image": prepare(config, batch["image"], augment_key), "label": batch[config.task.label]}
        params, batch_stats = state.variables["params"], state.variables["batch_stats"]
        grads, (batch_stats, metrics) = gradient(params, batch_stats, prepared, dropout_key)
        updates, opt_state = tx.update(grads, state.opt_state, params)
        share = shares[state.plateau.num_reductions]
        params = optax.apply_updates(params, jax.tree.map(lambda u: share * u, updates))
        new = state.replace(variables={"params": params, "batch_stats": batch_stats}, opt_state=opt_state)
        # One seed of several may be done before the others: its weights wait as they are.
        done = state.plateau.stopped(len(rates))
        state = jax.tree.map(lambda old, new: jnp.where(done, old, new), state, new)
        return state, metrics | {"learning_rate": config.optim.lr * share}

    def end_of_epoch(state, arrays, key):
        found = validate(config, network, state.variables, arrays)["loss"]
        limits = {"patience": rule.patience, "threshold": rule.threshold, "num_rates": len(rates)}
        if config.tested == Weights.BEST:
            state = keep_best(state, found)
        return state.replace(plateau=plateau_lib.after_epoch(state.plateau, found, **limits))

    valid = held_out(config, tables["valid"])
    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=update,
        transitions=(Transition("plateau", epoch, end_of_epoch, valid),),
        evaluators=evaluators(config, network, tables, valid, names, epoch, total),
        stopped=lambda state: state.plateau.stopped(len(rates)),
    )


def evaluators(
    config: Config, network: nn.Module, tables: Mapping, valid: Mapping, names: tuple, epoch: int, total: int
) -> tuple[Evaluator, ...]:
    """Returns the evaluator of the current weights on the validation set, and the test of the chosen ones."""
    measure = jax.jit(functools.partial(validate, config, network))

    @jax.jit
    def predict(variables, images, labels):
        def one(batch):
            logits = apply_in(config.precision, network, variables, prepare(config, batch["image"]), train=False)
            found = {"predicted": logits.argmax(-1), "confidence": jax.nn.softmax(logits.astype(jnp.float32)).max(-1)}
            return found | {"loss": judge(logits, batch["label"])[0]}

        return map_batches(one, {"image": images, "label": labels}, config.eval.batch_size)

    def run_validation(state, arrays, key):
        return Evaluation({k: float(v) for k, v in measure(state.variables, arrays).items()})

    def run_test(state, arrays, key):
        variables = state.variables
        if config.tested == Weights.BEST:  # the last epoch has no transition
            variables = keep_best(state, measure(variables, arrays["valid"])["loss"]).best
        test = arrays["test"]
        found = {k: np.asarray(v) for k, v in predict(variables, test["image"], test["label"]).items()}
        found["label"] = np.asarray(test["label"])
        accuracy = 100 * float((found["label"] == found["predicted"]).mean())
        matrix = mistakes.confusion(found["label"], found["predicted"], len(names))
        pictures = {
            "confusion": mistakes.draw_confusion(matrix, names),
            "mistakes": mistakes.draw_mistakes(np.asarray(test["image"]), found, names),
            "most_confused": mistakes.draw_most_confused(np.asarray(test["image"]), found, names),
            "split": draw_splits(tables) if config.experiment == "synbols_ood" else None,
        }
        size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        cell, facts = (row_of(config), config.task.column), facts_of(config, tables, len(names), len(found["label"]))
        return Evaluation(
            {"accuracy": accuracy, "loss": float(found["loss"].mean())},
            {name: picture for name, picture in pictures.items() if picture is not None},
            [
                Record(TABLES[config.experiment], *cell, "accuracy", accuracy, "percent", facts),
                Record("parameters", *cell, "num_params", size, "count", facts),
            ],
        )

    every = num_steps(config.eval.every, steps_per_epoch=epoch, total=total)
    test = held_out(config, tables["test"], config.eval.num_examples)
    return (
        Evaluator("validation", "valid", every, run_validation, valid),
        Evaluator("test", "test", total, run_test, {"valid": valid, "test": test}),
    )
