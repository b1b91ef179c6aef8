"""Active learning of a classifier with Monte-Carlo dropout: what happens in, at the end of, and between rounds.

    learner = start_learner(task, method, params, pool, num_rounds)
    learner, metrics = train_step(task, learner, batch, context)                # in `update`
    learner, metrics = test_learner(task, method, learner, arrays, context)     # in a transition, at the end of a round
    learner = acquire(task, method, learner, images, context)                   # then: label, back to the first weights

Everything that a round changes is a value in the learner, so a run that is killed resumes exactly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrepro.config import Precision
from jaxrepro.experiment import Context
from jaxrepro.training import classification
from jaxrepro.training.acquisition import Averaged, Score, mean_log_probabilities, monte_carlo_logits, score
from jaxrepro.training.batched import map_batches
from jaxrepro.training.calibration import (
    Calibration,
    CalibrationConfig,
    expected_calibration_error,
    fit_calibration,
    identity,
)
from jaxrepro.training.optim import Optimizer
from jaxrepro.training.pool import Pool, label_highest
from jaxrepro.training.precision import apply_in

TESTED = ("nll", "nll_of_mean_probability", "accuracy", "calibration_error")
CALIBRATED = "calibrated_nll"


@dataclass(frozen=True)
class Method:
    """A row of the paper's table 3: what the pool is ranked by, and whether logits are calibrated before."""

    score: Score
    calibrated: bool = False


METHODS = {
    "BALD": Method(Score.BALD),
    "P-Entropy": Method(Score.ENTROPY),
    "Random": Method(Score.RANDOM),
    "BALD Calibrated": Method(Score.BALD, calibrated=True),
    "Entropy Calibrated": Method(Score.ENTROPY, calibrated=True),
}


@dataclass(frozen=True)
class ActiveTask:
    """What all methods share.

    Attributes:
      network: with the methods of `models.vgg.VGG16`.
      prepare: images uint8 [B, ...] -> float32 [B, H, W, C].
      optimizer: of constant rate.
      num_queries: labels asked for at the end of a round.
      num_passes: T, with dropout, of acquisition and of test.
      averaged: see `acquisition.Averaged`.
      keep_momentum: whether the optimizer's state survives the reset of the weights (released code).
      calibration: of the calibrated methods.
      batch_size: of acquisition and test.
    """

    network: nn.Module
    prepare: Callable[[jax.Array], jax.Array]
    optimizer: Optimizer
    num_queries: int
    num_passes: int = 20
    averaged: Averaged = Averaged.PROBABILITIES
    keep_momentum: bool = False
    calibration: CalibrationConfig = CalibrationConfig()
    batch_size: int = 256
    precision: Precision = Precision.FLOAT32


@struct.dataclass
class Learner:
    """Attributes:
    params, opt_state: of the network in training.
    initial: the parameters that every round begins with.
    pool: which images are labelled.
    calibration: the layer of this round; the identity for methods without one.
    history: test metrics by name, float32 [rounds that the pool allows]; 0 for those to come.
    round: int32, rounds that were finished.
    """

    params: Any
    opt_state: Any
    initial: Any
    pool: Pool
    calibration: Calibration
    history: dict[str, jax.Array]
    round: jax.Array


def start_learner(task: ActiveTask, method: Method, params: Any, pool: Pool, num_rounds: int) -> Learner:
    """Returns the learner before its first step."""
    names = (*TESTED, CALIBRATED) if method.calibrated else TESTED
    history = {name: jnp.zeros(num_rounds) for name in names}
    layer = identity(task.network.num_classes, task.calibration.dirichlet)
    return Learner(params, task.optimizer.init(params), params, pool, layer, history, jnp.int32(0))


def train_step(task: ActiveTask, learner: Learner, batch: Mapping, context: Context) -> tuple[Learner, dict[str, Any]]:
    """Returns (learner, metrics) after one step.

    Args:
      batch: "image" uint8 [B, ...], "label" int32 [B], "mask" float32 [B], 0 where a small batch has no image.
    """
    shared = classification.Task(task.network, lambda images, key: task.prepare(images), task.optimizer, task.precision)
    prepared = {"image": task.prepare(batch["image"]), "label": batch["label"]}
    weights = batch["mask"] * len(batch["mask"]) / batch["mask"].sum()
    gradient = jax.grad(lambda p: classification.loss(shared, p, {}, prepared, weights, context.key), has_aux=True)
    grads, (_, metrics) = gradient(learner.params)
    rate = task.optimizer.rate(context.step)
    params, opt_state = task.optimizer.descend(grads, learner.opt_state, learner.params, rate)
    return learner.replace(params=params, opt_state=opt_state), metrics


