"""Probes: small networks that read attributes from the codes of another one, all of them in one program.

    heads = make_heads(attributes, probe_network, (128,), (1e-4,))      # of `models.probes`
    probes = init_probes(heads, num_inputs=64, key=key)
    probes, metrics = train_probes(heads, probes, codes, targets)                # beside an encoder, in `update`
    found = fit_probes(heads, train, valid, key, FitConfig())                    # after it, on codes [N, D]

A code is a constant here: no gradient reaches the encoder. Categorical attributes cost a cross-entropy and are judged
by their accuracy in percent, numbers cost a squared error and are judged by the absolute one.

Source: Synbols (Lacoste et al., 2020), section 4.5 (after training, on codes of the frozen encoder) and the released
code (beside it, a step of each head for every step of the encoder).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrepro.data.attributes import Attribute
from jaxrepro.errors import check
from jaxrepro.metrics import Mean
from jaxrepro.training import selection
from jaxrepro.training.selection import Best

Heads = Mapping[str, "Head"]  # name -> head


@dataclass(frozen=True)
class Head:
    """attribute: what it predicts. network: codes to outputs, one for a number. lr: of its Adam."""

    attribute: Attribute
    network: nn.Module
    lr: float


@struct.dataclass
class Probe:
    """One head in training: variables {"params", "batch_stats"}, and the state of its optimizer."""

    variables: Any
    opt_state: Any


@dataclass(frozen=True)
class FitConfig:
    """How probes are fitted to codes that do not change.

    Attributes:
      epochs: at most.
      batch_size: of at most all rows; what is left of an epoch's order is left out.
      patience: epochs without a better score on the validation codes after which a head is done.
    """

    epochs: int = 200
    batch_size: int = 256
    patience: int = 10

    def __post_init__(self):
        check(self.epochs >= 1, f"epochs is {self.epochs}; it must be 1 or more")
        check(self.batch_size >= 2, f"batch_size is {self.batch_size}; normalisation needs 2 or more")
        check(self.patience >= 1, f"patience is {self.patience}; it must be 1 or more")


@struct.dataclass
class Fit:
    """One head and the best of it. best: variables by score. stale: int32, epochs since then."""

    probe: Probe
    best: Best
    stale: jax.Array


class ProbeSchedule(StrEnum):
    """ONLINE: beside the encoder, on its codes in training. FROZEN: after it, on codes of the finished encoder."""

    ONLINE = "online"
    FROZEN = "frozen"


@dataclass(frozen=True)
class ProbeConfig:
    """What is probed, and how.

    Attributes:
      attributes: columns of the data; "char" is the column "label".
      schedules: when; the first one fills the paper's table.
      hidden: of the perceptron beside the encoder, 0 = twice the code.
      lr: beside the encoder.
      frozen_hidden, frozen_lrs: after it; each pair is a perceptron of its own, the first fills the tables.
      fit: of frozen probes.
    """

    attributes: tuple[str, ...] = ("char", "font", "rotation", "scale", "translation_x", "translation_y")
    schedules: tuple[ProbeSchedule, ...] = (ProbeSchedule.ONLINE,)
    hidden: int = 0
    lr: float = 1e-4
    frozen_hidden: tuple[int, ...] = (256,)
    frozen_lrs: tuple[float, ...] = (1e-4,)
    fit: FitConfig = FitConfig()

    def __post_init__(self):
        for name in ("attributes", "schedules", "frozen_hidden", "frozen_lrs"):
            values = getattr(self, name)
            check(len(values) > 0, f"{name} is (); give at least one")
            check(len(set(values)) == len(values), f"{name} is {values}; one stands there twice")
        check(min(self.frozen_hidden) >= 1, f"frozen_hidden is {self.frozen_hidden}; each must be 1 or more")
        check(self.hidden >= 0, f"hidden is {self.hidden}; it must be 0 (twice the code) or more")
        check(min(self.lr, *self.frozen_lrs) > 0, f"lr is {self.lr}, frozen_lrs {self.frozen_lrs}; must be positive")


def make_heads(
    attributes: Sequence[Attribute],
    network: Callable[[int, int], nn.Module],
    hidden: Sequence[int],
    lrs: Sequence[float],
) -> dict[str, Head]:
    """Returns "linear/char", "mlp/char", …: for every attribute a linear head and perceptrons of all pairs.

    The first pair is "mlp", others are "mlp_512_lr_0.001"; linear heads have the first rate.

    Args:
      network: `(features, hidden) -> module`, hidden = 0 for a linear one.
    """
    points = {"linear": (0, lrs[0])}
    for width in hidden:
        for lr in lrs:
            points[f"mlp_{width}_lr_{lr:g}" if "mlp" in points else "mlp"] = (width, lr)
    return {
        f"{kind}/{a.name}": Head(a, network(max(a.num_classes, 1), width), lr)
        for kind, (width, lr) in points.items()
        for a in attributes
    }


def init_probes(heads: Heads, num_inputs: int, key: jax.Array) -> dict[str, Probe]:
    """Returns the probes before the first step, each from a key of its own."""
    codes, found = jnp.zeros((2, num_inputs)), {}
    for i, (name, head) in enumerate(heads.items()):
        variables = {"batch_stats": {}} | dict(head.network.init(jax.random.fold_in(key, i), codes, False))
        found[name] = Probe(variables, optax.scale_by_adam().init(variables["params"]))
    return found


def judge(attribute: Attribute, output: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (losses, scores), float32 [B], of outputs [B, K]: scores are 0 or 100, or absolute errors."""
    if attribute.num_classes:
        losses = optax.softmax_cross_entropy_with_integer_labels(output, target)
        return losses, 100.0 * (output.argmax(-1) == target)
    return jnp.square(output[:, 0] - target), jnp.abs(output[:, 0] - target)


