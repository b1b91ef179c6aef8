"""WRN-28-4: a wide residual network with normalisation in front of every convolution.

Zagoruyko & Komodakis, "Wide Residual Networks" (2016), as in the released code of Synbols (Lacoste et al., 2020). The
paper lists group widths of 32, 64 and 128 before the factor 4; its 5.8M parameters are those of 16, 32 and 64.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import Conv
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_dense, torch_uniform

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # N(0, 2 / fan-in)
GROUPS = (16, 32, 64)


class Block(nn.Module):
    """BN-ReLU-conv, BN-ReLU-dropout-conv, plus the input: [B, H, W, I] to [B, H / strides, W / strides, features].

    The input passes through a 1×1 convolution, before any normalisation, where its channels have to change.
    """

    features: int
    strides: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = Conv(self.features, (1, 1), self.strides, padding=0, use_bias=False, kernel_init=he_normal,
                            name="shortcut")(x)  # fmt: skip
        x = nn.relu(BatchNorm()(x, train))
        x = Conv(self.features, (3, 3), self.strides, padding=1, use_bias=False, kernel_init=he_normal)(x)
        x = nn.relu(BatchNorm()(x, train))
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        return shortcut + Conv(self.features, (3, 3), padding=1, use_bias=False, kernel_init=he_normal)(x)


class WideResNet(nn.Module):
    """Maps images float [B, H, W, C] to logits [B, num_classes]; 5,853,162 parameters for three channels, 26 classes.

    Attributes:
      width: factor of the channels of the three groups.
      blocks_per_group: the depth is 6 times this plus 4.
      dropout: probability that a feature map inside a block is zeroed.
    """

    num_classes: int
    width: int = 4
    blocks_per_group: int = 4
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        # The code replaces the first convolution for images with one channel, and leaves the new one's default values.
        init = he_normal if images.shape[-1] == 3 else torch_uniform
        x = Conv(GROUPS[0], (3, 3), padding=1, use_bias=False, kernel_init=init)(images)
        for i, features in enumerate(GROUPS):
            for j in range(self.blocks_per_group):
                x = Block(self.width * features, 2 if i > 0 and j == 0 else 1, self.dropout)(x, train)
        x = nn.relu(BatchNorm()(x, train)).mean((1, 2))
        return torch_dense(x, self.num_classes, kernel_init=he_normal, dtype=jnp.float32)
