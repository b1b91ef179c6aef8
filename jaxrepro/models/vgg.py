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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.layers import Conv, max_pool
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_bias, torch_uniform
from jaxrepro.models.pretrained import read_weights

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
POOLED = 7  # rows and columns that the first dense layer sees
HIDDEN = 4096
he_normal = nn.initializers.he_normal()  # the last layer is PyTorch's: a network so deep needs more to begin with
DENSE_NAMES = (("classifier.0", "pre_logits.fc1"), ("classifier.3", "pre_logits.fc2"))


class VGG16(nn.Module):
    """Maps images float [B, H, W, 3], H and W at least 32, to logits [B, num_classes]; 134,367,066 parameters for 26.

    Attributes:
      dropout: of both hidden dense layers.
      blocks: channels of the 3×3 convolutions, pooled after each block.
      hidden_size: width of the dense layers.
      pooled: rows and columns that the first dense layer sees, whatever the size of the images.
      batch_norm: after every convolution. The published network has none and hardly trains from random weights; one
        with it does, and `fold_batch_norm` makes of it one without.
    """

    num_classes: int
    dropout: float = 0.5
    blocks: tuple[tuple[int, ...], ...] = BLOCKS
    hidden_size: int = HIDDEN
    pooled: int = POOLED
    batch_norm: bool = False

    def setup(self):
        blocks = []
        for block in self.blocks:
            blocks.append([])
            for features in block:
                name = f"Conv_{sum(map(len, blocks))}"
                blocks[-1].append(Conv(features, (3, 3), padding=1, kernel_init=he_normal, name=name))
        self.convolutions = blocks
        self.norms = [[BatchNorm(name=f"BatchNorm_{c.name}") for c in block] for block in blocks] * self.batch_norm
        sizes = [self.hidden_size for _ in DENSE_NAMES]
        first = [nn.Dense(size, kernel_init=he_normal, name=f"Dense_{i}") for i, size in enumerate(sizes)]
        options = {"kernel_init": torch_uniform, "bias_init": torch_bias(self.hidden_size), "dtype": jnp.float32}
        last = nn.Dense(self.num_classes, name=f"Dense_{len(first)}", **options)
        self.dense = [*first, last]
        self.dropouts = [nn.Dropout(self.dropout, name=f"Dropout_{i}") for i in range(len(DENSE_NAMES))]

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return self.classify(self.hidden(images, train), train)

    def hidden(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns what the first dropout sees, float [B, hidden_size]: the part that is the same in every pass."""
        x = images
        for i, block in enumerate(self.convolutions):
            for j, convolution in enumerate(block):
                x = convolution(x)
                x = nn.relu(self.norms[i][j](x, train) if self.batch_norm else x)
            x = max_pool(x, (2, 2), (2, 2))
        first = self.dense[0]
        if self.is_initializing() or x.shape[1] * x.shape[2] >= self.pooled**2:
            return nn.relu(first(adaptive_avg_pool(x, self.pooled).reshape(len(x), -1)))
        params = first.variables["params"]
        kernel = fold_pooling(params["kernel"], x.shape[1:3], self.pooled)
        return nn.relu(x.reshape(len(x), -1) @ kernel + params["bias"])

    def classify(self, hidden: jax.Array, train: bool) -> jax.Array:
        """Returns logits [B, num_classes] of what `hidden` returned."""
        x = hidden
        for dropout, dense in zip(self.dropouts, self.dense[1:], strict=True):
            x = dropout(x, deterministic=not train)
            x = dense(x) if dense is self.dense[-1] else nn.relu(dense(x))
        return x


def fold_batch_norm(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters without batch normalisation that compute what `variables` do in evaluation, NumPy arrays.

    Args:
      variables: {"params", "batch_stats"} of a network with `batch_norm`; without it parameters stay as they are.
    """
    params = jax.tree.map(np.asarray, dict(variables["params"]))
    for name in [n for n in params if n.startswith("BatchNorm_")]:
        norm, running = params.pop(name), variables["batch_stats"][name]
        factor = norm["scale"] / np.sqrt(np.asarray(running["var"]) + BatchNorm.epsilon)
        layer = params[name.removeprefix("BatchNorm_")]
        bias = (layer["bias"] - np.asarray(running["mean"])) * factor + norm["bias"]
        params[name.removeprefix("BatchNorm_")] = {"kernel": layer["kernel"] * factor, "bias": bias}
    return params


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Returns float [B, H, W, C] as [B, size, size, C], each place the mean of its share of the map.

    The shares are those of PyTorch's AdaptiveAvgPool2d: place i takes rows floor(i H / size) to ceil((i + 1) H / size).
    """
    rows, columns = (jnp.asarray(_shares(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns, precision="highest")


def fold_pooling(kernel: jax.Array, size: tuple[int, int], pooled: int = POOLED) -> jax.Array:
    """Returns the kernel that takes maps of a size as `kernel` takes them after `adaptive_avg_pool` to `pooled`.

    For 32×32 images the map is one pixel, repeated 49 times: 512 inputs instead of 25,088.

    Args:
      kernel: float [pooled * pooled * C, F].
      size: rows and columns of the map; the result is [rows * columns * C, F].
    """
    rows, columns = (jnp.asarray(_shares(n, pooled), kernel.dtype) for n in size)
    places = kernel.reshape(pooled, pooled, -1, kernel.shape[-1])
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
