"""YOTO on the beta-VAE: one conditional model for a whole range of loss weights, and fixed-weight baselines.

    python launch.py --config=configs/yoto_cifar.py:smoke

Each training example draws its own beta, log-uniform; the network sees log beta. A run may train fixed-weight models
beside the conditional one, in the same program and on the same batches (`config.beta.baselines`): its state is a dict
of members, one of them conditional.

Source: Dosovitskiy & Djolonga, "You Only Train Once: Loss-Conditional Training of Deep Networks" (ICLR 2020) and the
released code; for preset `report` the public code of a reproduction, which is not what its text says.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.config import OptimConfig, RunConfig
from jaxrepro.data import load_dataset, make_source, read_split
from jaxrepro.data.augment import CropFlipConfig, random_crop_flip
from jaxrepro.data.dataset import notes_of
from jaxrepro.data.splits import ordered_by
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError, check
from jaxrepro.evaluators import beta_grid
from jaxrepro.experiment import Experiment, When
from jaxrepro.losses import vae as losses
from jaxrepro.models.conv_vae import Conditioning, ConvVAE, Layout, Likelihood, VAEConfig, output_mean, positive
from jaxrepro.models.report_vae import ReportVAE
from jaxrepro.training.loss_weights import BetaConfig, KLConfig, kl_of, sample_beta
from jaxrepro.training.members import Member, ends_epoch, member_metrics, members
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.precision import apply_in

# With config.parallel.model_axis > 1 the columns of the widest layers, and their optimizer state, are split.
SHARDING_RULES = ((r".*/(encoder_hidden|decoder_hidden|decoder_input)/kernel", (None, "model")),)


@dataclass(frozen=True)
class Config(RunConfig):
    """YOTO on the beta-VAE.

    Attributes:
      model: the VAE.
      kl: the KL term.
      beta: its weights.
      augment: of training images.
      resize: images of another size than model.image_shape are scaled to it, bilinear without antialias.
      order_by: columns of the data whose order is that of the rows before splits are cut, () for the source's own.
      log_last_batches: also log the losses of the last batch of every epoch, which the report's figure 1a shows.
    """

    model: VAEConfig = VAEConfig()
    kl: KLConfig = KLConfig()
    beta: BetaConfig = BetaConfig()
    augment: CropFlipConfig = CropFlipConfig()
    resize: bool = False
    order_by: tuple[str, ...] = ()
    log_last_batches: bool = False

    def __post_init__(self):
        super().__post_init__()
        height = self.model.image_shape[0]
        resize = self.augment.resize
        check(resize == 0 or resize >= height, f"augment.resize is {resize}; it must be 0 or at least {height}")
        right = self.model.layout == Layout.REPORT or not self.kl.squared_head
        check(right, "kl.squared_head needs model.layout='report', whose head stands for log(std^2)")


def make_model(config: Config, beta: float) -> ConvVAE | ReportVAE:
    """Returns the conditional network (beta = 0), or the same network without conditioning."""
    model = config.model if beta == 0 else dataclasses.replace(config.model, conditioning=Conditioning.NONE)
    return (ReportVAE if model.layout == Layout.REPORT else ConvVAE)(model)


def optim_of(config: Config, beta: float) -> OptimConfig:
    """Returns the optimizer of a member: patterns of FiLM's parameters are dropped where there is no FiLM."""
    conditioning = config.model.conditioning if beta == 0 else Conditioning.NONE
    if conditioning == Conditioning.FILM:
        return config.optim
    return dataclasses.replace(config.optim, no_decay=tuple(p for p in config.optim.no_decay if "FiLM" not in p))


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters of every member."""
    images = jnp.zeros((1, *config.model.image_shape))
    return {
        name: make_model(config, beta).init(jax.random.fold_in(key, i), images, jnp.ones(1), key)["params"]
        for i, (name, beta) in enumerate(members(config.beta).items())
    }


def prepare(config: Config, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns uint8 images [B, H, W, C] in the model's range, [-1, 1] (Gaussian likelihood) or [0, 1] (Bernoulli);
    augmented where a key is given.
    """
    images = images.astype(jnp.float32) / 255
    if config.resize:
        images = jax.image.resize(images, (len(images), *config.model.image_shape), "bilinear", antialias=False)
    if key is not None:
        images = random_crop_flip(config.augment, key, images)
    return 2 * images - 1 if config.model.likelihood == Likelihood.GAUSSIAN else images


