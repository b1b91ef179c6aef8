"""ResNet-12 of the Synbols tables: four residual blocks of three convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import Conv, max_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_bias, torch_dense, torch_uniform


class Block(nn.Module):
    """conv-BN-ReLU-dropout twice, conv-BN, plus a 1×1 convolution of the input: [B, H, W, I] to [B, H, W, features].

    The shortcut has a bias and no normalisation. Dropout zeroes whole feature maps.
    """

    features: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        bias = torch_bias(x.shape[-1])
        shortcut = Conv(self.features, (1, 1), kernel_init=torch_uniform, bias_init=bias, name="shortcut")(x)
        for last in (False, False, True):
            x = Conv(self.features, (3, 3), padding=1, use_bias=False, kernel_init=torch_uniform)(x)
            x = BatchNorm()(x, train)
            if not last:
                x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(nn.relu(x))
        return nn.relu(x + shortcut)


class ResNet12(nn.Module):
    """Maps images float [B, H, W, C] to logits [B, num_classes]; 8,010,202 parameters for three channels, 26 classes.

    Synbols (Lacoste et al., 2020), section 4, and the released code. Every block is followed by 3×3 maximum pooling
    with stride 2 and padding 1; the head normalises the mean over places.

    Attributes:
      channels: of the blocks.
      dropout: probability that a feature map is zeroed.
    """

    num_classes: int
    channels: tuple[int, ...] = (64, 128, 256, 512)
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images
        for features in self.channels:
            x = Block(features, self.dropout)(x, train)
            x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = nn.relu(BatchNorm()(x.mean((1, 2)), train))
        return torch_dense(x, self.num_classes, dtype=jnp.float32)
