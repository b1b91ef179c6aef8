"""Training on episodes: one step, validation, and what follows from it; for any few-shot method.

    task = Task(method, shape, prepare, optimizer, plateau, num_valid=500)
    state = init_learner(task, variables, num_classes, key)
    batch = draw_batch(task, state, arrays, num_episodes=1, key=key)           # in `draw`
    state, metrics = train_step(task, state, batch, context)                   # in `update`
    state, metrics = end_of_epoch(task, state, arrays, key)                    # in a transition
    found = run_episodes(task, state.best.kept, arrays, shape, 500, key)

Validation chooses the weights by accuracy, drives the learning rate by loss, and ends training. The released code tests
after every epoch and reports the epoch that was best in validation; to test the weights of that epoch once is the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.config import PlateauConfig
from jaxrepro.data import episodes as episodes_lib
from jaxrepro.data.episodes import EpisodeShape, Sampler
from jaxrepro.experiment import Context
from jaxrepro.metrics import Mean
from jaxrepro.training import plateau as plateau_lib
from jaxrepro.training import selection
from jaxrepro.training.batched import map_batches
from jaxrepro.training.few_shot import Method, own_places
from jaxrepro.training.optim import Optimizer
from jaxrepro.training.plateau import Plateau
from jaxrepro.training.selection import Best

STALE_PATIENCES = 3  # training ends after so many patiences of the plateau without a better accuracy
ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class Task:
    """What a paper decides about training on episodes.

    Attributes:
      method: see `training.few_shot`.
      shape: of training and validation.
      prepare: images uint8 [..., H, W, C] -> float.
      optimizer: with the rates of a plateau.
      plateau: its rule.
      num_valid: episodes of a validation.
      at_once: episodes that an accelerator evaluates together.
    """

    method: Method
    shape: EpisodeShape
    prepare: Callable[[jax.Array], jax.Array]
    optimizer: Optimizer
    plateau: PlateauConfig
    num_valid: int
    at_once: int = 1


@struct.dataclass
class Learner:
    """A method in training.

    Attributes:
      variables: {"params", "batch_stats"}.
      opt_state: of the optimizer.
      sampler: of the training episodes.
      plateau: of the learning rate.
      best: the variables with the lowest validation error (percent) so far.
      stale: int32, epochs since then.
    """

    variables: Any
    opt_state: Any
    sampler: Sampler
    plateau: Plateau
    best: Best
    stale: jax.Array


def init_learner(task: Task, variables: Mapping[str, Any], num_classes: int, key: jax.Array) -> Learner:
    """Returns the state before the first step."""
    opt_state = task.optimizer.init(variables["params"])
    sampler = episodes_lib.start(num_classes, key)
    return Learner(variables, opt_state, sampler, plateau_lib.start(), selection.start(variables), jnp.int32(0))


def stopped(task: Task, state: Learner) -> jax.Array:
    """Returns whether training is over: no better accuracy for long, or no learning rate left."""
    stale = state.stale > STALE_PATIENCES * task.plateau.patience
    return stale | state.plateau.stopped(len(task.optimizer.plateau_rates))


def map_episodes(fn: Callable, xs: Any, at_once: int) -> Any:
    """Returns fn over the leading axis: in turn on a CPU, whose convolutions are slow under vmap with one kernel each.

    Args:
      at_once: entries that an accelerator computes together.
    """
    together = at_once > 1 and jax.default_backend() != "cpu"
    return jax.lax.map(fn, xs, batch_size=at_once if together else None)


def draw_batch(task: Task, state: Learner, arrays: Mapping, num_episodes: int, key: jax.Array) -> dict[str, Any]:
    """Returns {"image": uint8 [E, N, S + Q, H, W, C], "sampler": the sampler after these episodes}."""
    keys = jax.random.split(key, num_episodes)
    sampler, episodes = episodes_lib.draw_many(state.sampler, arrays, task.shape, keys)
    return {"image": arrays["image"][episodes.rows], "sampler": sampler}


def train_step(task: Task, state: Learner, batch: Mapping, context: Context) -> tuple[Learner, dict[str, Any]]:
    """Returns (state, metrics) after one step on the mean loss of a `draw_batch`; one that has stopped stays."""
    rate = task.optimizer.rate(context.step, state.plateau.num_reductions)
    episodes, params = task.prepare(batch["image"]), state.variables["params"]

    def loss(params):
        variables = {**state.variables, "params": params}
        outcomes = map_episodes(
            lambda episode: task.method.run(variables, episode, train=True), episodes, at_once=len(episodes)
        )
        return outcomes.loss.mean(), outcomes

    grads, outcomes = jax.grad(loss, has_aux=True)(params)
    params, opt_state = task.optimizer.descend(grads, state.opt_state, params, rate)
    batch_stats = jax.tree.map(lambda a: a.mean(0), outcomes.batch_stats)
    variables = {"params": params, "batch_stats": batch_stats}
    new = state.replace(variables=variables, opt_state=opt_state, sampler=batch["sampler"])
    done = stopped(task, state)  # one seed of several may be done before the others: it waits as it is
    new = jax.tree.map(lambda old, new: jnp.where(done, old, new), state, new)
    correct = outcomes.predicted == own_places(outcomes.predicted.shape[1:])
    return new, {"loss": Mean.of(outcomes.loss), "accuracy": Mean.of(100.0 * correct), "learning_rate": rate}


def encode_all(task: Task, variables: Any, images: jax.Array) -> jax.Array:
    """Returns the features float32 [N, D] of images uint8 [N, H, W, C], for use inside jit."""
    return map_batches(lambda batch: task.method.encode(variables, task.prepare(batch)), images, ENCODED_AT_ONCE)


def run_episodes(
    task: Task, variables: Any, arrays: Mapping, num_episodes: int, key: jax.Array, method: Method | None = None,
    shape: EpisodeShape | None = None,
) -> dict[str, jax.Array]:  # fmt: skip
    """Evaluates episodes E of the classes of a table, without replacement as in training; inside jit.

    Args:
      arrays: of a `data.episodes.ClassTable`; with "features" [N, ...], of `encode_all`, where they are there already.
      method, shape: other ones than those of the task.

    Returns:
      "loss" float32 [E], "accuracy" float32 [E] in percent, "predicted" int32 [E, N, Q], "classes" int32 [E, N], "rows"
      int32 [E, N, S + Q].
    """
    method, shape = method or task.method, shape or task.shape
    start_key, episodes_key = jax.random.split(key)
    sampler = episodes_lib.start(len(arrays["counts"]), start_key)
    _, episodes = episodes_lib.draw_many(sampler, arrays, shape, jax.random.split(episodes_key, num_episodes))

    images, features = arrays["image"], arrays.get("features")
    few = len(images) <= num_episodes * shape.num_images  # else most images would be encoded for nothing
    if features is None and few and method.compares_features:
        features = encode_all(task, variables, images)

    def one(rows):
        if features is None:
            taken = method.encode(variables, task.prepare(images[rows.ravel()]))
        else:
            taken = features[rows.ravel()]
        outcome = method.compare(variables, taken.reshape(*rows.shape, *taken.shape[1:]))
        accuracy = 100.0 * (outcome.predicted == own_places(outcome.predicted.shape)).mean()
        return {"loss": outcome.loss, "accuracy": accuracy, "predicted": outcome.predicted}

    found = map_episodes(one, episodes.rows, task.at_once)
    return found | {"classes": episodes.classes, "rows": episodes.rows}


def end_of_epoch(task: Task, state: Learner, arrays: Mapping, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
    """Returns (state, metrics) after a validation on new episodes; a learner that has stopped stays as it is."""
    found = run_episodes(task, state.variables, arrays, task.num_valid, key)
    loss, accuracy = found["loss"].mean(), found["accuracy"].mean()
    best = selection.keep_lowest(state.best, state.variables, 100 - accuracy)
    rule, num_rates = task.plateau, len(task.optimizer.plateau_rates)
    plateau = plateau_lib.after_epoch(
        state.plateau, loss, patience=rule.patience, threshold=rule.threshold, num_rates=num_rates
    )
    stale = jnp.where(best.value < state.best.value, 0, state.stale + 1)
    new = state.replace(best=best, plateau=plateau, stale=stale)
    done = stopped(task, state)
    new = jax.tree.map(lambda old, new: jnp.where(done, old, new), state, new)
    return new, {"loss": loss, "accuracy": accuracy, "best_accuracy": 100 - new.best.value}