def elbo_terms(
    config: Config, model: ConvVAE | ReportVAE, params: Any, images: jax.Array, beta: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """Returns {"reconstruction", "kl"}, nats per image [B], for one posterior sample.

    Args:
      images: float32 [B, H, W, C] in the model's range.
      beta: float32 [B], what the network is conditioned on.
    """
    posterior, output = apply_in(config.precision, model, {"params": params}, images, beta, key)
    if config.model.likelihood == Likelihood.BERNOULLI:
        reconstruction = losses.bernoulli_nll(images, output)
    else:
        mean, raw = jnp.split(output, 2, axis=-1)
        reconstruction = losses.gaussian_nll(images, mean, positive(raw))
    return {"reconstruction": reconstruction, "kl": kl_of(config.kl, posterior.mean, posterior.std, posterior.head)}


def loss(
    config: Config, model: ConvVAE | ReportVAE, params: Any, images: jax.Array, beta: jax.Array, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (mean over the batch of reconstruction_i + beta_i KL_i, {"loss", "reconstruction", "kl"} [B])."""
    terms = elbo_terms(config, model, params, images, beta, key)
    total = terms["reconstruction"] + beta * terms["kl"]
    return total.mean(), {"loss": total, **terms}


def build(config: Config) -> Experiment:
    """Returns the experiment: data, the update of all members, and the evaluation over the beta grid."""
    smoke = f"python launch.py --config=configs/{config.name}.py:smoke"
    splits = load_dataset(config.data.source, smoke_command=smoke)
    if config.order_by:
        splits = {name: ordered_by(table, config.order_by) for name, table in splits.items()}
    train, test = read_split(splits, config.data.train), read_split(splits, config.data.test)
    check_images(config, train)
    source, draw = make_source(
        train, config.train.batch_size, columns=("image",), resident_limit_mb=config.data.resident_limit_mb
    )
    total = num_steps(config.train.duration, steps_per_epoch=source.steps_per_epoch)
    betas = members(config.beta)
    models = {name: make_model(config, beta) for name, beta in betas.items()}
    optimizers = {
        name: make_optimizer(optim_of(config, beta), total, source.steps_per_epoch) for name, beta in betas.items()
    }

    def init(context, given):
        params = init_params(config, context.key)
        return {name: Member(p, optimizers[name].init(p)) for name, p in params.items()}

    def update(state: Mapping[str, Member], batch, context):
        augment_key, beta_key, sample_key = jax.random.split(context.key, 3)
        images = prepare(config, batch["image"], augment_key)
        drawn = sample_beta(config.beta, beta_key, len(images))
        rate = next(iter(optimizers.values())).rate(context.step)
        new, found = {}, {}
        for name, member in state.items():
            beta = jnp.full_like(drawn, betas[name]) if betas[name] else drawn
            gradient = jax.grad(functools.partial(loss, config, models[name]), has_aux=True)
            grads, found[name] = gradient(member.params, images, beta, sample_key)
            new[name] = Member(*optimizers[name].descend(grads, member.opt_state, member.params, rate))
        is_last = ends_epoch(context.step, source.steps_per_epoch, total) if config.log_last_batches else None
        metrics = member_metrics({n: found[n] for n in models}, is_last)
        return new, metrics | {"learning_rate": rate}

    evaluator = beta_grid.beta_grid(
        [view(config, name) for name in models],
        evaluation_images(config, test),
        split="test",
        when=When(num_steps(config.eval.every, steps_per_epoch=source.steps_per_epoch, total=total), end=True),
        grid=config.beta.grid,
        pictured=config.beta.pictured,
        batch_size=config.eval.batch_size,
        facts=facts_of(config, train.num_rows, test.num_rows),
    )
    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=update,
        evaluators=(evaluator,),
        sharding_rules=SHARDING_RULES,
        notes=notes_of((train, test)),
    )


def check_images(config: Config, table: Any) -> None:
    """Raises UserError unless the images of a table are what the model takes, or can be scaled to it."""
    shape, wanted = tuple(table.columns["image"].shape), config.model.image_shape
    if shape[2] != wanted[2] or not (config.resize or shape == wanted):
        raise UserError(f"{config.data.source} has images {shape}; config.model.image_shape is {wanted}")


def facts_of(config: Config, num_train: int, num_test: int) -> dict[str, Any]:
    """Returns what the numbers of a run were measured on, for the comparison with published ones."""
    return {
        "num_train": num_train,
        "num_test": min(num_test, config.eval.num_examples or num_test),
        "likelihood": str(config.model.likelihood),
        "kl": f"{config.kl.reduction} over latents" + ", squared head" * config.kl.squared_head,
    }


def evaluation_images(config: Config, table: Any) -> np.ndarray:
    """Returns the test images uint8 [N, H, W, C], at most `config.eval.num_examples`."""
    num = min(config.eval.num_examples or table.num_rows, table.num_rows)
    return table.take(np.arange(num))["image"]


def view(config: Config, name: str) -> beta_grid.Model:
    """Returns a member as the evaluator sees it: uint8 images in and out."""
    beta = members(config.beta)[name]
    model = make_model(config, beta)
    apply = functools.partial(apply_in, config.precision, model)

    def to_uint8(images):
        unit = (images + 1) / 2 if config.model.likelihood == Likelihood.GAUSSIAN else images
        return jnp.round(jnp.clip(unit, 0, 1) * 255).astype(jnp.uint8)

    def mean_of(output):
        return to_uint8(output_mean(config.model, output))

    def terms(params, images, beta, key):
        return elbo_terms(config, model, params, prepare(config, images), beta, key)

    def reconstruct(params, images, beta):
        posterior = apply({"params": params}, prepare(config, images), beta, method="encode")
        return mean_of(apply({"params": params}, posterior.mean, beta, method="decode"))

    def sample(params, beta, key):
        z = jax.random.normal(key, (len(beta), config.model.latent))
        return mean_of(apply({"params": params}, z, beta, method="decode"))

    return beta_grid.Model(
        label=f"fixed beta={beta:g} {config.model.width}x" if beta else f"YOTO {config.model.width}x",
        beta=beta,
        params=lambda state: state[name].params,
        shown=lambda images: to_uint8(prepare(config, images)),
        terms=terms,
        reconstruct=reconstruct,
        sample=sample,
    )