def passes(task: ActiveTask, params: Any, images: jax.Array, first: jax.Array, key: jax.Array) -> jax.Array:
    """Returns logits float32 [T, B, K] of a batch; `first` is the number of its first image, which its masks follow."""
    key = jax.random.fold_in(key, first)
    variables, images = {"params": params}, task.prepare(images)
    return monte_carlo_logits(task.network, variables, images, key, task.num_passes, task.precision)


def predict(task: ActiveTask, learner: Learner, images: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """Returns log-probabilities float32 [N, K] of images: "logits" and "probabilities", by what is averaged over the
    passes, and "calibrated", the mean of calibrated logits."""

    def one(batch):
        logits = passes(task, learner.params, batch["image"], batch["row"][0], key)
        return {
            "logits": mean_log_probabilities(logits, Averaged.LOGITS),
            "probabilities": mean_log_probabilities(logits),
            "calibrated": mean_log_probabilities(learner.calibration(logits), Averaged.LOGITS),
        }

    return map_batches(one, {"image": images, "row": jnp.arange(len(images))}, task.batch_size)


def test_learner(
    task: ActiveTask, method: Method, learner: Learner, arrays: Mapping, context: Context
) -> tuple[Learner, dict[str, jax.Array]]:
    """Returns (learner with the test in its history, metrics): the published NLL is that of the mean logits."""
    found, labels = predict(task, learner, arrays["image"], context.key), arrays["label"]
    nll = {k: optax.softmax_cross_entropy_with_integer_labels(v, labels).mean() for k, v in found.items()}
    correct = found["logits"].argmax(-1) == labels
    metrics = {
        "nll": nll["logits"],
        "nll_of_mean_probability": nll["probabilities"],
        "accuracy": 100 * correct.mean(),
        "calibration_error": expected_calibration_error(jnp.exp(found["logits"].max(-1)), correct),
    }
    if method.calibrated:
        metrics[CALIBRATED] = nll["calibrated"]
    history = {k: v.at[learner.round].set(metrics[k]) for k, v in learner.history.items()}
    metrics["labels"] = learner.pool.num_labelled
    return learner.replace(history=history, round=learner.round + 1), metrics


def calibrate(task: ActiveTask, learner: Learner, arrays: Mapping, context: Context) -> Calibration:
    """Returns the calibration layer for the learner's network.

    Args:
      arrays: "calibration" and "valid", each "image" and "label".
    """

    def drawer(part):
        hidden = map_batches(
            lambda images: apply_in(
                task.precision, task.network, {"params": learner.params}, task.prepare(images), method="hidden"
            ),
            arrays[part]["image"],
            task.batch_size,
        )

        def draw(key):
            def one(batch):
                rngs = {"dropout": jax.random.fold_in(key, batch["row"][0])}
                variables = {"params": learner.params}
                options = {"train": True, "method": "classify", "rngs": rngs}
                return apply_in(task.precision, task.network, variables, batch["hidden"], **options)

            rows = {"hidden": hidden, "row": jnp.arange(len(hidden))}
            return map_batches(one, rows, task.batch_size).astype(jnp.float32)

        return draw

    labels = {part: arrays[part]["label"] for part in ("calibration", "valid")}
    draw_train, draw_valid = drawer("calibration"), drawer("valid")
    return fit_calibration(
        draw_train, labels["calibration"], draw_valid, labels["valid"], context.key, task.calibration
    )


def scores(task: ActiveTask, method: Method, learner: Learner, images: jax.Array, key: jax.Array) -> jax.Array:
    """Returns float32 [N], one number an image; the highest are to be labelled."""
    if method.score == Score.RANDOM:
        return jax.random.uniform(key, (len(images),))

    def one(batch):
        logits = learner.calibration(passes(task, learner.params, batch["image"], batch["row"][0], key))
        return score(method.score, logits, task.averaged)

    return map_batches(one, {"image": images, "row": jnp.arange(len(images))}, task.batch_size)


def acquire(task: ActiveTask, method: Method, learner: Learner, images: jax.Array, context: Context) -> Learner:
    """Returns the learner with more labels, ready for the next round: the weights are the first ones again.

    Args:
      images: of the pool, uint8 [N, ...].
    """
    pool = label_highest(learner.pool, scores(task, method, learner, images, context.key), task.num_queries)
    opt_state = learner.opt_state if task.keep_momentum else task.optimizer.init(learner.initial)
    return learner.replace(params=learner.initial, opt_state=opt_state, pool=pool)
