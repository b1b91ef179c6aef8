"""FCN8: VGG-16 as a fully convolutional network with skips from its third and fourth pooling.

    model = FCN8(num_outputs=2)                                        # 134,271,430 parameters
    params = model.init(key, jnp.zeros((1, 128, 128, 3)), False)["params"]
    logits = model.apply({"params": params}, images, True, rngs={"dropout": key})     # float32 [B, 128, 128, 2]

Layers of VGG-16 have the names and shapes of `models.vgg.VGG16`, so that its weights fit. The first convolution pads by
100 pixels: 86 % of the arithmetic would be that of a constant border, which is left out exactly, see
`layers.constant_border`; `padding=1` has no border and centred crops, another network.

Source: Long, Shelhamer & Darrell, "Fully convolutional networks" (2015), in the form that Synbols (Lacoste et al.,
2020) counts with. A transposed convolution has the flipped kernel of PyTorch's, which matters to trained weights only.
"""

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers import Conv, ConvTranspose, conv2d
from jaxrepro.layers.constant_border import Bordered, bordered, conv_block
from jaxrepro.models.vgg import BLOCKS, DENSE_NAMES, HIDDEN, POOLED, he_normal

WIDE, NARROW = 100, 1  # paddings of the first convolution
NUM_BLOCKS = len(BLOCKS)
# Where the second of two maps that are added begins in the first, and where the image begins in the last map.
SKIP_CROPS, IMAGE_CROP = {WIDE: ((0, 5), (0, 9)), NARROW: ((1, 0), (1, 0))}, {WIDE: 31, NARROW: 4}


class FCN8(nn.Module):
    """Maps images float [B, N, N, 3] to float32 [B, N, N, num_outputs], all 0 before training.

    Attributes:
      blocks: channels of the 3×3 convolutions; five blocks, pooled after each, rounding up.
      hidden_size: of the two layers that were dense, of 7×7 and 1×1 pixels.
      dropout: of both.
      padding: 100 or 1.
      shortcut: leave out the arithmetic of the constant border.
    """

    num_outputs: int = 2
    blocks: tuple[tuple[int, ...], ...] = BLOCKS
    hidden_size: int = HIDDEN
    dropout: float = 0.5
    padding: int = WIDE
    shortcut: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x: jax.Array | Bordered = images
        crops = SKIP_CROPS[self.padding]
        if self.padding == WIDE:
            x = bordered(images, WIDE - 1)  # the first convolution sees one zero more, as every other does
            x = x if self.shortcut else x.assembled()
        number, channels, pooled = itertools.count(), images.shape[-1], []
        for block in self.blocks:
            weights = []
            for features in block:
                weights.append(Weights((3, 3, channels, features), name=f"Conv_{next(number)}")())
                channels = features
            if isinstance(x, Bordered) and not x.fits(len(weights)):
                x = x.assembled()
            x = x.conv_block(weights) if isinstance(x, Bordered) else conv_block(x, weights)
            pooled.append(x)
        pool3, pool4, x = (y.assembled() if isinstance(y, Bordered) else y for y in pooled[2:])
        for i, (window, _) in enumerate(zip((POOLED, 1), DENSE_NAMES, strict=True)):
            kernel, bias = Weights((window**2 * x.shape[-1], self.hidden_size), name=f"Dense_{i}")()
            kernel = kernel.reshape(window, window, -1, self.hidden_size)
            x = nn.relu(conv2d(x, kernel, padding="VALID" if self.padding == WIDE else window // 2) + bias)
            x = nn.Dropout(self.dropout, name=f"Dropout_{i}")(x, deterministic=not train)
        x = self._upsampled("up", 4, 2, self._score("score", x))
        x = _add_cropped(x, self._score("score_pool4", pool4), *crops[0])
        x = _add_cropped(self._upsampled("up_pool4", 4, 2, x), self._score("score_pool3", pool3), *crops[1])
        x = self._upsampled("up_pool3", 16, 8, x)
        low, side = IMAGE_CROP[self.padding], images.shape[1]
        return x[:, low : low + side, low : low + side]

    def _score(self, name: str, x: jax.Array) -> jax.Array:
        zeros = nn.initializers.zeros_init()
        return Conv(self.num_outputs, (1, 1), kernel_init=zeros, dtype=jnp.float32, name=name)(x)

    def _upsampled(self, name: str, size: int, stride: int, x: jax.Array) -> jax.Array:
        options = {"use_bias": False, "kernel_init": bilinear, "dtype": jnp.float32, "name": name}
        return ConvTranspose(self.num_outputs, (size, size), stride, "VALID", **options)(x)


class Weights(nn.Module):
    """The parameters of a convolution or dense layer, "kernel" of a shape and "bias" [shape[-1]]."""

    shape: Sequence[int]

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        bias = self.param("bias", nn.initializers.zeros_init(), self.shape[-1:])
        return self.param("kernel", he_normal, tuple(self.shape)), bias


def bilinear(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Returns a kernel [k, k, C, C] that interpolates linearly and keeps channels apart; 4: ¼ ¾ ¾ ¼ each way."""
    size, _, channels, _ = shape
    factor = (size + 1) // 2
    line = 1 - np.abs(np.arange(size) - (factor - 0.5)) / factor
    return jnp.asarray(np.outer(line, line)[:, :, None, None] * np.eye(channels), dtype)


def _add_cropped(a: jax.Array, b: jax.Array, first: int, second: int) -> jax.Array:
    """Returns the sum of two maps from rows and columns `first` of one and `second` of the other, as far as both go."""
    size = min(a.shape[1] - first, b.shape[1] - second)
    a, b = (x[:, low : low + size, low : low + size] for x, low in ((a, first), (b, second)))
    return a + b
