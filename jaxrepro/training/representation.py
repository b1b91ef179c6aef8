"""Encoders trained without labels: autoencoders and Deep InfoMax, with probes beside them.

    task = Task(InfoMax(network), prepare, optimizer, heads, batch_size=256)
    state = init_learner(task, variables, num_inputs, key)
    state, metrics = train_step(task, state, batch, context)             # in `update`
    state, metrics = end_of_epoch(task, state, arrays, context)          # in a transition
    codes = encode_all(task, state.variables, images)

A method says what an image costs and what its code is. Source: Synbols (Lacoste et al., 2020), section 4.5, and the
released code, which made the published numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.config import Precision
from jaxrepro.experiment import Context
from jaxrepro.losses import infomax, vae
from jaxrepro.metrics import Mean
from jaxrepro.training import probes as probes_lib
from jaxrepro.training.batched import map_batches
from jaxrepro.training.means import dataset_means
from jaxrepro.training.optim import Optimizer
from jaxrepro.training.precision import apply_in
from jaxrepro.training.probes import Heads, Probe

Variables = dict[str, Any]  # {"params", "batch_stats"}


class Reconstruction(StrEnum):
    """Of pixels in [-1, 1]: L1, the sum of absolute errors, as released; L2, that of squares."""

    L1 = "l1"
    L2 = "l2"


class Outcome(NamedTuple):
    """What a batch costs.

    losses: float32 [B], whose mean is minimised. codes: float32 [B, D]. terms: the loss's parts by name, float32 [B].
    batch_stats: after the pass. rest: a float32 scalar that is minimised too but is no part of the losses' value.
    """

    losses: jax.Array
    codes: jax.Array
    terms: dict[str, jax.Array]
    batch_stats: Any
    rest: jax.Array | float = 0.0


@dataclass(frozen=True)
class Autoencoder:
    """Reconstruction + beta KL, sums over pixels and over latents; a code is the mean of q(z|x), of all levels.

    Attributes:
      network: `models.hvae.HVAE`.
      beta: step -> weight of the KL term; in validation it is 1.
      reconstruction: error of the pixels.
      precision: of the network's arithmetic.
    """

    network: nn.Module
    beta: Callable[[jax.Array], jax.Array]
    reconstruction: Reconstruction = Reconstruction.L1
    precision: Precision = Precision.FLOAT32

    def init(self, key: jax.Array, images: jax.Array) -> Variables:
        return dict(self.network.init(key, images, key, False))

    def run(self, variables: Variables, images: jax.Array, key: jax.Array, step: jax.Array | None) -> Outcome:
        """Returns the outcome of images float32 [B, H, W, C] in [-1, 1]; step: of training, None in validation."""
        train = step is not None
        sample_key, dropout_key = jax.random.split(key)
        (posterior, output), changed = apply_in(
            self.precision, self.network, variables, images, sample_key, train=train, mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )  # fmt: skip
        error = {Reconstruction.L1: vae.absolute_error, Reconstruction.L2: vae.squared_error}[self.reconstruction]
        terms = {
            "reconstruction": error(images, output),
            "kl": vae.kl_per_dimension(posterior.mean, posterior.log_variance).sum(-1),
        }
        beta = self.beta(step) if train else 1.0
        losses = terms["reconstruction"] + beta * terms["kl"]
        return Outcome(losses, posterior.mean, terms, changed["batch_stats"])

    def posterior(self, variables: Variables, images: jax.Array) -> Any:
        """Returns q(z|x) of `models.hvae.Posterior`, normalised by running statistics."""
        return apply_in(self.precision, self.network, variables, images, train=False, method="encode")

    def decode(self, variables: Variables, z: jax.Array) -> jax.Array:
        """Returns images float32 [B, H, W, C] in [-1, 1] of latents [B, D]."""
        return apply_in(self.precision, self.network, variables, z, train=False, method="decode")

    def encode(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns codes float32 [B, D], normalised by running statistics."""
        return self.posterior(variables, images).mean


