"""The residual encoder of Synbols' autoencoders: pre-activation blocks that shrink by mean pooling, as BigGAN's critic.

    low, output = ResidualEncoder(128)(images, train)        # [B, 16, 16, 128], float32 [B, 128] for 32×32 pixels

Source: the released code of Synbols (Lacoste et al., 2020), five blocks; the paper, appendix B.4, speaks of three.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import Conv, avg_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_dense, torch_uniform
from jaxrepro.models.dcgan import scale_init, weights_init

WIDTHS = (128, 128, 256)
BLOCKS = (2, 1, 2)
HIDDEN = 512
SLOPE = 0.2  # of the leaky ReLU


class DownBlock(nn.Module):
    """BN-ReLU-conv, BN-ReLU-dropout-conv, plus the input; both are pooled after their convolutions.

    Maps [B, H, W, I] to [B, H, W, features], or half of H and W. The input passes a 1×1 convolution where its channels
    have to change. Dropout takes whole maps.
    """

    features: int
    halves: bool
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(x, size, name):
            return Conv(self.features, size, padding=size // 2, use_bias=False, kernel_init=weights_init, name=name)(x)

        shortcut = conv(x, 1, "shortcut") if x.shape[-1] != self.features else x
        h = conv(nn.relu(BatchNorm(scale_init=scale_init)(x, train)), 3, "conv1")
        h = nn.relu(BatchNorm(scale_init=scale_init)(h, train))
        h = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(h)
        h = shortcut + conv(h, 3, "conv2")
        return avg_pool(h, (2, 2), (2, 2)) if self.halves else h


class ResidualEncoder(nn.Module):
    """Three groups of blocks, each of which halves the map once, then two dense layers.

    Maps images float [B, H, W, C], H and W multiples of 8, to (output of the first group, float32 [B, features]).
    5,005,702 parameters for 32×32×3 pixels and 128 features. The first normalisation and ReLU act on the pixels.

    Attributes:
      features: of the output, which has no activation.
      widths, blocks: channels and number of blocks of every group.
      hidden: of the first dense layer.
      dropout: probability that a map inside a block is zeroed.
    """

    features: int
    widths: tuple[int, ...] = WIDTHS
    blocks: tuple[int, ...] = BLOCKS
    hidden: int = HIDDEN
    dropout: float = 0.3

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        def normalised(x):
            return nn.leaky_relu(BatchNorm(scale_init=scale_init)(x, train), SLOPE)

        x, groups = images, []
        for width, num_blocks in zip(self.widths, self.blocks, strict=True):
            for i in range(num_blocks):
                x = DownBlock(width, i == 0, self.dropout)(x, train)
            groups.append(x)
        x = normalised(x).reshape(len(x), -1)
        x = normalised(nn.Dense(self.hidden, use_bias=False, kernel_init=torch_uniform)(x))
        return groups[0], torch_dense(x, self.features).astype(jnp.float32)
