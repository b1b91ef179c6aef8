"""The VAE of the reproduction report, as its public code has it; its text describes another (`conv_vae`).

model = ReportVAE(VAEConfig(layout="report", width=1, hidden=256, film="sigmoid", film_hidden=0, ...))

Source: the report's public code. Its CIFAR-10 and Shapes3D networks differ in the channels of the encoder's last
convolution (`VAEConfig.last_channels`); wider ones than 1x stand in its notebooks.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import Conv, ConvTranspose
from jaxrepro.layers.film import FiLM
from jaxrepro.layers.torch_init import torch_bias, torch_uniform, torch_uniform_transposed
from jaxrepro.models.conv_vae import Conditioning, Posterior, VAEConfig, condition_of, draw, wide

SLOPE = 0.01  # of every leaky ReLU, PyTorch's default


def modulate(config: VAEConfig, x: jax.Array, condition: jax.Array) -> jax.Array:
    """Returns x [B, H, W, C] behind a new FiLM, or as it is without conditioning; inside a compact method."""
    if config.conditioning == Conditioning.NONE:
        return x
    return FiLM(config.film_hidden, config.film_scale, config.film, torch_init=True)(x, condition)


def dense(fan_in: int, features: int) -> nn.Dense:
    """Returns a dense layer with PyTorch's default initial values."""
    return nn.Dense(features, kernel_init=torch_uniform, bias_init=torch_bias(fan_in))


class EncoderBlock(nn.Module):
    """3x3 convolutions, the first of stride 2, leaky ReLUs between them, then FiLM: [B, 2H, 2W, C] to [B, H, W, C']."""

    config: VAEConfig
    block: int

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        c = self.config
        for i in range(c.layers_per_block):
            x = nn.leaky_relu(x, SLOPE) if i else x
            last = self.block == c.num_blocks - 1 and i == c.layers_per_block - 1
            features = (c.last_channels if last else 0) or c.channels(self.block)
            init = {"kernel_init": torch_uniform, "bias_init": torch_bias(9 * x.shape[-1])}
            x = Conv(features, (3, 3), 1 if i else 2, padding=1, **init)(x)
        return modulate(c, x, condition)


class DecoderBlock(nn.Module):
    """Transposed 3x3 convolutions, the first of stride 2, the last to the channels of the next block, then FiLM.

    Maps [B, H, W, C] to [B, 2H, 2W, C']; the block of number 0 gives the output's channels.
    """

    config: VAEConfig
    block: int

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        c = self.config
        for i in range(c.layers_per_block):
            x = nn.leaky_relu(x, SLOPE) if i else x
            last = c.channels(self.block - 1) if self.block else c.output_channels
            features = last if i == c.layers_per_block - 1 else c.channels(self.block)
            init = {"kernel_init": torch_uniform_transposed, "bias_init": torch_bias(9 * features)}
            pads = (1, 1) if i else (1, 2)  # of the dilated map: padding 1, and an output padding of 1 with stride 2
            x = ConvTranspose(features, (3, 3), 1 if i else 2, padding=(pads, pads), **init)(x)
        return modulate(c, x, condition)


class ReportVAE(nn.Module):
    """Encoder and decoder of the reproduction report; the methods are those of `conv_vae.ConvVAE`."""

    config: VAEConfig

    def setup(self):
        c = self.config
        blocks = range(c.num_blocks)
        self.encoder_blocks = [EncoderBlock(c, n) for n in blocks]
        self.encoder_hidden = dense(4 * 4 * (c.last_channels or c.channels(c.num_blocks - 1)), c.hidden)
        self.encoder_output = dense(c.hidden, 2 * c.latent)
        self.mean_head = dense(2 * c.latent, c.latent)
        self.variance_head = dense(2 * c.latent, c.latent)
        self.decoder_hidden = dense(c.latent, c.hidden)
        self.decoder_input = dense(c.hidden, 4 * 4 * c.base_channels * 2 ** (c.num_blocks - 1))  # whatever the width
        self.decoder_blocks = [DecoderBlock(c, n) for n in reversed(blocks)]

    def encode(self, images: jax.Array, beta: jax.Array) -> Posterior:
        """Returns q(z|x). Args: images: float [B, H, W, C] in the model's range; beta: float32 [B]."""
        condition, x = condition_of(self.config, beta).astype(images.dtype), images
        for block in self.encoder_blocks:
            x = nn.leaky_relu(block(x, condition), SLOPE)
        x = nn.leaky_relu(self.encoder_hidden(x.reshape(len(x), -1)), SLOPE)
        x = nn.leaky_relu(self.encoder_output(x), SLOPE)
        head = wide(self.variance_head(x))
        return Posterior(wide(self.mean_head(x)), jnp.exp(head / 2), head)

    def decode(self, z: jax.Array, beta: jax.Array) -> jax.Array:
        """Returns the likelihood's raw parameters, float32 [B, H, W, output_channels], of z [B, latent], beta [B]."""
        condition = condition_of(self.config, beta).astype(z.dtype)
        x = nn.leaky_relu(self.decoder_hidden(z), SLOPE)
        x = nn.leaky_relu(self.decoder_input(x), SLOPE).reshape(len(z), 4, 4, -1)
        for n, block in enumerate(self.decoder_blocks):
            x = block(nn.leaky_relu(x, SLOPE) if n else x, condition)
        return wide(x)

    def __call__(self, images: jax.Array, beta: jax.Array, key: jax.Array) -> tuple[Posterior, jax.Array]:
        """Returns (posterior, raw output) for one posterior sample."""
        posterior = self.encode(images, beta)
        return posterior, self.decode(draw(posterior, key).astype(images.dtype), beta)
