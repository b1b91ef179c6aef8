"""The networks of Synbols' few-shot methods: a small convolutional encoder and what stands on it.

    features = Encoder()(images, train)                         # [B, 32, 32, 3] to [B, 256]
    logits = Learner(5)(images, train)                          # of MAML
    scores = RelationModule()(support, queries)                 # [S, D], [Q, D] to [Q, S]

Source: Synbols (Lacoste et al., 2020), section 4 ("4-layer CNN"), and the released code for what it leaves out: biases,
PyTorch's initial values, and the relation module on vectors, where the article on relation networks has convolutions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import Conv, max_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_bias, torch_dense, torch_uniform
from jaxrepro.models.mlp import SLOPE

CHANNELS = (64, 64, 64, 64)
RELATION_HIDDEN = (32, 32, 32)


class Encoder(nn.Module):
    """Convolution, batch normalisation, ReLU and 2×2 maximum, once per entry of `channels`.

    Maps float [B, H, W, C] to [B, D], D = 256 for 32×32 pixels (113,088 parameters for colour images); maps of one
    pixel are not pooled.

    Attributes:
      momentum: of the running statistics; 0 leaves those of the last batch.
    """

    channels: tuple[int, ...] = CHANNELS
    momentum: float = 0.9

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images
        for features in self.channels:
            bias = torch_bias(9 * x.shape[-1])
            x = Conv(features, (3, 3), padding=1, kernel_init=torch_uniform, bias_init=bias)(x)
            x = nn.relu(BatchNorm(self.momentum)(x, train))
            if min(x.shape[1:3]) > 1:
                x = max_pool(x, (2, 2), (2, 2))
        return x.reshape(len(x), -1)


class Learner(nn.Module):
    """The encoder and a linear layer: float [B, H, W, C] to logits [B, ways]; 114,373 parameters for five ways."""

    ways: int
    channels: tuple[int, ...] = CHANNELS
    momentum: float = 0.9

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return torch_dense(Encoder(self.channels, self.momentum)(images, train), self.ways)


class RelationModule(nn.Module):
    """Scores every pair of a support and a query vector: [S, D] and [Q, D] to [Q, S]; no bound, about 1 for one class.

    Of the pair's vectors, support in front, 18,561 parameters for D = 256.
    """

    hidden: tuple[int, ...] = RELATION_HIDDEN

    @nn.compact
    def __call__(self, support: jax.Array, queries: jax.Array) -> jax.Array:
        shape = (len(queries), *support.shape)
        x = jnp.concatenate([jnp.broadcast_to(support, shape), jnp.broadcast_to(queries[:, None], shape)], -1)
        for features in self.hidden:
            x = nn.leaky_relu(torch_dense(x, features), SLOPE)
        return torch_dense(x, 1)[..., 0]


class RelationNet(nn.Module):
    """The encoder and the relation module under one set of parameters, 131,649 for 32×32×3 pixels."""

    channels: tuple[int, ...] = CHANNELS

    def setup(self):
        self.encoder = Encoder(self.channels)
        self.relation = RelationModule()

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Returns float [B, B], every image as a query against every image; for initial values."""
        features = self.encoder(images, train)
        return self.relation(features, features)

    def encode(self, images: jax.Array, train: bool) -> jax.Array:
        return self.encoder(images, train)

    def relate(self, support: jax.Array, queries: jax.Array) -> jax.Array:
        return self.relation(support, queries)
