"""DCGAN: two networks against each other, their features, and pictures of what they learned.

    python launch.py --config=configs/dcgan.py:smoke
    python launch.py --config=configs/dcgan_ablations.py:smoke --sweep     # the report's twelve modifications

Both optimizers are values in the state; `jaxrepro.training.adversarial` has the steps.

Source: Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" (arXiv 1511.06434); the authors' Theano code (preset `paper`); a reproduction report that follows the PyTorch
tutorial (preset `report`).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.config import RunConfig
from jaxrepro.data import Table, load_dataset, make_source, read_split
from jaxrepro.data.dataset import notes_of
from jaxrepro.data.layout import check_classes
from jaxrepro.data.square import Fit, check_squares, read_squares, square
from jaxrepro.durations import num_steps
from jaxrepro.errors import check
from jaxrepro.evaluators.dcgan import Critic, DCGANEvalConfig, Statistics, judged_columns, make_evaluators
from jaxrepro.evaluators.features import read_labelled
from jaxrepro.evaluators.memorisation import searched_images
from jaxrepro.evaluators.samples import GRID, Sampler
from jaxrepro.experiment import Context, Experiment, When
from jaxrepro.layers.guided import guided_leaky_relu
from jaxrepro.models.dcgan import DCGANConfig, Discriminator, Ends, Generator, draw_latents, to_range, to_uint8
from jaxrepro.models.dcgan_arrays import read_arrays
from jaxrepro.training.adversarial import (
    Apply,
    State,
    Updates,
    begin,
    discriminator_step,
    generate_fakes,
    generator_step,
    record,
    train_pass,
)
from jaxrepro.training.batched import map_batches
from jaxrepro.training.optim import Optimizer, make_optimizer
from jaxrepro.training.precision import apply_in

# With config.parallel.model_axis > 1 the widest layers, and their optimizer state, are split by output channel.
SHARDING_RULES = ((r"(generator|discriminator)/.*(ConvTranspose_0|convs_[23])/kernel", (None, None, None, "model")),)


@dataclass(frozen=True)
class Config(RunConfig):
    """A DCGAN.

    Attributes:
      model: both networks.
      updates: which network a batch trains.
      fit: how images get their size.
      weights: npz file of the authors' weights to begin with (`models.dcgan_arrays`), "" = random ones.
      row: of the report's table 2, "" = none.
      eval: what is measured.
    """

    model: DCGANConfig = DCGANConfig()
    updates: Updates = Updates.BOTH
    fit: Fit = Fit.RESIZE
    weights: str = ""
    row: str = ""
    eval: DCGANEvalConfig = DCGANEvalConfig()

    def __post_init__(self):
        super().__post_init__()
        conditional = self.model.num_labels > 0 and self.eval.features.source
        check(not conditional, "eval.features.source needs an unconditional model: model.num_labels=0")
        plain = self.model.ends == Ends.DENSE and not self.model.num_labels and not self.model.hidden
        check(plain or not self.weights, "weights are for networks with model.ends='dense', no labels, no hidden layer")


def networks(config: Config, momentum: float = 0.9) -> tuple[Generator, Discriminator]:
    return Generator(config.model, momentum), Discriminator(config.model, momentum)


def applied(config: Config, momentum: float = 0.9) -> tuple[Apply, Apply]:
    """Returns both networks as functions of variables and inputs, in the config's precision."""
    return tuple(functools.partial(apply_in, config.precision, network) for network in networks(config, momentum))


