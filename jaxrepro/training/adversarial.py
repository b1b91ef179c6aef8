"""One step of each of two networks that play against each other: both with their optimizer as a value in the state.

    discriminate = functools.partial(apply_in, config.precision, Discriminator(config.model))
    player, metrics, clamped = discriminator_step(discriminate, descend, player, images=images, fakes=fakes)
    state = record(state.replace(discriminator=player), "discriminator", metrics, clamped)

The discriminator sees real and fake images in separate passes, each normalised by its own batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.losses import gan as losses

Apply = Callable[..., Any]  # `(variables, *inputs, train, mutable) -> (output, changed)`, of `training.precision`
Descend = Callable[[Any, Any, Any], tuple[Any, Any]]  # `(grads, opt_state, params) -> (params, opt_state)`


class Updates(StrEnum):
    """BOTH: every batch trains the discriminator, then the generator with the same fakes (tutorial).

    ALTERNATING: batches train the generator and the discriminator in turn, each with fakes of its own (authors).
    """

    BOTH = "both"
    ALTERNATING = "alternating"


@struct.dataclass
class Player:
    """One network in training."""

    params: Any
    batch_stats: Any
    opt_state: Any


@struct.dataclass
class LossStatistics:
    """Mean and minimum of a loss over the steps that computed it, as the report's table 2 has them.

    Attributes:
      count: of the steps.
      mean, lowest: float32 scalars.
    """

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
    """Both networks and what is reported of them.

    Attributes:
      generator, discriminator: the players.
      losses: of each, by name.
      latest: the newest value of every metric, since alternating steps compute only some of them.
      fixed_latents: [B, latent]: the first are pictured, all of them normalise samples.
    """

    generator: Player
    discriminator: Player
    losses: dict[str, LossStatistics]
    latest: dict[str, jax.Array]
    fixed_latents: jax.Array


def begin(
    variables: Mapping[str, Mapping[str, Any]],
    init: Callable[[Any], Any],
    fixed_latents: jax.Array,
    given: Mapping[str, Any],
) -> State:
    """Returns the state of step 0; its latest losses and scores are those of an undecided discriminator.

    Args:
      variables: {"generator", "discriminator"}, each {"params", "batch_stats"}.
      init: of the optimizer.
      given: parameters in place of those in `variables`, or {}.
    """
    players = {
        name: Player(**v | ({"params": given[name]} if given else {}), opt_state=init(v["params"]))
        for name, v in variables.items()
    }
    undecided, half = losses.cross_entropy(jnp.zeros(1), True), jnp.float32(0.5)
    return State(
        **players,
        losses={name: LossStatistics.empty() for name in players},
        latest={
            "loss_discriminator": 2 * undecided,
            "loss_generator": undecided,
            "real_score": half,
            "fake_score": half,
        },
        fixed_latents=fixed_latents,
    )


def train_pass(apply: Apply, params: Any, batch_stats: Any, *inputs: jax.Array | None) -> tuple[jax.Array, Any]:
    """Returns (output normalised by the batch, new running statistics)."""
    variables = {"params": params, "batch_stats": batch_stats}
    output, changed = apply(variables, *inputs, train=True, mutable=["batch_stats"])
    return output, changed.get("batch_stats", batch_stats)


def discriminator_step(
    discriminate: Apply,
    descend: Descend,
    player: Player,
    *,
    images: jax.Array,
    fakes: jax.Array,
    labels: jax.Array | None = None,
) -> tuple[Player, dict, jax.Array]:
    """Returns (player, metrics, clamped loss) after one step on a real and a fake batch, each normalised by itself.

    Args:
      descend: of the optimizer, at this step's rate.
      player: the discriminator.
    """

    def loss(params):
        real, batch_stats = train_pass(discriminate, params, player.batch_stats, images, labels)
        fake, batch_stats = train_pass(discriminate, params, batch_stats, fakes, labels)
        return losses.discriminator_loss(real, fake), (real, fake, batch_stats)

    (value, (real, fake, batch_stats)), grads = jax.value_and_grad(loss, has_aux=True)(player.params)
    scores = {"real_score": jax.nn.sigmoid(real).mean(), "fake_score": jax.nn.sigmoid(fake).mean()}
    clamped = losses.discriminator_loss(real, fake, losses.LIMIT)
    params, opt_state = descend(grads, player.opt_state, player.params)
    return Player(params, batch_stats, opt_state), {"loss_discriminator": value, **scores}, clamped


@dataclass(frozen=True)
class Fakes:
    """A batch of the generator's images; its forward pass is shared by the steps of both networks.

    Attributes:
      images: float32 [B, H, W, C].
      pull_back: from the gradient at the images to that at the generator's parameters.
      batch_stats: the generator's new running statistics.
    """

    images: jax.Array
    pull_back: Callable[[jax.Array], tuple[Any]]
    batch_stats: Any


def generate_fakes(generate: Apply, player: Player, latents: jax.Array, labels: jax.Array | None = None) -> Fakes:
    """Returns the generator's images of latents [B, D]."""
    return Fakes(
        *jax.vjp(
            lambda params: train_pass(generate, params, player.batch_stats, latents, labels),
            player.params,
            has_aux=True,
        )
    )


def generator_step(
    discriminate: Apply,
    descend: Descend,
    generator: Player,
    discriminator: Player,
    *,
    fakes: Fakes,
    labels: jax.Array | None = None,
) -> tuple[Player, Player, dict, jax.Array]:
    """Returns (generator, discriminator, metrics, clamped loss); of the discriminator only running averages change."""

    def loss(images):
        fake, batch_stats = train_pass(discriminate, discriminator.params, discriminator.batch_stats, images, labels)
        return losses.generator_loss(fake), (fake, batch_stats)

    (value, (fake, batch_stats)), grads = jax.value_and_grad(loss, has_aux=True)(fakes.images)
    params, opt_state = descend(fakes.pull_back(grads)[0], generator.opt_state, generator.params)
    clamped = losses.generator_loss(fake, losses.LIMIT)
    generator = Player(params, fakes.batch_stats, opt_state)
    return generator, discriminator.replace(batch_stats=batch_stats), {"loss_generator": value}, clamped


def record(state: State, name: str, found: Mapping[str, jax.Array], clamped: jax.Array) -> State:
    """Returns the state with a step's metrics and its loss added to the statistics of network `name`."""
    statistics = state.losses | {name: state.losses[name].add(clamped)}
    return state.replace(latest=state.latest | found, losses=statistics)