@dataclass(frozen=True)
class InfoMax:
    """Deep InfoMax: alpha × global + beta × local + gamma × prior term.

    Attributes:
      network: `models.infomax.DeepInfoMax`.
      alpha, beta, gamma: weights of the global, local and prior term.
      prior_adversarial: whether the encoder works against the prior's discriminator. As released it helps it: encoder
        and discriminators minimise one loss, and the published numbers were made that way.
      precision: of the network's arithmetic.
    """

    network: nn.Module
    alpha: float = 0.5
    beta: float = 1.0
    gamma: float = 0.1
    prior_adversarial: bool = False
    precision: Precision = Precision.FLOAT32

    def init(self, key: jax.Array, images: jax.Array) -> Variables:
        return dict(self.network.init(key, images, False))

    def _apply(self, variables: Variables, *inputs: Any, **options: Any) -> Any:
        return apply_in(self.precision, self.network, variables, *inputs, **options)

    def run(self, variables: Variables, images: jax.Array, key: jax.Array, step: jax.Array | None) -> Outcome:
        """Returns the outcome of images float32 [B, H, W, C] in [-1, 1]; step: of training, None in validation."""
        (maps, codes), changed = self._apply(
            variables, images, train=step is not None, mutable=["batch_stats"], method="encode"
        )
        terms = {k: infomax.jensen_shannon(*v) for k, v in self._apply(variables, maps, codes, method="pairs").items()}
        uniform = jax.random.uniform(key, codes.shape)
        seen = jax.lax.stop_gradient(codes) if self.prior_adversarial else codes
        logits = (self._apply(variables, x, method="prior") for x in (uniform, seen))
        terms["prior"] = infomax.prior_matching(*logits)
        rest = 0.0
        if self.prior_adversarial:
            held = variables | {"params": jax.lax.stop_gradient(variables["params"])}
            rest = self.gamma * infomax.fooling(self._apply(held, codes, method="prior")).mean()
        losses = self.alpha * terms["global"] + self.beta * terms["local"] + self.gamma * terms["prior"]
        return Outcome(losses, codes, terms, changed["batch_stats"], rest)

    def encode(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns codes float32 [B, D], normalised by running statistics."""
        return self._apply(variables, images, train=False, method="encode")[1]


Method = Autoencoder | InfoMax


@dataclass(frozen=True)
class Task:
    """What a paper decides about an encoder in training.

    Attributes:
      method: what is minimised.
      prepare: images uint8 [B, H, W, C] -> float32.
      optimizer: of encoder, decoder and discriminators; as released all have one rate.
      heads: probes beside the encoder, {} for none.
      batch_size: of validation.
      weights: `step -> float32 [B]` of mean 1, of a training batch's rows; None counts all equally.
    """

    method: Method
    prepare: Callable[[jax.Array], jax.Array]
    optimizer: Optimizer
    heads: Heads
    batch_size: int = 256
    weights: Callable[[jax.Array], jax.Array] | None = None


@struct.dataclass
class Learner:
    """An encoder in training.

    Attributes:
      variables: {"params", "batch_stats"}; the latter has the vectors of spectral normalisation too.
      opt_state: of the optimizer.
      probes: name -> probe beside the encoder.
      best: name of a score -> the best one of all validations so far, as a number that is low.
    """

    variables: Any
    opt_state: Any
    probes: dict[str, Probe]
    best: dict[str, jax.Array]


def init_learner(task: Task, variables: Variables, num_inputs: int, key: jax.Array) -> Learner:
    """Returns the state before the first step. num_inputs: numbers of a code."""
    worst = jnp.finfo(jnp.float32).max * jnp.ones(())  # checkpoints refuse infinities
    best = {probes_lib.score_name(name, head): worst for name, head in task.heads.items()}
    probes = probes_lib.init_probes(task.heads, num_inputs, key)
    return Learner(variables, task.optimizer.init(variables["params"]), probes, best)


def train_step(task: Task, state: Learner, batch: Mapping, context: Context) -> tuple[Learner, dict[str, Any]]:
    """Returns (state, metrics) after one step of the encoder and, on its codes, of every probe.

    Args:
      batch: "image" uint8 [B, H, W, C], and attributes of the heads [B].
    """
    rate, images = task.optimizer.rate(context.step), task.prepare(batch["image"])
    weights = jnp.ones(len(images)) if task.weights is None else task.weights(context.step)
    params = state.variables["params"]

    def loss(params):
        outcome = task.method.run({**state.variables, "params": params}, images, context.key, context.step)
        return (outcome.losses * weights).mean() + outcome.rest, outcome

    grads, outcome = jax.grad(loss, has_aux=True)(params)
    params, opt_state = task.optimizer.descend(grads, state.opt_state, params, rate)
    probes, scores = probes_lib.train_probes(task.heads, state.probes, outcome.codes, batch, weights)
    new = state.replace(
        variables={"params": params, "batch_stats": outcome.batch_stats}, opt_state=opt_state, probes=probes
    )
    found = {k: Mean.of(v * weights) for k, v in {"loss": outcome.losses, **outcome.terms}.items()}
    if isinstance(task.method, Autoencoder):
        found["beta"] = task.method.beta(context.step)
    return new, found | scores | {"learning_rate": rate}


def end_of_epoch(task: Task, state: Learner, arrays: Mapping, context: Context) -> tuple[Learner, dict[str, jax.Array]]:
    """Returns (state, metrics) after a validation on {"image": uint8 [N, ...], attributes [N]}: means over images.

    The loss is that of beta = 1, with a sample of z. The state keeps the best scores of any validation.
    """
    variables = {name: probe.variables for name, probe in state.probes.items()}

    def measure(batch, key):
        outcome = task.method.run(state.variables, task.prepare(batch["image"]), key, None)
        scores = probes_lib.measure_probes(task.heads, variables, outcome.codes, batch)
        return {"loss": outcome.losses, **outcome.terms, **scores}

    found = dataset_means(measure, arrays, task.batch_size, context.key)
    best = dict(state.best)
    for name, head in task.heads.items():
        score = probes_lib.score_name(name, head)
        best[score] = jnp.minimum(best[score], probes_lib.loss_of(head, found[score]))
    return state.replace(best=best), found


def encode_all(task: Task, variables: Variables, images: jax.Array) -> jax.Array:
    """Returns the codes of images uint8 [N, H, W, C], float32 [N, D], for use inside jit."""
    return map_batches(lambda batch: task.method.encode(variables, task.prepare(batch)), images, task.batch_size)
