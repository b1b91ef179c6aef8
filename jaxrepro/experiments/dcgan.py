"""DCGAN: two networks against each other, their features, and pictures of what they learned.

    python launch.py --config=configs/dcgan.py:smoke
    python launch.py --config=configs/dcgan_ablations.py:smoke --sweep     # the report's twelve modifications

Both optimizers are values in the state; `jaxrepro.training.adversarial` has the steps.

Source: Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" (arXiv 1511.06434); the authors' Theano code (preset `paper`); a reproduction report that follows the PyTorch
tutorial (preset `report`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.config import EvalConfig, Precision, RunConfig
from jaxrepro.data import Table, load_dataset, make_source, read_split
from jaxrepro.data.square import Fit, square
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError, check, unknown
from jaxrepro.evaluators import classifier, features, filters, latents, losses_table, samples
from jaxrepro.evaluators.features import FeaturesConfig
from jaxrepro.evaluators.latents import ArithmeticConfig
from jaxrepro.experiment import Context, Evaluator, Experiment, Source, When
from jaxrepro.layers.guided import guided_leaky_relu
from jaxrepro.losses import gan as losses
from jaxrepro.models.dcgan import DCGANConfig, Discriminator, Generator, Pixels, draw_latents
from jaxrepro.rng import generator as numpy_generator
from jaxrepro.training.adversarial import (
    LossStatistics,
    Network,
    State,
    discriminator_step,
    generator_step,
    record,
    train_pass,
)
from jaxrepro.training.batched import map_batches
from jaxrepro.training.optim import Optimizer, make_optimizer

# With config.parallel.model_axis > 1 the widest layers, and their optimizer state, are split by output channel.
SHARDING_RULES = ((r"(generator|discriminator)/.*(ConvTranspose_0|convs_[23])/kernel", (None, None, None, "model")),)


class Updates(StrEnum):
    """BOTH: every batch trains the discriminator, then the generator with the same fakes (tutorial).

    ALTERNATING: batches train the generator and the discriminator in turn, each with fakes of its own (authors).
    """

    BOTH = "both"
    ALTERNATING = "alternating"


class Statistics(StrEnum):
    """What normalises samples: BATCH, the statistics of one fixed full batch of fakes; RUNNING, the averages."""

    BATCH = "batch"
    RUNNING = "running"


@dataclass(frozen=True)
class DCGANEvalConfig(EvalConfig):
    """num_samples: for distances and coverage. num_examples also limits the training images that evaluators look at.

    judge: column of the data that a classifier learns, to judge samples by, "" = none. judge_steps: of its training.
    """

    num_samples: int = 1000
    statistics: Statistics = Statistics.BATCH
    judge: str = ""
    judge_steps: int = 1500
    arithmetic: ArithmeticConfig = ArithmeticConfig()
    features: FeaturesConfig = FeaturesConfig()

    def __post_init__(self):
        super().__post_init__()
        check(self.num_samples >= 100, f"num_samples is {self.num_samples}; it must be at least 100")
        check(self.judge_steps > 0, f"judge_steps is {self.judge_steps}; it must be positive")
        largest = max(self.arithmetic.indices, default=0)
        check(largest < self.num_samples, f"arithmetic.indices has {largest}; there are {self.num_samples} samples")


@dataclass(frozen=True)
class Config(RunConfig):
    """row: of the report's table 2, "" = none."""

    model: DCGANConfig = DCGANConfig()
    updates: Updates = Updates.BOTH
    fit: Fit = Fit.RESIZE
    row: str = ""
    eval: DCGANEvalConfig = DCGANEvalConfig()

    def __post_init__(self):
        super().__post_init__()
        conditional = self.model.num_labels > 0 and self.eval.features.source
        check(not conditional, "eval.features.source needs an unconditional model: model.num_labels=0")


def networks(config: Config, momentum: float = 0.9) -> tuple[Generator, Discriminator]:
    dtype = jnp.bfloat16 if config.precision == Precision.BFLOAT16 else jnp.float32
    return Generator(config.model, momentum, dtype), Discriminator(config.model, momentum, dtype)


