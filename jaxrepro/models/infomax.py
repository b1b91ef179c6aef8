"""Deep InfoMax: an encoder without padding, and discriminators of pairs of a feature map and a code.

    network = DeepInfoMax(InfoMaxEncoder(64))
    maps, codes = network.apply(variables, images, train, method="encode")
    matched, mismatched = network.apply(variables, maps, codes, method="pairs")["local"]

A code y_i is matched with the map M_i of its own image and mismatched with that of the next one in the batch.

Source: Hjelm et al., "Learning deep representations by mutual information estimation and maximization" (ICLR 2019), as
in the released code of Synbols (Lacoste et al., 2020), section 4.5.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import Conv
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_bias, torch_dense, torch_uniform

CHANNELS = (64, 128, 256, 512)
KERNEL = 4


class InfoMaxEncoder(nn.Module):
    """Four 4×4 convolutions without padding, then one dense layer; the map after the second is an output too.

    Maps images float [B, H, W, C], at least 16 pixels a side, to (maps [B, H - 6, W - 6, channels[1]], float32
    [B, features]). 15,865,600 parameters for 32×32×3 pixels and 64 features.

    Attributes:
      features: of the output, which has no activation.
      channels: of the convolutions; the first one is not normalised.
      kernel_init, scale_init: of convolutions and of normalisation.
    """

    features: int
    channels: tuple[int, ...] = CHANNELS
    kernel_init: Callable = torch_uniform
    scale_init: Callable = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        x, maps = images, []
        for i, features in enumerate(self.channels):
            bias = torch_bias(KERNEL**2 * x.shape[-1])
            x = Conv(features, KERNEL, padding="VALID", kernel_init=self.kernel_init, bias_init=bias)(x)
            x = nn.relu(BatchNorm(scale_init=self.scale_init)(x, train) if i else x)
            maps.append(x)
        return maps[1], torch_dense(x.reshape(len(x), -1), self.features).astype(jnp.float32)


class PairScores(nn.Module):
    """The perceptron that scores pairs [x ‖ y]: what depends on x alone is computed once for several sets of y.

    Attributes:
      hidden: of both hidden layers, ReLU behind each.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, *codes: jax.Array) -> tuple[jax.Array, ...]:
        """Returns the raw scores float32 [B, ...] of x [B, ..., C] with each set of codes [B, D]."""
        width, fan_in = x.shape[-1], x.shape[-1] + codes[0].shape[-1]
        kernel = self.param("kernel", torch_uniform, (fan_in, self.hidden)).astype(x.dtype)
        bias = self.param("bias", torch_bias(fan_in), (self.hidden,)).astype(x.dtype)
        second = nn.Dense(self.hidden, kernel_init=torch_uniform, bias_init=torch_bias(self.hidden))
        last = nn.Dense(1, dtype=jnp.float32, kernel_init=torch_uniform, bias_init=torch_bias(self.hidden))
        of_x, scores = x @ kernel[:width], []
        for y in codes:
            of_y = y.astype(x.dtype) @ kernel[width:] + bias
            h = nn.relu(of_x + of_y.reshape(len(y), *(1,) * (x.ndim - 2), -1))
            scores.append(last(nn.relu(second(h)))[..., 0])
        return tuple(scores)


class GlobalDiscriminator(nn.Module):
    """Scores a whole map with a code: two 3×3 convolutions without padding, then `PairScores`.

    Maps [B, h, w, C] and sets of codes [B, D] to a tuple of scores float32 [B].
    """

    channels: tuple[int, int]
    hidden: int

    @nn.compact
    def __call__(self, maps: jax.Array, *codes: jax.Array) -> tuple[jax.Array, ...]:
        x = maps
        for i, features in enumerate(self.channels):  # no activation after the second, as released
            bias = torch_bias(9 * x.shape[-1])
            x = Conv(features, 3, padding="VALID", kernel_init=torch_uniform, bias_init=bias)(nn.relu(x) if i else x)
        return PairScores(self.hidden)(x.reshape(len(x), -1), *codes)


class PriorDiscriminator(nn.Module):
    """Tells codes from the uniform prior: float [B, D] to logits float32 [B], positive for the prior."""

    hidden: tuple[int, int]

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        x = codes
        for features in self.hidden:
            x = nn.relu(torch_dense(x, features))
        return torch_dense(x, 1, dtype=jnp.float32)[:, 0]


class DeepInfoMax(nn.Module):
    """The encoder and its three discriminators, 24,811,547 parameters for 32×32×3 pixels and 64 features.

    Attributes:
      encoder: images to maps and codes.
      hidden: of the local and the global discriminator.
      global_channels, prior_hidden: see the discriminators.
    """

    encoder: nn.Module
    hidden: int = 512
    global_channels: tuple[int, int] = (64, 32)
    prior_hidden: tuple[int, int] = (1000, 200)

    def setup(self):
        self.local_discriminator = PairScores(self.hidden)
        self.global_discriminator = GlobalDiscriminator(self.global_channels, self.hidden)
        self.prior_discriminator = PriorDiscriminator(self.prior_hidden)

    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns (maps, codes); calls every part, for initial values."""
        maps, codes = self.encode(images, train)
        self.pairs(maps, codes)
        self.prior(codes)
        return maps, codes

    def encode(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns (maps [B, h, w, C], codes float32 [B, D])."""
        return self.encoder(images, train)

    def pairs(self, maps: jax.Array, codes: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns "local" [B, h, w] and "global" [B]: scores T(y_i, M_i) and T(y_i, M_i+1), float32.

        Maps pass once: the code is shifted against them, not they against the code, and the result is put back.
        """
        shifted = jnp.roll(codes, 1, axis=0)
        found = {
            "local": self.local_discriminator(maps, codes, shifted),
            "global": self.global_discriminator(maps, codes, shifted),
        }
        return {name: (own, jnp.roll(other, -1, axis=0)) for name, (own, other) in found.items()}

    def prior(self, codes: jax.Array) -> jax.Array:
        """Returns the logits of the prior's discriminator, float32 [B]."""
        return self.prior_discriminator(codes)
