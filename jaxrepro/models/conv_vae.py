"""The convolutional VAE of YOTO's released code, with or without a condition on the loss weights, and what it shares
with the reproduction report's (`report_vae`): the config, the condition, the posterior.

model = ConvVAE(VAEConfig())
variables = model.init(key, images, beta, key)
posterior, output = model.apply(variables, images, beta, key)
"""

from dataclasses import dataclass
from enum import StrEnum

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.errors import check
from jaxrepro.layers import Conv, ConvTranspose
from jaxrepro.layers.film import FiLM, FiLMKind


class Conditioning(StrEnum):
    """Where the condition enters: FiLM in every block, concatenated to every block's input, or to the network's."""

    FILM = "film"
    CONCAT_BLOCKS = "concat_blocks"
    CONCAT_INPUT = "concat_input"
    NONE = "none"


class Layout(StrEnum):
    """Whose network: RELEASE, `ConvVAE`; REPORT, `report_vae.ReportVAE`, as the reproduction's public code has it."""

    RELEASE = "release"
    REPORT = "report"


class Likelihood(StrEnum):
    """GAUSSIAN: mean and std per pixel and channel. BERNOULLI: one logit per pixel and channel."""

    GAUSSIAN = "gaussian"
    BERNOULLI = "bernoulli"


class ConditionInput(StrEnum):
    """LOG_WEIGHTS: log of both loss weights (2 values). REPEATED_BETA: beta in a vector of 256 (the report)."""

    LOG_WEIGHTS = "log_weights"
    REPEATED_BETA = "repeated_beta"