def train_probes(
    heads: Heads,
    probes: Mapping[str, Probe],
    codes: jax.Array,
    targets: Mapping[str, jax.Array],
    weights: jax.Array | None = None,
) -> tuple[dict[str, Probe], dict[str, Mean]]:
    """Returns (probes, mean scores by name) after one step of each on a batch of codes [B, D].

    Args:
      targets: attribute -> [B].
      weights: of the rows, float32 [B] of mean 1, or None.
    """
    codes = jax.lax.stop_gradient(codes)
    weights = jnp.ones(len(codes)) if weights is None else weights
    found, metrics = {}, {}
    for name, head in heads.items():
        stats, target = probes[name].variables["batch_stats"], targets[head.attribute.name]

        def loss(params, head=head, stats=stats, target=target):
            variables = {"params": params, "batch_stats": stats}
            output, changed = head.network.apply(variables, codes, True, mutable=["batch_stats"])
            losses, scores = judge(head.attribute, output, target)
            return (losses * weights).mean(), (changed.get("batch_stats", {}), scores * weights)

        params = probes[name].variables["params"]
        grads, (stats, scores) = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optax.scale_by_adam().update(grads, probes[name].opt_state)
        params = optax.apply_updates(params, jax.tree.map(lambda u, lr=head.lr: -lr * u, updates))
        found[name] = Probe({"params": params, "batch_stats": stats}, opt_state)
        metrics[score_name(name, head)] = Mean.of(scores)
    return found, metrics


def measure_probes(
    heads: Heads, variables: Mapping[str, Any], codes: jax.Array, targets: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Returns the scores of every row by `score_name`, float32 [B], of heads with variables by name."""
    found = {}
    for name, head in heads.items():
        output = head.network.apply(variables[name], codes, False)
        found[score_name(name, head)] = judge(head.attribute, output, targets[head.attribute.name])[1]
    return found


def score_name(name: str, head: Head) -> str:
    """Returns the name of a head's score, "mlp/char_accuracy"."""
    return f"{name}_{head.attribute.score}"


def loss_of(head: Head, score: jax.Array) -> jax.Array:
    """Returns a score as a number that should be low."""
    return -score if head.attribute.num_classes else score


def fit_probes(heads: Heads, train: Mapping, valid: Mapping, key: jax.Array, config: FitConfig) -> dict[str, Any]:
    """Returns the variables of every head at the epoch with its best validation score, for use inside jit.

    Each epoch takes the rows in a new order. Heads that are done wait for the others.

    Args:
      train, valid: {"codes": float32 [N, D], attribute: [N], …}.
    """
    num_rows = len(train["codes"])
    size = min(config.batch_size, num_rows)
    num_steps = num_rows // size
    init_key, order_key = jax.random.split(key)
    probes = init_probes(heads, train["codes"].shape[1], init_key)
    fits = {k: Fit(p, selection.start(p.variables), jnp.int32(0)) for k, p in probes.items()}

    def epoch(carry):
        i, fits = carry
        order = jax.random.permutation(jax.random.fold_in(order_key, i), num_rows)

        def step(probes, rows):
            batch = {k: v[rows] for k, v in train.items()}
            return train_probes(heads, probes, batch["codes"], batch)[0], None

        before = {k: fit.probe for k, fit in fits.items()}
        probes, _ = jax.lax.scan(step, before, order[: num_steps * size].reshape(num_steps, size))
        variables = {k: p.variables for k, p in probes.items()}
        scores = measure_probes(heads, variables, valid["codes"], valid)
        new = {}
        for name, head in heads.items():
            value = loss_of(head, scores[score_name(name, head)].mean())
            best = selection.keep_lowest(fits[name].best, variables[name], value)
            better, going = value < fits[name].best.value, fits[name].stale < config.patience
            stale = jnp.where(better, 0, fits[name].stale + 1)
            changed = Fit(probes[name], best, stale)
            new[name] = jax.tree.map(lambda old, new, go=going: jnp.where(go, new, old), fits[name], changed)
        return i + 1, new

    def unfinished(carry):
        i, fits = carry
        going = jnp.stack([fit.stale < config.patience for fit in fits.values()])
        return (i < config.epochs) & going.any()

    _, fits = jax.lax.while_loop(unfinished, epoch, (jnp.int32(0), fits))
    return {name: fit.best.kept for name, fit in fits.items()}
