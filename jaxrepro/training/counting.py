"""Counters in training: one step, validation by their error, and what follows from it.

    task = Task(network, Blobs(), prepare, optimizer, patience=6)
    state = start_counter(task, params)
    state, metrics = train_step(task, state, batch, context)           # in `update`
    state, metrics = end_of_epoch(task, state, arrays)                 # in a transition

The weights of the epoch with the lowest error, of equals the last, are tested once, at the end, as the released code of
Synbols tests them in each such epoch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrepro.config import Precision
from jaxrepro.experiment import Context
from jaxrepro.metrics import Mean
from jaxrepro.training import selection
from jaxrepro.training.blobs import SplitRule, blob_centres, blob_counts
from jaxrepro.training.density import density_loss
from jaxrepro.training.lcfcn import NUM_OUTPUTS, foreground_logit, lcfcn_loss
from jaxrepro.training.means import dataset_means
from jaxrepro.training.optim import Optimizer
from jaxrepro.training.precision import apply_in
from jaxrepro.training.selection import Best


@dataclass(frozen=True)
class Blobs:
    """FCN8-L: the count is the number of blobs; each is one unit at its centroid."""

    rule: SplitRule = SplitRule.BENCHMARK

    @property
    def num_outputs(self) -> int:
        return NUM_OUTPUTS[self.rule]

    def losses(self, logits: jax.Array, points: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns losses float32 [B] and their terms."""
        return lcfcn_loss(logits, points, self.rule)

    def seen(self, logits: jax.Array) -> jax.Array:
        """Returns what is shown and counted, bool [B, H, W]: the foreground."""
        return foreground_logit(logits) > 0

    def counts(self, seen: jax.Array) -> jax.Array:
        """Returns float32 [B]."""
        return blob_counts(seen).astype(jnp.float32)

    def density(self, seen: np.ndarray) -> np.ndarray:
        """Returns float32 [H, W], which adds up to the count, of one image."""
        found = np.zeros(seen.shape, np.float32)
        np.add.at(found, tuple(blob_centres(seen).T), 1)
        return found


@dataclass(frozen=True)
class Density:
    """FCN8-D: the count is the sum of the second output. root: of the mean square, see `density_loss`."""

    root: bool = True
    num_outputs: int = 2

    def losses(self, logits: jax.Array, points: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return density_loss(self.seen(logits), points, root=self.root), {}

    def seen(self, logits: jax.Array) -> jax.Array:
        return logits[..., 1].astype(jnp.float32)

    def counts(self, seen: jax.Array) -> jax.Array:
        return seen.sum((1, 2))

    def density(self, seen: np.ndarray) -> np.ndarray:
        return seen


@dataclass(frozen=True)
class Task:
    """What a paper decides about counting.

    Attributes:
      network: `__call__(images float32 [B, H, W, 3], train) -> logits [B, H, W, K]`.
      method: FCN8-L's or FCN8-D's loss and count.
      prepare: images uint8 [B, H, W, 3] -> float32.
      optimizer: see `training.optim`.
      patience: epochs in turn with a higher error than the lowest, after which training ends.
      batch_size: of validation.
    """

    network: nn.Module
    method: Blobs | Density
    prepare: Callable[[jax.Array], jax.Array]
    optimizer: Optimizer
    patience: int
    batch_size: int = 16
    precision: Precision = Precision.FLOAT32


@struct.dataclass
class Counter:
    """params, opt_state; best: the parameters with the lowest validation error; worse: int32, epochs since then."""

    params: Any
    opt_state: Any
    best: Best
    worse: jax.Array


def start_counter(task: Task, params: Any) -> Counter:
    """Returns the state before the first step."""
    return Counter(params, task.optimizer.init(params), selection.start(params), jnp.int32(0))


def stopped(task: Task, state: Counter) -> jax.Array:
    return state.worse >= task.patience


def logits_of(task: Task, params: Any, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns logits of images uint8 [B, H, W, 3]; with dropout where a key is given."""
    options = {"rngs": {"dropout": key}} if key is not None else {}
    return apply_in(task.precision, task.network, {"params": params}, task.prepare(images), key is not None, **options)


def train_step(task: Task, state: Counter, batch: Mapping, context: Context) -> tuple[Counter, dict[str, Any]]:
    """Returns (state, metrics) after one step on the mean loss of a batch; a counter that has stopped stays.

    Args:
      batch: "image" uint8 [B, H, W, 3], "points" bool [B, H, W].
    """
    rate = task.optimizer.rate(context.step)

    def loss(params):
        losses, terms = task.method.losses(logits_of(task, params, batch["image"], context.key), batch["points"])
        return losses.mean(), {"loss": losses} | {f"{name}_loss": term for name, term in terms.items()}

    grads, metrics = jax.grad(loss, has_aux=True)(state.params)
    params, opt_state = task.optimizer.descend(grads, state.opt_state, state.params, rate)
    new = state.replace(params=params, opt_state=opt_state)
    done = stopped(task, state)  # one seed of several may be done before the others
    new = jax.tree.map(lambda old, new: jnp.where(done, old, new), state, new)
    return new, {k: Mean.of(v) for k, v in metrics.items()} | {"learning_rate": rate}


def validate(task: Task, params: Any, arrays: Mapping) -> dict[str, jax.Array]:
    """Returns {"mae": mean absolute error of the counts}, inside jit; arrays as of a batch, for all images [N, …]."""

    def errors(batch, key):
        counts = task.method.counts(task.method.seen(logits_of(task, params, batch["image"])))
        return {"mae": jnp.abs(counts - batch["points"].sum((1, 2)))}

    rows = {k: arrays[k] for k in ("image", "points")}
    return dataset_means(errors, rows, task.batch_size, jax.random.key(0))


def end_of_epoch(task: Task, state: Counter, arrays: Mapping) -> tuple[Counter, dict[str, jax.Array]]:
    """Returns (state, metrics) after a validation; a counter that has stopped stays as it is."""
    mae = validate(task, state.params, arrays)["mae"]
    best = selection.keep_lowest(state.best, state.params, mae, or_equal=True)
    new = state.replace(best=best, worse=jnp.where(mae <= state.best.value, 0, state.worse + 1))
    done = stopped(task, state)
    new = jax.tree.map(lambda old, new: jnp.where(done, old, new), state, new)
    return new, {"mae": mae, "best_mae": new.best.value}
