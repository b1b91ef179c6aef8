"""Classifiers in training: one step, validation, and what follows from it; for any paper and any network.

    task = Task(network, prepare, optimizer, precision, batch_size=1000)
    state = init_classifier(task, variables, keep_best=True)
    state, metrics = train_step(task, state, batch, context)                # in `update`
    state, metrics = end_of_epoch(task, state, arrays)                      # in a transition
    tested = chosen_variables(state)

A state is a pytree with only the parts that its protocol needs, so several networks in one run are a dict of states.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrepro.config import PlateauConfig, Precision
from jaxrepro.experiment import Context
from jaxrepro.metrics import Mean
from jaxrepro.training import plateau as plateau_lib
from jaxrepro.training import selection
from jaxrepro.training.batched import map_batches
from jaxrepro.training.means import dataset_means
from jaxrepro.training.optim import Optimizer
from jaxrepro.training.plateau import Plateau
from jaxrepro.training.precision import apply_in
from jaxrepro.training.selection import Best


class Score(StrEnum):
    """What is logged beside the loss, in percent of the images."""

    ACCURACY = "accuracy"
    ERROR = "error"


@dataclass(frozen=True)
class Task:
    """What a paper decides about its classifiers.

    Attributes:
      network: `__call__(images float32 [B, H, W, C], train) -> logits [B, K]`.
      prepare: `(images uint8 [B, ...], key or None) -> images`; augmented where a key is given.
      optimizer: see `training.optim`.
      precision: of the network's arithmetic.
      batch_size: of validation and test.
      score: logged beside the loss.
      plateau: the rule of the optimizer's plateau, None for other schedules.
      select_by: the validation metric whose lowest value chooses the best weights, "loss" or "error".
      weights: `step -> float32 [B]` of mean 1, weights of a training batch's rows; None counts all equally.
      micro_batches: portions of a training batch, which they must divide, that are computed one after the other, their
        gradients averaged: a step then takes the memory of one. Each is normalised by its own statistics (a batch of
        128 in four portions like one of 32), and the running ones take the mean of what each would have made of them.
    """

    network: nn.Module
    prepare: Callable[[jax.Array, jax.Array | None], jax.Array]
    optimizer: Optimizer
    precision: Precision = Precision.FLOAT32
    batch_size: int = 256
    score: Score = Score.ACCURACY
    plateau: PlateauConfig | None = None
    select_by: str = "loss"
    weights: Callable[[jax.Array], jax.Array] | None = None
    micro_batches: int = 1


@struct.dataclass
class Classifier:
    """One network in training.

    Attributes:
      variables: {"params", "batch_stats"}; the latter is empty without batch normalisation.
      opt_state: of the optimizer.
      plateau: of the learning rate, None for other schedules.
      best: the variables with the lowest validation metric so far, None if nobody asks for them.
    """

    variables: Any
    opt_state: Any
    plateau: Plateau | None
    best: Best | None


def init_classifier(task: Task, variables: Mapping[str, Any], *, keep_best: bool) -> Classifier:
    """Returns the state before the first step."""
    variables = {"batch_stats": {}} | dict(variables)
    return Classifier(
        variables,
        task.optimizer.init(variables["params"]),
        plateau_lib.start() if task.plateau else None,
        selection.start(variables) if keep_best else None,
    )


def judge(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns cross-entropies in nats, float32 [B], and whether the largest logit is right, bool [B]."""
    logits = logits.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits.argmax(-1) == labels


def percent(task: Task, correct: jax.Array) -> dict[str, jax.Array]:
    """Returns the task's score of every image, 0 or 100, by its name."""
    return {str(task.score): 100.0 * (correct if task.score == Score.ACCURACY else ~correct)}


def loss(task: Task, params: Any, batch_stats: Any, batch: Mapping, weights: jax.Array | None, key: jax.Array):
    """Returns (mean cross-entropy, (new batch statistics, metrics)) of a prepared training batch.

    Args:
      batch: "image" float32 [B, H, W, C], "label" int32 [B].
      weights: float32 [B] of mean 1, or None.
      key: of dropout.
    """
    logits, changed = apply_in(
        task.precision,
        task.network,
        {"params": params, "batch_stats": batch_stats},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
    )
    losses, correct = judge(logits, batch["label"])
    metrics = {"loss": losses} | percent(task, correct)
    if weights is not None:
        losses, metrics = losses * weights, {k: v * weights for k, v in metrics.items()}
    return losses.mean(), (changed.get("batch_stats", {}), {k: Mean.of(v) for k, v in metrics.items()})