@dataclass(frozen=True)
class VAEConfig:
    """The VAE. Block n has width * base_channels * 2**n channels. The defaults are the released CIFAR-10 setting.

    Attributes:
      layout: whose network.
      image_shape: (height, width, channels).
      num_blocks: each halves the map, to 4×4 pixels.
      layers_per_block: convolutions.
      base_channels, width: see above; the paper varies the width.
      hidden: units of the dense layers.
      latent: numbers of a latent.
      likelihood: of the pixels.
      kernel_init: "fan_avg" or "fan_in", of the truncated normal initial kernels of the release's layout.
      last_channels: of the encoder's last convolution in the report's layout; 0 = those of its block.
      conditioning: where the condition enters; the report's layout knows FILM and NONE.
      condition_input: what the condition is.
      film, film_hidden, film_scale: see `layers.film`.
    """

    layout: Layout = Layout.RELEASE
    image_shape: tuple[int, ...] = (32, 32, 3)
    num_blocks: int = 3
    layers_per_block: int = 2
    base_channels: int = 8
    width: int = 2
    hidden: int = 512
    latent: int = 256
    likelihood: Likelihood = Likelihood.GAUSSIAN
    kernel_init: str = "fan_avg"
    last_channels: int = 0
    conditioning: Conditioning = Conditioning.FILM
    condition_input: ConditionInput = ConditionInput.LOG_WEIGHTS
    film: FiLMKind = FiLMKind.AFFINE
    film_hidden: int = 512
    film_scale: float = 0.1

    def __post_init__(self):
        for name in ("num_blocks", "layers_per_block", "base_channels", "width", "hidden", "latent"):
            check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("film_hidden", "last_channels"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must be 0 or more")
        check(len(self.image_shape) == 3, f"image_shape is {self.image_shape}; it must be (height, width, channels)")
        size = 4 * 2**self.num_blocks
        check(
            self.image_shape[:2] == (size, size),
            f"image_shape is {self.image_shape}; {self.num_blocks} blocks need ({size}, {size}, channels)",
        )
        check(self.kernel_init in ("fan_avg", "fan_in"), f"kernel_init is {self.kernel_init!r}; fan_avg or fan_in")
        if self.layout == Layout.REPORT:
            known = self.conditioning in (Conditioning.FILM, Conditioning.NONE)
            check(known, f"conditioning is {str(self.conditioning)!r}; layout='report' knows 'film' and 'none'")
        else:
            check(not self.last_channels, "last_channels needs layout='report'")

    def channels(self, block: int) -> int:
        return self.width * self.base_channels * 2**block

    @property
    def output_channels(self) -> int:
        return self.image_shape[2] * (2 if self.likelihood == Likelihood.GAUSSIAN else 1)


@struct.dataclass
class Posterior:
    """q(z|x), float32 [B, latent]: mean, std, and the head that the network gave for the latter, as it is."""

    mean: jax.Array
    std: jax.Array
    head: jax.Array


SLOPE = 0.3  # of the leaky ReLU inside the convolutional stacks
DENSE_SLOPE = 0.2  # of the leaky ReLU between dense layers
REPEATS = 256  # of beta in the report's condition
dense_init = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


def conv_init(mode: str, *, transposed: bool) -> nn.initializers.Initializer:
    """Returns the release's initial kernels [h, w, I, O]; TensorFlow takes a transposed one's fan-in from its outputs.

    mode: "fan_in" or "fan_avg".
    """
    axes = {"in_axis": -1, "out_axis": -2} if transposed else {}
    return nn.initializers.variance_scaling(2 / (1 + SLOPE**2), mode, "truncated_normal", **axes)


def condition_of(config: VAEConfig, beta: jax.Array) -> jax.Array:
    """Returns what the networks see of the loss weights (beta, 1): [B, D] from beta [B]."""
    if config.condition_input == ConditionInput.REPEATED_BETA:
        return jnp.repeat(beta[:, None], REPEATS, axis=1)
    return jnp.stack([jnp.log(beta), jnp.zeros_like(beta)], axis=-1)


def wide(x: jax.Array) -> jax.Array:
    """Returns x in at least float32: what losses are computed in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def draw(posterior: Posterior, key: jax.Array) -> jax.Array:
    """Returns one sample of every latent, float32 [B, latent]."""
    return posterior.mean + posterior.std * jax.random.normal(key, posterior.mean.shape)


def positive(raw: jax.Array) -> jax.Array:
    """Returns 1e-6 + softplus(raw): how the released code makes standard deviations."""
    return 1e-6 + nn.softplus(raw)


class Block(nn.Module):
    """`layers_per_block` 3x3 convolutions, then FiLM. The encoder halves the map first, the decoder doubles it last."""

    config: VAEConfig
    block: int
    transposed: bool

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """Args: x: [B, H, W, C]; condition: [B, D]. Returns [B, H/2, W/2, C'] or [B, 2H, 2W, C']."""
        c = self.config
        if c.conditioning == Conditioning.CONCAT_BLOCKS:
            x = append_channels(x, condition)
        layer = ConvTranspose if self.transposed else Conv
        resampling = c.layers_per_block - 1 if self.transposed else 0
        init = conv_init(c.kernel_init, transposed=self.transposed)
        for i in range(c.layers_per_block):
            strides = (2, 2) if i == resampling else (1, 1)
            x = nn.leaky_relu(x, SLOPE) if i else x
            x = layer(c.channels(self.block), (3, 3), strides, padding="SAME", kernel_init=init)(x)
        if c.conditioning == Conditioning.FILM:
            x = FiLM(c.film_hidden, c.film_scale, c.film)(x, condition)
        return x


def append_channels(x: jax.Array, condition: jax.Array) -> jax.Array:
    """Returns x [B, ..., C] with the condition [B, D], of its dtype, repeated over the map as further channels."""
    shape = (*x.shape[:-1], condition.shape[-1])
    tiled = jnp.broadcast_to(condition.reshape(len(x), *(1,) * (x.ndim - 2), -1), shape)
    return jnp.concatenate([x, tiled], axis=-1)


class ConvVAE(nn.Module):
    """Encoder and decoder of YOTO's appendix; the unconditional one is the fixed-weight baseline.

    Source: Dosovitskiy & Djolonga (ICLR 2020) and released code. All convolutions 3x3, SAME padding; non-linearity
    between the convolutions of a block and after FiLM, except after the last block of the encoder.
    """

    config: VAEConfig

    def setup(self):
        c = self.config
        blocks = range(c.num_blocks)
        self.encoder_blocks = [Block(c, n, transposed=False) for n in blocks]
        self.encoder_hidden = nn.Dense(c.hidden, kernel_init=dense_init)
        self.encoder_output = nn.Dense(2 * c.latent, kernel_init=dense_init)
        self.decoder_hidden = nn.Dense(c.hidden, kernel_init=dense_init)
        self.decoder_input = nn.Dense(4 * 4 * c.channels(c.num_blocks - 1), kernel_init=dense_init)
        self.decoder_blocks = [Block(c, n, transposed=True) for n in reversed(blocks)]
        last_init = conv_init(c.kernel_init, transposed=False)
        self.decoder_output = Conv(c.output_channels, (3, 3), padding="SAME", kernel_init=last_init)

    def encode(self, images: jax.Array, beta: jax.Array) -> Posterior:
        """Returns q(z|x). Args: images: float [B, H, W, C] in the model's range; beta: float32 [B]."""
        condition = condition_of(self.config, beta).astype(images.dtype)
        x = images
        if self.config.conditioning == Conditioning.CONCAT_INPUT:
            x = append_channels(x, condition)
        for n, block in enumerate(self.encoder_blocks):
            x = block(nn.leaky_relu(x, SLOPE) if n else x, condition)
        x = self.encoder_hidden(x.reshape(len(x), -1))
        mean, raw = jnp.split(wide(self.encoder_output(nn.leaky_relu(x, DENSE_SLOPE))), 2, axis=-1)
        return Posterior(mean, positive(raw), raw)

    def decode(self, z: jax.Array, beta: jax.Array) -> jax.Array:
        """Returns the likelihood's raw parameters, float32 [B, H, W, output_channels], of z [B, latent], beta [B]."""
        condition = condition_of(self.config, beta).astype(z.dtype)
        x = z
        if self.config.conditioning == Conditioning.CONCAT_INPUT:
            x = append_channels(x, condition)
        x = self.decoder_input(nn.leaky_relu(self.decoder_hidden(x), DENSE_SLOPE))
        x = x.reshape(len(x), 4, 4, -1)
        for block in self.decoder_blocks:
            x = nn.leaky_relu(block(x, condition), SLOPE)
        return wide(self.decoder_output(x))

    def __call__(self, images: jax.Array, beta: jax.Array, key: jax.Array) -> tuple[Posterior, jax.Array]:
        """Returns (posterior, raw output) for one posterior sample."""
        posterior = self.encode(images, beta)
        return posterior, self.decode(draw(posterior, key).astype(images.dtype), beta)


def output_mean(config: VAEConfig, output: jax.Array) -> jax.Array:
    """Returns the mean image of the likelihood, in the model's range: [B, H, W, C]."""
    if config.likelihood == Likelihood.BERNOULLI:
        return nn.sigmoid(output)
    return output[..., : config.image_shape[2]]