def init_variables(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns {"generator", "discriminator"}: variables {"params", "batch_stats"}."""
    generator, discriminator = networks(config)
    generator_key, discriminator_key = jax.random.split(key)
    labels = jnp.zeros(2, jnp.int32)
    z, images = jnp.zeros((2, config.model.latent)), jnp.zeros((2, *config.model.image_shape))
    return {
        "generator": {"batch_stats": {}} | dict(generator.init(generator_key, z, labels, train=True)),
        "discriminator": {"batch_stats": {}} | dict(discriminator.init(discriminator_key, images, labels, train=True)),
    }


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters of both networks."""
    return {name: variables["params"] for name, variables in init_variables(config, key).items()}


def to_range(config: Config, images: jax.Array) -> jax.Array:
    """Returns images [0, 255] as float32 in the data's range."""
    images = images.astype(jnp.float32)
    return images / 127.5 - 1 if config.model.pixels == Pixels.SIGNED else images / 255


def make_update(config: Config, optimizer: Optimizer):
    """Returns `(state, batch, context) -> (state, metrics)`."""
    generator, discriminator = networks(config)

    def update(state: State, batch: Mapping[str, jax.Array], context: Context) -> tuple[State, dict]:
        rate = optimizer.rate(context.step)
        descend = functools.partial(optimizer.descend, rate=rate)
        images = to_range(config, square(batch["image"], config.model.image_size, config.fit))
        labels = batch.get("label")
        z = draw_latents(config.model, context.key, len(images))

        def fakes_of(params):
            return train_pass(generator, params, state.generator.batch_stats, z, labels)

        def step_discriminator(state: State, fakes) -> State:
            network, found, clamped = discriminator_step(
                discriminator, descend, state.discriminator, images, fakes, labels
            )
            return record(state.replace(discriminator=network), "discriminator", found, clamped)

        def step_generator(state: State, fakes, pull_back, batch_stats) -> State:
            network, other, found, clamped = generator_step(
                discriminator, descend, state.generator, state.discriminator, fakes, pull_back, batch_stats, labels
            )
            return record(state.replace(generator=network, discriminator=other), "generator", found, clamped)

        if config.updates == Updates.BOTH:
            fakes, pull_back, batch_stats = jax.vjp(fakes_of, state.generator.params, has_aux=True)
            new = step_generator(step_discriminator(state, fakes), fakes, pull_back, batch_stats)
        else:
            new = jax.lax.cond(
                context.step % 2 == 0,
                lambda s: step_generator(s, *jax.vjp(fakes_of, s.generator.params, has_aux=True)),
                lambda s: step_discriminator(s, fakes_of(s.generator.params)[0]),
                state,
            )
        return new, new.latest | {"learning_rate": rate}

    return update


def init_state(config: Config, optimizer: Optimizer, key: jax.Array) -> State:
    """Returns the state of step 0; its latest losses and scores are those of an undecided discriminator."""
    variables_key, latents_key = jax.random.split(key)
    made = {
        name: Network(**v, opt_state=optimizer.init(v["params"]))
        for name, v in init_variables(config, variables_key).items()
    }
    undecided = losses.cross_entropy(jnp.zeros(1), True)
    return State(
        **made,
        losses={name: LossStatistics.empty() for name in made},
        latest={
            "loss_discriminator": 2 * undecided,
            "loss_generator": undecided,
            "real_score": jnp.float32(0.5),
            "fake_score": jnp.float32(0.5),
        },
        fixed_latents=draw_latents(config.model, latents_key, max(config.train.batch_size, samples.GRID**2)),
    )


def build(config: Config) -> Experiment:
    """Returns the experiment: data, the update of both networks, and every evaluator that the config asks for."""
    splits = load_dataset(config.data.source, smoke_command="python launch.py --config=configs/dcgan.py:smoke")
    train, test = read_split(splits, config.data.train), read_split(splits, config.data.test)
    check_images(config, config.data.source, train)
    columns = ("image", "label") if config.model.num_labels else ("image",)
    source, draw = make_source(
        train, config.train.batch_size, columns=columns, resident_limit_mb=config.data.resident_limit_mb
    )
    total = num_steps(config.train.duration, steps_per_epoch=source.steps_per_epoch)
    optimizer = make_optimizer(config.optim, total, source.steps_per_epoch)
    return Experiment(
        source=source,
        init=lambda context, given: init_state(config, optimizer, context.key),
        draw=draw,
        update=make_update(config, optimizer),
        evaluators=evaluators(config, source, train, test, total),
        sharding_rules=SHARDING_RULES,
    )


def check_images(config: Config, name: str, table: Table) -> None:
    """Raises UserError unless the model can take the images of a source."""
    height, width, channels = table.columns["image"].shape
    size = config.model.image_size
    if channels != config.model.image_channels:
        asked = config.model.image_channels
        raise UserError(f"{name} has images of {channels} channels; config.model.image_channels is {asked}")
    if config.fit == Fit.CROP and min(height, width) < size:
        raise UserError(f"{name} has images of {height}×{width}; config.fit=crop cannot cut {size}×{size} from them")


def read_images(config: Config, table: Table, columns: Sequence[str] = (), limit: int = 0) -> dict[str, np.ndarray]:
    """Returns `limit` random rows (0 = all, shuffled): "image" uint8 [N, size, size, C] and columns of classes [N].

    The choice is always the same; sources may be sorted by class.

    Raises:
      UserError: no such column, or one that does not hold one class per row.
    """
    for name in columns:
        if name not in table.columns:
            raise unknown(f"column of {table.name}", name, table.columns)
        column = table.columns[name]
        if column.shape or np.dtype(column.dtype).kind not in "biu":
            raise UserError(f"column {name!r} of {table.name} holds no classes but {column.dtype} {list(column.shape)}")
    found = table.take(numpy_generator(0, "evaluators").permutation(table.num_rows)[: limit or None])
    images = found["image"]
    if images.shape[1:3] != (config.model.image_size,) * 2:
        resize = jax.jit(lambda a: jnp.round(square(a, config.model.image_size, config.fit)).astype(jnp.uint8))
        images = np.concatenate([np.asarray(resize(images[i : i + 500])) for i in range(0, len(images), 500)])
    return {"image": images, **{name: found[name] for name in columns}}


def evaluators(config: Config, source: Source, train: Table, test: Table, total: int) -> tuple[Evaluator, ...]:
    """Returns the evaluators: samples and losses throughout training, everything else at its end."""
    c, end = config.eval, {"split": "test", "when": When(end=True)}
    when = When(num_steps(c.every, steps_per_epoch=source.steps_per_epoch, total=total), end=True)
    sampler = make_sampler(config)
    wanted = latents.concept_columns(c.arithmetic.concepts, list(train.columns))
    judged = list(dict.fromkeys([*([c.judge] if c.judge else []), *wanted]))
    train_rows = read_images(config, train, judged, c.num_examples)
    test_rows = read_images(config, test, [c.judge] if c.judge else [], c.num_examples)

    @functools.cache
    def get_judge():
        columns = {name: train_rows[name] for name in judged}
        return classifier.train_classifier(train_rows["image"], columns, c.judge_steps)

    found = [
        samples.samples(sampler, train_rows["image"], split="test", when=when, last=total),
        losses_table.losses_table(lambda s: s.losses, config.row, split="train", when=when),
        samples.memorisation(sampler, train_rows["image"], test_rows["image"], num_samples=c.num_samples, **end),
        latents.latent_walks(sampler, **end),
        latents.arithmetic(sampler, get_judge, config=c.arithmetic, num_samples=c.num_samples, **end),
    ]
    if c.judge:
        judged_by = (get_judge, c.judge, test_rows["image"], test_rows[c.judge])
        found.append(classifier.class_coverage(sampler, *judged_by, num_samples=c.num_samples, **end))
    if not config.model.num_labels:
        extract = feature_variables(config)
        found.append(filters.filters(filter_responses(config, extract), test_rows["image"][: c.batch_size], **end))
        if c.features.source:
            found.append(feature_evaluator(config, extract, train_rows["image"], end))
    return tuple(found)


def make_sampler(config: Config) -> samples.Sampler:
    """Returns the generator as evaluators see it."""
    (generator, _), num_labels = networks(config, momentum=0.0), config.model.num_labels

    def generate(state: State, z, labels):
        params, batch_stats = state.generator.params, state.generator.batch_stats
        if config.eval.statistics == Statistics.BATCH:
            reference = state.fixed_latents
            cycled = jnp.arange(len(reference)) % max(1, num_labels)
            batch_stats = train_pass(generator, params, batch_stats, reference, cycled)[1]
        variables = {"params": params, "batch_stats": batch_stats}

        def one(batch):
            return to_uint8(config, generator.apply(variables, *batch, train=False))

        return map_batches(one, (z, labels), config.eval.batch_size)

    return samples.Sampler(
        draw=lambda key, num: draw_latents(config.model, key, num),
        generate=generate,
        fixed=lambda state: state.fixed_latents,
        num_labels=num_labels,
    )


def to_uint8(config: Config, images: jax.Array) -> jax.Array:
    """Returns images in the data's range as uint8."""
    unit = (images + 1) / 2 if config.model.pixels == Pixels.SIGNED else images
    return jnp.round(jnp.clip(unit, 0, 1) * 255).astype(jnp.uint8)


def feature_variables(config: Config) -> dict[str, Callable[[State, Any], Any]]:
    """Returns "trained", "random" -> `(state, images uint8 [N, ...]) -> variables` for use as features."""
    # Compiling many random draws takes longer than drawing unless the compiler is told not to try hard.
    options = {"xla_backend_optimization_level": 0}
    untrained = jax.jit(lambda: init_variables(config, jax.random.key(0))["discriminator"], compiler_options=options)
    fixed = jax.jit(functools.partial(fixed_variables, config))
    return {
        "trained": lambda state, images: fixed(state.discriminator.params, state.discriminator.batch_stats, images),
        "random": lambda state, images: fixed(**untrained(), images=images),
    }


def fixed_variables(config: Config, params: Any, batch_stats: Any, images: jax.Array) -> dict[str, Any]:
    """Returns the discriminator's variables with the statistics of uint8 images [N, ...], for use as features.

    As in the authors' code: means over batches of the batches' means and variances, here over whole batches only.
    """
    _, discriminator = networks(config, momentum=0.0)
    size = min(config.train.batch_size, len(images))
    batches = images[: len(images) // size * size].reshape(-1, size, *images.shape[1:])

    def statistics(batch):
        return train_pass(discriminator, params, batch_stats, to_range(config, batch))[1]

    means = jax.tree.map(lambda a: a.mean(0), jax.lax.map(statistics, batches))
    return {"params": params, "batch_stats": means}


def filter_responses(config: Config, extract: Mapping[str, Callable]) -> dict[str, filters.Responses]:
    """Returns every discriminator with guided rectifiers."""
    guided = networks(config)[1].clone(activation=guided_leaky_relu)
    return {
        name: filters.Responses(
            variables=variables,
            inputs=lambda images: to_range(config, images),
            features=lambda v, inputs: guided.apply(v, inputs, train=False, method="features")[-1],
        )
        for name, variables in extract.items()
    }


def feature_evaluator(
    config: Config, extract: Mapping[str, Callable], train_images: np.ndarray, end: Mapping[str, Any]
) -> Evaluator:
    """Returns the SVM on features of the trained and of a random discriminator, and on pixels."""
    c = config.eval.features
    name = config.data.source if c.source == "same" else c.source
    splits = load_dataset(name)
    parts = []
    for split, limit in ((c.train, c.num_train), (c.test, 0)):
        table = read_split(splits, split)
        check_images(config, name, table)
        rows = read_images(config, table, ["label"], limit)
        parts.append(features.Labelled(rows["image"], rows["label"]))
    _, discriminator = networks(config)

    def pooled(variables, images):
        layers = discriminator.apply(variables, to_range(config, images), train=False, method="features")
        return features.pooled_features(layers)

    def pixels(variables, images):
        return to_range(config, images).reshape(len(images), -1)

    extractors = [
        features.Extractor("DCGAN features + L2-SVM", lambda s: extract["trained"](s, train_images), pooled),
        features.Extractor("random features + L2-SVM", lambda s: extract["random"](s, train_images), pooled),
        features.Extractor("pixels + L2-SVM", lambda s: None, pixels),
    ]
    return features.svm_table(
        extractors, *parts, name=c.name or name, grid=c.c_grid, batch_size=config.eval.batch_size, **end
    )
