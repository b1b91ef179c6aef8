"""VGG-16 without normalisation, and its ImageNet weights from a safetensors file or the Hugging Face hub.

    variables = VGG16(96).init(key, images, False)
    variables = {"params": load_vgg16("timm/vgg16.tv_in1k", variables["params"])}     # or "vgg16.safetensors"
    hidden = model.apply(variables, images, method="hidden")                          # once an image
    logits = model.apply(variables, hidden, True, method="classify", rngs={"dropout": key})   # once a sample

Simonyan & Zisserman, "Very Deep Convolutional Networks" (2015), configuration D, in the form of torchvision. Synbols
(Lacoste et al., 2020) uses it for active learning with Monte-Carlo dropout: pass `train=True` to keep dropout active;
nothing else depends on it. Nothing before the first dropout is random, so many samples share one `hidden`. Files of
both common layouts are read: torchvision's ("classifier.0.weight") and timm's ("pre_logits.fc1.weight").
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.layers import Conv, max_pool
from jaxrepro.layers.torch_init import torch_bias, torch_dense, torch_uniform
from jaxrepro.models.pretrained import read_weights

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
POOLED = 7  # rows and columns that the first dense layer sees
HIDDEN = 4096
DENSE_NAMES = (("classifier.0", "pre_logits.fc1"), ("classifier.3", "pre_logits.fc2"))


class VGG16(nn.Module):
    """Maps images float [B, H, W, 3], H and W at least 32, to logits [B, num_classes]; 134,367,066 parameters for 26.

    Attributes:
      dropout: of both hidden dense layers.
      blocks: channels of the 3×3 convolutions, pooled after each block.
      hidden_size: width of the dense layers.
    """

    num_classes: int
    dropout: float = 0.5
    blocks: tuple[tuple[int, ...], ...] = BLOCKS
    hidden_size: int = HIDDEN

    def setup(self):
        channels, blocks = 3, []
        for block in self.blocks:
            blocks.append([])
            for features in block:
                name, bias = f"Conv_{sum(map(len, blocks))}", torch_bias(9 * channels)
                layer = Conv(features, (3, 3), padding=1, kernel_init=torch_uniform, bias_init=bias, name=name)
                blocks[-1].append(layer)
                channels = features
        self.convolutions = blocks
        sizes = (POOLED**2 * channels, *(self.hidden_size for _ in DENSE_NAMES), self.num_classes)
        self.dense = [
            nn.Dense(b, kernel_init=torch_uniform, bias_init=torch_bias(a), name=f"Dense_{i}")
            for i, (a, b) in enumerate(itertools.pairwise(sizes))
        ]
        self.dropouts = [nn.Dropout(self.dropout, name=f"Dropout_{i}") for i in range(len(DENSE_NAMES))]

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return self.classify(self.hidden(images), train)

    def hidden(self, images: jax.Array) -> jax.Array:
        """Returns what the first dropout sees, float [B, hidden_size]: the part that is the same in every pass."""
        x = images
        for block in self.convolutions:
            for convolution in block:
                x = nn.relu(convolution(x))
            x = max_pool(x, (2, 2), (2, 2))
        first = self.dense[0]
        if self.is_initializing() or x.shape[1] * x.shape[2] >= POOLED**2:
            return nn.relu(first(adaptive_avg_pool(x, POOLED).reshape(len(x), -1)))
        params = first.variables["params"]
        return nn.relu(x.reshape(len(x), -1) @ fold_pooling(params["kernel"], x.shape[1:3]) + params["bias"])

    def classify(self, hidden: jax.Array, train: bool) -> jax.Array:
        """Returns logits [B, num_classes] of what `hidden` returned."""
        x = hidden
        for dropout, dense in zip(self.dropouts, self.dense[1:], strict=True):
            x = dropout(x, deterministic=not train)
            x = dense(x) if dense is self.dense[-1] else nn.relu(dense(x))
        return x


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Returns float [B, H, W, C] as [B, size, size, C], each place the mean of its share of the map.

    The shares are those of PyTorch's AdaptiveAvgPool2d: place i takes rows floor(i H / size) to ceil((i + 1) H / size).
    """
    rows, columns = (jnp.asarray(_shares(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns, precision="highest")


def fold_pooling(kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns the kernel that takes maps of a size as `kernel` takes them after `adaptive_avg_pool`.

    For 32×32 images the map is one pixel, repeated 49 times: 512 inputs instead of 25,088.

    Args:
      kernel: float [POOLED * POOLED * C, F].
      size: rows and columns of the map; the result is [rows * columns * C, F].
    """
    rows, columns = (jnp.asarray(_shares(n, POOLED), kernel.dtype) for n in size)
    places = kernel.reshape(POOLED, POOLED, -1, kernel.shape[-1])
    folded = jnp.einsum("ih,ijcf,jw->hwcf", rows, places, columns, precision="highest")
    return folded.reshape(-1, kernel.shape[-1])


def _shares(length: int, size: int) -> np.ndarray:
    """Returns the averaging matrix [size, length]."""
    shares = np.zeros((size, length), np.float32)
    for i in range(size):
        start, stop = i * length // size, -(-(i + 1) * length // size)
        shares[i, start:stop] = 1 / (stop - start)
    return shares


def load_vgg16(source: str | Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters with those of a file in place of all but the last layer's, which stay as they are.

    Args:
      source: a safetensors file with VGG-16's weights, or a repository of the hub, see `models.pretrained`.
      params: of `VGG16`, with the number of classes that is wanted.

    Raises:
      UserError: they cannot be read, one is missing, or one has another shape.
    """
    tensors = read_weights(source)
    convolutions = [name for name in params if name.startswith("Conv_")]
    # In a torchvision Sequential every convolution is followed by a ReLU, and every block by a pooling.
    positions, position = [], 0
    for block in BLOCKS:
        positions += [position + 2 * i for i in range(len(block))]
        position += 2 * len(block) + 1
    loaded = dict(params)
    for i in range(len(convolutions)):
        weight, bias = _weight_and_bias(tensors, (f"features.{positions[i]}",), source)
        loaded[f"Conv_{i}"] = _like(
            params[f"Conv_{i}"], weight.transpose(2, 3, 1, 0), bias, f"convolution {i + 1}", source
        )
    for i, names in enumerate(DENSE_NAMES):
        weight, bias = _weight_and_bias(tensors, names, source)
        size = POOLED if i == 0 else 1
        # Stored over channels, rows, columns; our maps are flattened in the order rows, columns, channels.
        kernel = weight.reshape(len(weight), -1, size, size).transpose(2, 3, 1, 0).reshape(-1, len(weight))
        loaded[f"Dense_{i}"] = _like(params[f"Dense_{i}"], kernel, bias, f"dense layer {i + 1}", source)
    return loaded


def _weight_and_bias(
    tensors: Mapping[str, np.ndarray], names: tuple[str, ...], source
) -> tuple[np.ndarray, np.ndarray]:
    for name in names:
        if f"{name}.weight" in tensors and f"{name}.bias" in tensors:
            return [tensors[f"{name}.{part}"] for part in ("weight", "bias")]
    raise UserError(
        f"{source} has no weights {' or '.join(f'{n}.weight' for n in names)}; give a file of VGG-16 without BN"
    )


def _like(old: Mapping[str, Any], kernel: np.ndarray, bias: np.ndarray, what: str, source) -> dict[str, jax.Array]:
    for name, array in (("kernel", kernel), ("bias", bias)):
        if array.shape != old[name].shape:
            raise UserError(f"{source}: the {name} of {what} is {array.shape}; VGG-16 needs {old[name].shape}")
    return {"kernel": jnp.asarray(kernel, old["kernel"].dtype), "bias": jnp.asarray(bias, old["bias"].dtype)}
