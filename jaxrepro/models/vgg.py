"""VGG-16 without normalisation, and its ImageNet weights from a safetensors file or the Hugging Face hub.

    variables = VGG16(96).init(key, images, False)
    variables = {"params": load_vgg16("timm/vgg16.tv_in1k", variables["params"])}     # or "vgg16.safetensors"

Simonyan & Zisserman, "Very Deep Convolutional Networks" (2015), configuration D, in the form of torchvision. Synbols
(Lacoste et al., 2020) uses it for active learning with Monte-Carlo dropout: pass `train=True` to keep dropout active;
nothing else depends on it. Files of both common layouts are read: torchvision's ("classifier.0.weight") and timm's
("pre_logits.fc1.weight").
"""

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
      hidden: width of the dense layers.
    """

    num_classes: int
    dropout: float = 0.5
    blocks: tuple[tuple[int, ...], ...] = BLOCKS
    hidden: int = HIDDEN

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images
        for block in self.blocks:
            for features in block:
                bias = torch_bias(9 * x.shape[-1])
                x = nn.relu(Conv(features, (3, 3), padding=1, kernel_init=torch_uniform, bias_init=bias)(x))
            x = max_pool(x, (2, 2), (2, 2))
        x = adaptive_avg_pool(x, POOLED).reshape(len(x), -1)
        for _ in DENSE_NAMES:
            x = nn.relu(torch_dense(x, self.hidden))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return torch_dense(x, self.num_classes, dtype=jnp.float32)


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Returns float [B, H, W, C] as [B, size, size, C], each place the mean of its share of the map.

    The shares are those of PyTorch's AdaptiveAvgPool2d: place i takes rows floor(i H / size) to ceil((i + 1) H / size).
    """
    rows, columns = (jnp.asarray(_shares(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns, precision="highest")


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
