"""The variational autoencoders of Synbols: one level of latents or two, with either encoder, and one decoder.

    network = HVAE(InfoMaxEncoder(128), Decoder(512), codes=(64,))                   # a plain VAE
    posterior, output = network.apply(variables, images, key, train)
    images = network.apply(variables, z, train, method="decode")                     # of z [B, 64]

With two levels z = [z_top ‖ z_low]: the top one feeds the decoder's trunk and all its normalisations, the lower one
comes from the encoder's early map and enters the decoder's late one ("VLAE", Zhao et al., 2017; flat prior).

Source: Synbols (Lacoste et al., 2020), section 4.5, appendix B.4, and the released code, which it follows.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.layers import Conv
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.conditional_norm import ConditionalBatchNorm
from jaxrepro.layers.spectral_norm import SpectralConv
from jaxrepro.layers.torch_init import torch_bias, torch_dense, torch_uniform
from jaxrepro.models.dcgan import scale_init, weights_init

WIDTHS = (256, 128, 64)
LOW_WIDTH = 128
SLOPE = 0.2  # of the leaky ReLU


@struct.dataclass
class Posterior:
    """q(z|x): mean and log_variance, float32 [B, D]; the top level's numbers come first."""

    mean: jax.Array
    log_variance: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Returns z float32 [B, D]."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * jax.random.normal(key, self.mean.shape)


def double(x: jax.Array) -> jax.Array:
    """Returns maps [B, H, W, C] with every pixel four times, [B, 2H, 2W, C]."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


class UpBlock(nn.Module):
    """Conditional BN-ReLU, doubled, conv, conditional BN-ReLU-conv, plus the doubled input.

    Maps [B, H, W, I] and a condition [B, D] to [B, 2H, 2W, features]. All kernels are divided by their largest singular
    value, by one step of power iteration for each step of training. The input passes a 1×1 convolution where its
    channels have to change; in front of the doubling, which gives the same for a quarter of the products.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        def conv(x, size, name):
            return SpectralConv(self.features, size, weights_init, name=name)(x, train)

        h = conv(double(nn.relu(ConditionalBatchNorm()(x, condition, train))), 3, "conv1")
        h = conv(nn.relu(ConditionalBatchNorm()(h, condition, train)), 3, "conv2")
        return h + double(conv(x, 1, "shortcut") if x.shape[-1] != self.features else x)


class Decoder(nn.Module):
    """Maps latents to images float32 [B, size, size, image_channels] in [-1, 1].

    4,315,075 parameters for channels = 256 and 64 latents, 12,186,051 for 512; 2,228,480 more with a lower level.

    Attributes:
      channels: of the smallest map, size / 8 pixels a side.
      widths: of the three blocks, each of which doubles the map.
      low_width: of the map that a lower level adds in front of the last block.
      size, image_channels: of images.
    """

    channels: int
    widths: tuple[int, ...] = WIDTHS
    low_width: int = LOW_WIDTH
    size: int = 32
    image_channels: int = 3

    @nn.compact
    def __call__(self, top: jax.Array, low: jax.Array | None, train: bool) -> jax.Array:
        """Args: top: [B, D]; low: [B, D'], or None without a lower level."""
        x, side = top, self.size // 8
        for _ in range(2):
            x = nn.Dense(2 * self.channels, use_bias=False, kernel_init=torch_uniform)(x)
            x = nn.leaky_relu(BatchNorm(scale_init=scale_init)(x, train), SLOPE)
        x = torch_dense(x, side * side * self.channels).reshape(len(x), side, side, self.channels)
        for i, width in enumerate(self.widths):
            if low is not None and i == len(self.widths) - 1:
                shape = (*x.shape[:3], self.low_width)
                x = jnp.concatenate([x, torch_dense(low, shape[1] * shape[2] * shape[3]).reshape(shape)], axis=-1)
            x = UpBlock(width)(x, top, train)
        x = nn.relu(BatchNorm(scale_init=scale_init)(x, train))
        bias = torch_bias(9 * x.shape[-1])
        x = Conv(self.image_channels, 3, padding=1, kernel_init=weights_init, bias_init=bias)(x)
        return jnp.tanh(x.astype(jnp.float32))


class HVAE(nn.Module):
    """An autoencoder of one or two levels.

    Attributes:
      encoder: images to (an early map, [B, 2 codes[0]]).
      decoder: latents to images.
      codes: numbers of latents of the levels, the top one first: (64,) or (64, 64).
      normalises_low: whether the early map is normalised, with a leaky ReLU: that of the residual encoder.
    """

    encoder: nn.Module
    decoder: nn.Module
    codes: tuple[int, ...] = (64,)
    normalises_low: bool = False

    def setup(self):
        if len(self.codes) == 2:
            self.low_norm = BatchNorm(scale_init=scale_init) if self.normalises_low else None
            self.low_level = LowLevel(self.codes[1])

    def encode(self, images: jax.Array, train: bool) -> Posterior:
        """Returns q(z|x) of images float [B, H, W, C] in [-1, 1]."""
        early, output = self.encoder(images, train)
        means, log_variances = ([part] for part in jnp.split(output, 2, axis=-1))
        if len(self.codes) == 2:
            if self.low_norm is not None:
                early = nn.leaky_relu(self.low_norm(early, train), SLOPE)
            mean, log_variance = jnp.split(self.low_level(early), 2, axis=-1)
            means, log_variances = [*means, mean], [*log_variances, log_variance]
        return Posterior(jnp.concatenate(means, -1), jnp.concatenate(log_variances, -1))

    def decode(self, z: jax.Array, train: bool) -> jax.Array:
        """Returns images float32 [B, H, W, C] in [-1, 1] of latents [B, D]."""
        low = z[:, self.codes[0] :] if len(self.codes) == 2 else None
        return self.decoder(z[:, : self.codes[0]], low, train)

    def __call__(self, images: jax.Array, key: jax.Array, train: bool) -> tuple[Posterior, jax.Array]:
        """Returns (posterior, output of one sample of it)."""
        posterior = self.encode(images, train)
        return posterior, self.decode(posterior.sample(key).astype(images.dtype), train)


class LowLevel(nn.Module):
    """Maps an early map [B, H, W, C] to the lower level's means and log-variances, float32 [B, 2 features]."""

    features: int

    @nn.compact
    def __call__(self, early: jax.Array) -> jax.Array:
        return torch_dense(early.reshape(len(early), -1), 2 * self.features).astype(jnp.float32)