def gradient(task: Task, params: Any, batch_stats: Any, batch: Mapping, weights: jax.Array | None, key: jax.Array):
    """Returns (gradients, (new batch statistics, metrics)) of `loss`, portion by portion where the task says so."""

    def of(batch, weights, key):
        return jax.grad(lambda p: loss(task, p, batch_stats, batch, weights, key), has_aux=True)(params)

    count, size = task.micro_batches, len(batch["label"])
    if count == 1:
        return of(batch, weights, key)
    # [B, ...] to [count, B / count, ...], every portion spread over the batch, so that devices keep their share of it.
    rows = (dict(batch), weights)
    rows = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(size // count, count, *a.shape[1:]), 1, 0), rows)

    def portion(i):
        (portion_batch, portion_weights) = jax.tree.map(lambda a: a[i], rows)
        grads, (stats, metrics) = of(portion_batch, portion_weights, jax.random.fold_in(key, i))
        return jax.tree.map(lambda a: a / count, (grads, stats)), metrics

    def body(i, total):
        return jax.tree.map(jnp.add, total, portion(i))

    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(portion, 0))
    (grads, stats), metrics = jax.lax.fori_loop(0, count, body, zero)
    return grads, (stats, metrics)


def train_step(task: Task, state: Classifier, batch: Mapping, context: Context) -> tuple[Classifier, dict[str, Any]]:
    """Returns (state, metrics) after one step; the state stays as it is once its plateau has stopped.

    Args:
      batch: "image" float32 [B, H, W, C] as of `task.prepare`, "label" int32 [B].
      context: its key is that of dropout.
    """
    rate = task.optimizer.rate(context.step, state.plateau.num_reductions if state.plateau else 0)
    params, batch_stats = state.variables["params"], state.variables["batch_stats"]
    weights = task.weights(context.step) if task.weights else None
    grads, (batch_stats, metrics) = gradient(task, params, batch_stats, batch, weights, context.key)
    params, opt_state = task.optimizer.descend(grads, state.opt_state, params, rate)
    new = state.replace(variables={"params": params, "batch_stats": batch_stats}, opt_state=opt_state)
    if state.plateau:  # one seed of several may be done before the others: its weights wait as they are
        done = state.plateau.stopped(len(task.optimizer.plateau_rates))
        new = jax.tree.map(lambda old, new: jnp.where(done, old, new), state, new)
    return new, metrics | {"learning_rate": rate}


def measure(task: Task, variables: Any, batch: Mapping) -> dict[str, jax.Array]:
    """Returns "loss" and the score of every image of {"image": uint8 [B, ...], "label"}, float32 [B]."""
    logits = apply_in(task.precision, task.network, variables, task.prepare(batch["image"], None), train=False)
    losses, correct = judge(logits, batch["label"])
    return {"loss": losses} | percent(task, correct)


def validate(task: Task, variables: Any, arrays: Mapping) -> dict[str, jax.Array]:
    """Returns the mean loss and score over images {"image": uint8 [N, ...], "label": int32 [N]}, for use inside jit."""
    rows = {k: arrays[k] for k in ("image", "label")}
    return dataset_means(lambda batch, key: measure(task, variables, batch), rows, task.batch_size, jax.random.key(0))


def predict(task: Task, variables: Any, arrays: Mapping) -> dict[str, jax.Array]:
    """Returns for every image "predicted" int32, "confidence" (largest probability) and "loss" [N]; inside jit."""

    def one(batch):
        logits = apply_in(task.precision, task.network, variables, task.prepare(batch["image"], None), train=False)
        probabilities = jax.nn.softmax(logits.astype(jnp.float32))
        losses, _ = judge(logits, batch["label"])
        return {"predicted": logits.argmax(-1), "confidence": probabilities.max(-1), "loss": losses}

    return map_batches(one, {k: arrays[k] for k in ("image", "label")}, task.batch_size)


def end_of_epoch(task: Task, state: Classifier, arrays: Mapping) -> tuple[Classifier, dict[str, jax.Array]]:
    """Returns (state, metrics) after a validation: the best weights are kept and the plateau judges the loss."""
    found = validate(task, state.variables, arrays)
    if state.best is not None:
        state = state.replace(best=selection.keep_lowest(state.best, state.variables, found[task.select_by]))
    if state.plateau is not None:
        rule, num_rates = task.plateau, len(task.optimizer.plateau_rates)
        limits = {"patience": rule.patience, "threshold": rule.threshold, "num_rates": num_rates}
        state = state.replace(plateau=plateau_lib.after_epoch(state.plateau, found["loss"], **limits))
    return state, found


def chosen_variables(state: Classifier) -> Any:
    """Returns the variables to test: the best ones where they are kept, else the current ones."""
    return state.variables if state.best is None else state.best.kept


def num_parameters(state: Classifier) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(state.variables["params"]))
