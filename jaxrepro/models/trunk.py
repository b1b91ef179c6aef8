"""The network of active learning and the weights that every round begins with: ImageNet's, those of our own, or none.

    network = trunk_config.network(num_classes=26)
    trunk = load_trunk(trunk_config.weights, network, (32, 32, 3))
    params = with_trunk(network.init(key, images, False)["params"], trunk.params)

A trunk is everything but the last layer, which is drawn anew. That of a run of `synbols_trunk` is its arrays/trunk.npz.
"""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.errors import UserError, check
from jaxrepro.models.vgg import BLOCKS, DENSE_NAMES, HIDDEN, POOLED, VGG16, fold_batch_norm, load_vgg16

TRUNK_COMMAND = "python launch.py --config=configs/synbols_trunk.py"
IMAGENET, RANDOM = "ImageNet", "random weights"
LAST = f"Dense_{len(DENSE_NAMES)}"


@dataclass(frozen=True)
class TrunkConfig:
    """The network, and what every round begins with.

    Attributes:
      weights: a safetensors file of VGG-16, a repository of the Hugging Face hub, the folder of a run of
        `synbols_trunk`, or "" for random weights.
      blocks, hidden_size, pooled, dropout: see `models.vgg.VGG16`.
    """

    weights: str = "timm/vgg16.tv_in1k"
    blocks: tuple[tuple[int, ...], ...] = BLOCKS
    hidden_size: int = HIDDEN
    pooled: int = POOLED
    dropout: float = 0.5

    def __post_init__(self):
        channels = [c for block in self.blocks for c in block]
        check(bool(channels) and all(self.blocks), f"blocks is {self.blocks}; write ((16,16),(32,)) or the like")
        check(min(*channels, self.hidden_size, self.pooled) > 0, "blocks, hidden_size and pooled must be positive")
        check(0 < self.dropout < 1, f"dropout is {self.dropout}; it must lie between 0 and 1")

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        """Raises UserError for images of which the poolings leave nothing."""
        height, width = image_shape[:2]
        least = 2 ** len(self.blocks)
        check(
            min(height, width) >= least,
            f"images are {height}×{width} pixels, but {len(self.blocks)} blocks halve them as often and need "
            f"{least}×{least}; give config.trunk.blocks fewer, such as ((16,),(32,))",
        )

    def network(self, num_classes: int) -> VGG16:
        return VGG16(num_classes, self.dropout, self.blocks, self.hidden_size, self.pooled)


@dataclass(frozen=True)
class Trunk:
    """name: for tables and captions. params: layer -> "kernel", "bias", NumPy arrays; {} for random weights."""

    name: str
    params: Mapping[str, Mapping[str, np.ndarray]]


def trunk_arrays(variables: Mapping[str, Any], title: str) -> dict[str, np.ndarray]:
    """Returns what trunk.npz holds: "title", and "LAYER/kernel" and "LAYER/bias" of all layers but the last.

    Args:
      variables: {"params", "batch_stats"}; batch normalisation becomes a part of the convolutions.
    """
    params = fold_batch_norm(variables)
    found = {f"{layer}/{name}": a for layer, leaves in params.items() if layer != LAST for name, a in leaves.items()}
    return {"title": np.array(title), **found}


def load_trunk(weights: str, network: VGG16, image_shape: tuple[int, int, int]) -> Trunk:
    """Returns the trunk of a run folder, of a file or repository of VGG-16's weights, or of "".

    Raises:
      UserError: they are missing, damaged, or those of another network.
    """
    if not weights:
        return Trunk(RANDOM, {})
    wanted = jax.eval_shape(lambda key: network.init(key, jnp.zeros((1, *image_shape)), False), jax.random.key(0))
    if _is_run(weights):
        return _read_run(Path(os.path.expanduser(weights)), wanted["params"])
    try:
        loaded = load_vgg16(weights, wanted["params"])
    except UserError as error:
        raise UserError(
            f"config.trunk.weights: {error}; put the weights of VGG-16 into a file and give it as "
            f"--config.trunk.weights=vgg16.safetensors, or train a trunk: {TRUNK_COMMAND}"
        ) from None
    return Trunk(IMAGENET, {k: jax.tree.map(np.asarray, v) for k, v in loaded.items() if k != LAST})


def _is_run(weights: str) -> bool:
    """Returns whether a run folder is meant: one that exists, or a path in the folder of runs."""
    return os.path.isdir(os.path.expanduser(weights)) or Path(weights).parts[:1] == ("runs",)


def _read_run(folder: Path, wanted: Mapping[str, Mapping[str, Any]]) -> Trunk:
    path = folder / "arrays" / "trunk.npz"
    if not path.exists():
        preset = f":{folder.name.rpartition('-')[2]}" if folder.name.startswith("synbols_trunk-") else ""
        raise UserError(f"config.trunk.weights: {path} does not exist; train the trunk: {TRUNK_COMMAND}{preset}")
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"config.trunk.weights: {path} is damaged ({error}); train it again: {TRUNK_COMMAND}") from None
    params: dict[str, dict[str, np.ndarray]] = {}
    for layer, leaves in wanted.items():
        for name, leaf in leaves.items() if layer != LAST else ():
            array = arrays.get(f"{layer}/{name}")
            if array is None or array.shape != leaf.shape:
                shape = "missing" if array is None else f"{array.shape}"
                raise UserError(f"config.trunk.weights: {layer}/{name} in {path} is {shape}; wanted is {leaf.shape}")
            params.setdefault(layer, {})[name] = array
    return Trunk(str(arrays.get("title", folder.name)), params)


def with_trunk(params: Mapping[str, Any], trunk: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters with the trunk's in place of their own."""
    return {**params, **jax.tree.map(jnp.asarray, dict(trunk))}


def prepare(images: jax.Array) -> jax.Array:
    """Returns uint8 images [B, H, W, 1 or 3] as the network sees them, float32 [B, H, W, 3] in [0, 1]."""
    return jnp.broadcast_to(images.astype(jnp.float32) / 255, (*images.shape[:3], 3))
