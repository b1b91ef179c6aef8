"""Conv4: four convolutions and a linear head, on the flattened map ("Flat") or on its mean ("GAP").

    Conv4(26, head="gap")                                          # as executed: 32, 64, 128, 256 channels and strides
    Conv4(26, head="flat", channels=(64,) * 4, max_pooling=True)   # as the paper's text has it

Synbols (Lacoste et al., 2020), section 4, and the released code, which differ in widths and in how maps shrink; the
published accuracies come from the code's. Stated parameter counts (138k, 112k) are those of the text's version.
"""

from enum import StrEnum

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import Conv, max_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_dense, torch_uniform
from jaxrepro.models.mlp import SLOPE

CHANNELS = (32, 64, 128, 256)


class Conv4Head(StrEnum):
    FLAT = "flat"
    GAP = "gap"


class Conv4(nn.Module):
    """Maps images float [B, H, W, C] to logits [B, num_classes].

    For 32×32×3 and 26 classes 495,418 (flat) or 395,578 (GAP) parameters.

    Attributes:
      head: what the linear layer sees: every place of the last map, or the mean over places.
      channels: of the four convolutions.
      max_pooling: shrink maps by 2×2 maximum pooling behind a convolution instead of by its stride.
    """

    num_classes: int
    head: Conv4Head = Conv4Head.GAP
    channels: tuple[int, ...] = CHANNELS
    max_pooling: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images
        for features, stride in zip(self.channels, strides_of(min(images.shape[1:3])), strict=True):
            step = 1 if self.max_pooling else stride
            x = Conv(features, (3, 3), step, padding=1, use_bias=False, kernel_init=torch_uniform)(x)
            x = nn.leaky_relu(BatchNorm()(x, train), SLOPE)
            if self.max_pooling and stride > 1:
                x = max_pool(x, (2, 2), (2, 2))
        x = x.mean((1, 2)) if self.head == Conv4Head.GAP else x.reshape(len(x), -1)
        return torch_dense(x, self.num_classes, dtype=jnp.float32)


def strides_of(size: int) -> tuple[int, int, int, int]:
    """Returns the strides of the four convolutions for images with this shorter side, in pixels.

    They take 32 pixels to 4. Source: the released code; not in the paper.
    """
    for smallest, strides in ((64, (2, 2, 2, 2)), (32, (1, 2, 2, 2)), (16, (1, 2, 2, 1)), (8, (1, 2, 1, 1))):
        if size >= smallest:
            return strides
    return 1, 1, 1, 1
