"""One step of each of two networks that play against each other: both with their optimizer as a value in the state.

    network, metrics, clamped = discriminator_step(model, descend, state.discriminator, images, fakes, labels)
    state = record(state.replace(discriminator=network), "discriminator", metrics, clamped)

The discriminator sees real and fake images in separate passes, each normalised by its own batch.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.losses import gan as losses


@struct.dataclass
class Network:
    """One network in training."""

    params: Any
    batch_stats: Any
    opt_state: Any


@struct.dataclass
class LossStatistics:
    """Mean and minimum of a loss over the steps that computed it, as the report's table 2 has them."""

    count: jax.Array
    mean: jax.Array
    lowest: jax.Array

    @classmethod
    def empty(cls) -> "LossStatistics":
        """Returns the statistics of no step: the lowest is the largest number, since checkpoints refuse infinities."""
        return cls(jnp.float32(0), jnp.float32(0), jnp.finfo(jnp.float32).max * jnp.ones(()))

    def add(self, value: jax.Array) -> "LossStatistics":
        count = self.count + 1
        return LossStatistics(count, self.mean + (value - self.mean) / count, jnp.minimum(self.lowest, value))


@struct.dataclass
class State:
    """fixed_latents: [B, latent]: the first are pictured, all of them normalise samples.

    latest: the newest value of every metric, since alternating steps compute only some of them.
    """

    generator: Network
    discriminator: Network
    losses: dict[str, LossStatistics]
    latest: dict[str, jax.Array]
    fixed_latents: jax.Array


def train_pass(model: Any, params: Any, batch_stats: Any, *inputs: jax.Array) -> tuple[jax.Array, Any]:
    """Returns (output normalised by the batch, new running statistics)."""
    variables = {"params": params, "batch_stats": batch_stats}
    output, changed = model.apply(variables, *inputs, train=True, mutable=["batch_stats"])
    return output, changed.get("batch_stats", batch_stats)


def discriminator_step(model, descend, network: Network, images, fakes, labels) -> tuple[Network, dict, jax.Array]:
    """Returns (network, metrics, clamped loss) after one step on a real and a fake batch, each normalised by itself.

    Args:
      descend: `(grads, opt_state, params) -> (params, opt_state)`, of the optimizer at this step's rate.
    """

    def loss(params):
        real, batch_stats = train_pass(model, params, network.batch_stats, images, labels)
        fake, batch_stats = train_pass(model, params, batch_stats, fakes, labels)
        return losses.discriminator_loss(real, fake), (real, fake, batch_stats)

    (value, (real, fake, batch_stats)), grads = jax.value_and_grad(loss, has_aux=True)(network.params)
    scores = {"real_score": jax.nn.sigmoid(real).mean(), "fake_score": jax.nn.sigmoid(fake).mean()}
    clamped = losses.discriminator_loss(real, fake, losses.LIMIT)
    params, opt_state = descend(grads, network.opt_state, network.params)
    network = Network(params, batch_stats, opt_state)
    return network, {"loss_discriminator": value, **scores}, clamped


def generator_step(model, descend, network: Network, other: Network, fakes, pull_back, batch_stats, labels):
    """Returns (generator, discriminator, metrics, clamped loss); of the discriminator only running averages change.

    Args:
      model: the discriminator.
      descend: see `discriminator_step`.
      network, other: generator and discriminator.
      fakes, pull_back, batch_stats: the generator's output, the map from its gradient to the parameters', and the
        generator's new running statistics: its forward pass is shared with the discriminator's step.
    """

    def loss(fakes):
        fake, other_stats = train_pass(model, other.params, other.batch_stats, fakes, labels)
        return losses.generator_loss(fake), (fake, other_stats)

    (value, (fake, other_stats)), grads = jax.value_and_grad(loss, has_aux=True)(fakes)
    params, opt_state = descend(pull_back(grads)[0], network.opt_state, network.params)
    network = Network(params, batch_stats, opt_state)
    clamped = losses.generator_loss(fake, losses.LIMIT)
    return network, other.replace(batch_stats=other_stats), {"loss_generator": value}, clamped


def record(state: State, name: str, found: Mapping[str, jax.Array], clamped: jax.Array) -> State:
    """Returns the state with a step's metrics and its loss added to the statistics of network `name`."""
    statistics = state.losses | {name: state.losses[name].add(clamped)}
    return state.replace(latest=state.latest | found, losses=statistics)
