"""What the ten networks of the MNIST-scale table share: three stages of convolution and pooling, then two dense layers.

    return apply_frame(Frame(), images, train, conv=lambda features: Conv(features, (7, 7)))

A method replaces the convolution; some also lift the image or project the features of the last stage. In a stage the
order is convolution, ReLU, pooling, normalisation. Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020),
section 6.1 and the released code; initial values are PyTorch's defaults, which that code leaves in place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import max_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_bias, torch_dense, torch_uniform

KERNEL = 7  # side of every method's kernels in pixels, of its unscaled ones


@dataclass(frozen=True)
class Frame:
    """What a method may choose of the frame.

    Attributes:
      resolution: 28 or 56; the images are enlarged to it first.
      channels: features of the three stages.
      hidden: width of the dense layer.
      dropout: probability that a hidden unit is dropped in training.
    """

    resolution: int = 28
    channels: tuple[int, ...] = (32, 63, 95)
    hidden: int = 256
    dropout: float = 0.7


def same(x: jax.Array) -> jax.Array:
    return x


def upsample(images: jax.Array, resolution: int) -> jax.Array:
    """Returns images [B, 28, 28, C] enlarged to [B, resolution, resolution, C], each pixel repeated (nearest)."""
    factor = resolution // images.shape[1]
    return images.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else images


def pool(x: jax.Array) -> jax.Array:
    """Halves height and width by the maximum of 2×2 pixels."""
    return max_pool(x, (2, 2), (2, 2))


def last_pool(x: jax.Array, resolution: int) -> jax.Array:
    """Pools the last stage to 2×2: windows of 4 at 28 and of 8 at 56, after padding by 2.

    At 28 the windows start at -2 and 2, so the last row and column of the 7×7 map are never read, as in the original.
    """
    window = (resolution // 7,) * 2
    return max_pool(x, window, window, ((2, 2), (2, 2)))


class Observed(nn.Module):
    """Leaves the features of a stage [B, h, w, C] in the collection "intermediates", where that is mutable."""

    @nn.compact
    def __call__(self, x: jax.Array) -> None:
        self.sow("intermediates", "features", x)


class Head(nn.Module):
    """Dense layer, normalisation, ReLU, dropout, and ten logits: float [B, ...] to float32 [B, 10].

    Attributes:
      hidden: width of the first layer.
      dropout: probability that a hidden unit is dropped in training.
      use_bias: of the first layer; the normalisation behind it makes it redundant.
    """

    hidden: int = 256
    dropout: float = 0.7
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.reshape(len(x), -1)
        bias = torch_bias(x.shape[-1])
        x = nn.Dense(self.hidden, use_bias=self.use_bias, kernel_init=torch_uniform, bias_init=bias)(x)
        x = nn.relu(BatchNorm()(x, train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return torch_dense(x, 10, dtype=jnp.float32)


def apply_frame(
    frame: Frame,
    images: jax.Array,
    train: bool,
    *,
    conv: Callable[[int], Callable[[jax.Array], jax.Array]],
    lift: Callable[[jax.Array], jax.Array] = same,
    project: Callable[[jax.Array], jax.Array] = same,
    last_norm: bool = True,
    head_bias: bool = False,
) -> jax.Array:
    """Applies the shared frame; to be called inside a compact Linen method.

    Args:
      images: float [B, 28, 28, 1], normalised.
      train: whether batch statistics and dropout are in use.
      conv: number of features -> the layer of a stage, [., h, w, C] to [., h, w, features] (or a multiple of them).
      lift: applied to the enlarged images.
      project: applied to the features [., 2, 2, .] of the last stage; gives [B, 2, 2, C]. The maps that `Observed`
        keeps, before pooling, are projected too.
      last_norm: whether the last stage is normalised.
      head_bias: of `Head`.

    Returns:
      Logits float32 [B, 10].
    """
    x = lift(upsample(images, frame.resolution))
    for i, features in enumerate(frame.channels):
        last = i == len(frame.channels) - 1
        x = conv(features)(x)
        Observed(name=f"stage_{i + 1}")(nn.relu(project(x)))
        x = nn.relu(last_pool(x, frame.resolution) if last else pool(x))  # ReLU and maximum commute: less to rectify
        if last_norm or not last:
            x = BatchNorm()(x, train)
    return Head(frame.hidden, frame.dropout, head_bias)(project(x), train)