def init_variables(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns {"generator", "discriminator"}: variables {"params", "batch_stats"}."""
    (generator, discriminator), (generator_key, discriminator_key) = networks(config), jax.random.split(key)
    labels = jnp.zeros(2, jnp.int32)
    z, images = jnp.zeros((2, config.model.latent)), jnp.zeros((2, *config.model.image_shape))
    return {
        "generator": {"batch_stats": {}} | dict(generator.init(generator_key, z, labels, train=True)),
        "discriminator": {"batch_stats": {}} | dict(discriminator.init(discriminator_key, images, labels, train=True)),
    }


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters of both networks."""
    return {name: variables["params"] for name, variables in init_variables(config, key).items()}


def make_update(config: Config, optimizer: Optimizer):
    """Returns `(state, batch, context) -> (state, metrics)`."""
    generate, discriminate = applied(config)

    def update(state: State, batch: Mapping[str, jax.Array], context: Context) -> tuple[State, dict]:
        rate = optimizer.rate(context.step)
        descend = functools.partial(optimizer.descend, rate=rate)
        images = to_range(config.model, square(batch["image"], config.model.image_size, config.fit))
        labels = batch.get("label")
        z = draw_latents(config.model, context.key, len(images))

        def step_discriminator(state: State, fakes) -> State:
            player, found, clamped = discriminator_step(
                discriminate, descend, state.discriminator, images=images, fakes=fakes, labels=labels
            )
            return record(state.replace(discriminator=player), "discriminator", found, clamped)

        def step_generator(state: State, fakes) -> State:
            player, other, found, clamped = generator_step(
                discriminate, descend, state.generator, state.discriminator, fakes=fakes, labels=labels
            )
            return record(state.replace(generator=player, discriminator=other), "generator", found, clamped)

        def fakes_only(state: State) -> jax.Array:
            return train_pass(generate, state.generator.params, state.generator.batch_stats, z, labels)[0]

        if config.updates == Updates.BOTH:
            fakes = generate_fakes(generate, state.generator, z, labels)
            new = step_generator(step_discriminator(state, fakes.images), fakes)
        else:
            new = jax.lax.cond(
                context.step % 2 == 0,
                lambda s: step_generator(s, generate_fakes(generate, s.generator, z, labels)),
                lambda s: step_discriminator(s, fakes_only(s)),
                state,
            )
        return new, new.latest | {"learning_rate": rate}

    return update


def init_state(config: Config, optimizer: Optimizer, key: jax.Array, given: Mapping[str, Any] | tuple = ()) -> State:
    """Returns the state of step 0; given: parameters of both networks in place of random ones."""
    variables_key, latents_key = jax.random.split(key)
    latents = draw_latents(config.model, latents_key, max(config.train.batch_size, GRID**2))
    return begin(init_variables(config, variables_key), optimizer.init, latents, dict(given))


def build(config: Config) -> Experiment:
    """Returns the experiment: data, the update of both networks, and every evaluator that the config asks for."""
    splits = load_dataset(config.data.source, smoke_command="python launch.py --config=configs/dcgan.py:smoke")
    train, test = read_split(splits, config.data.train), read_split(splits, config.data.test)
    check_squares(train, config.model.image_size, config.model.image_channels, config.fit)
    columns = ("image", "label") if config.model.num_labels else ("image",)
    if config.model.num_labels and "label" in train.columns:
        check_classes(train.name, train.arrays()["label"], config.model.num_labels)
    source, draw = make_source(
        train, config.train.batch_size, columns=columns, resident_limit_mb=config.data.resident_limit_mb
    )
    total = num_steps(config.train.duration, steps_per_epoch=source.steps_per_epoch)
    optimizer = make_optimizer(config.optim, total, source.steps_per_epoch)
    c = config.eval
    of_features = config.data.source if c.features.source == "same" else c.features.source
    evaluators = make_evaluators(
        c,
        make_sampler(config),
        make_critic(config),
        read(config, train, judged_columns(c, list(train.columns)), c.num_examples),
        read(config, test, [c.judge] if c.judge else [], c.num_examples),
        searched_images(train, config.model.image_size, config.fit, c.num_searched),
        labelled=read_labelled(c.features, of_features, functools.partial(read, config)) if of_features else (),
        source_name=of_features,
        row=config.row,
        when=When(num_steps(c.every, steps_per_epoch=source.steps_per_epoch, total=total), end=True),
        last=total,
    )
    return Experiment(
        source=source,
        init=lambda context, given: init_state(config, optimizer, context.key, given),
        given=read_weights(config) if config.weights else (),
        draw=draw,
        update=make_update(config, optimizer),
        evaluators=evaluators,
        sharding_rules=SHARDING_RULES,
        notes=notes_of((train, test)),
    )


def read_weights(config: Config) -> dict[str, Any]:
    """Returns the authors' parameters of both networks."""
    like = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    return read_arrays(Path(config.weights).expanduser(), like)


def read(config: Config, table: Table, columns: Sequence[str] = (), limit: int = 0) -> dict[str, np.ndarray]:
    """Returns random rows of a table as the evaluators see them, see `read_squares`."""
    model = config.model
    check_squares(table, model.image_size, model.image_channels, config.fit)
    return read_squares(table, model.image_size, config.fit, columns=columns, limit=limit)


def make_sampler(config: Config) -> Sampler:
    """Returns the generator as evaluators see it."""
    (generate_images, _), num_labels = applied(config, momentum=0.0), config.model.num_labels

    def generate(state: State, z, labels):
        params, batch_stats = state.generator.params, state.generator.batch_stats
        if config.eval.statistics == Statistics.BATCH:
            reference = state.fixed_latents
            cycled = jnp.arange(len(reference)) % max(1, num_labels)
            batch_stats = train_pass(generate_images, params, batch_stats, reference, cycled)[1]
        variables = {"params": params, "batch_stats": batch_stats}

        def one(batch):
            return to_uint8(config.model, generate_images(variables, *batch, train=False))

        return map_batches(one, (z, labels), config.eval.batch_size)

    return Sampler(
        draw=lambda key, num: draw_latents(config.model, key, num),
        generate=generate,
        fixed=lambda state: state.fixed_latents,
        num_labels=num_labels,
    )


def make_critic(config: Config) -> Critic:
    """Returns the discriminator as evaluators see it."""
    _, discriminator = networks(config, momentum=0.0)
    guided = discriminator.clone(activation=guided_leaky_relu)
    apply = functools.partial(apply_in, config.precision, discriminator)

    return Critic(
        trained=lambda state: {k: getattr(state.discriminator, k) for k in ("params", "batch_stats")},
        untrained=lambda: init_variables(config, jax.random.key(0))["discriminator"],
        inputs=functools.partial(to_range, config.model),
        statistics=lambda v, inputs: train_pass(apply, v["params"], v["batch_stats"], inputs)[1],
        features=lambda v, inputs: apply(v, inputs, train=False, method="features"),
        guided_features=lambda v, inputs: apply_in(config.precision, guided, v, inputs, train=False, method="features"),
        batch_size=config.train.batch_size,
    )
