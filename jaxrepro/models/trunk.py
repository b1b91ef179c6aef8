"""The weights that a round of active learning begins with: ImageNet's, those of a run of our own, or none.

    trunk = load_trunk("runs/synbols_trunk-small", network, image_shape)      # or a safetensors file of VGG-16, or ""
    params = with_trunk(network.init(key, images, False)["params"], trunk.params)

A trunk is everything but the last layer, which is drawn anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.checkpoint import read_arrays
from jaxrepro.errors import UserError
from jaxrepro.models.vgg import DENSE_NAMES, VGG16, fold_batch_norm, load_vgg16

TRUNK_COMMAND = "python launch.py --config=configs/synbols_trunk.py"
IMAGENET, RANDOM = "ImageNet", "random weights"


@dataclass(frozen=True)
class Trunk:
    """name: for tables and captions. params: layer -> "kernel", "bias", NumPy arrays; {} for random weights."""

    name: str
    params: Mapping[str, Mapping[str, np.ndarray]]


def load_trunk(weights: str, network: VGG16, image_shape: tuple[int, int, int]) -> Trunk:
    """Returns the trunk of a run folder of `synbols_trunk`, of a file or repository of VGG-16's weights, or of "".

    Raises:
      UserError: they are missing, damaged, or those of another network.
    """
    if not weights:
        return Trunk(RANDOM, {})
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    wanted = jax.eval_shape(lambda key: network.init(key, jnp.zeros(images.shape), False)["params"], jax.random.key(0))
    last = f"Dense_{len(DENSE_NAMES)}"
    folder = Path(weights).expanduser()
    if not _is_run(weights):
        try:
            loaded = load_vgg16(weights, wanted)
        except UserError as error:
            raise UserError(
                f"config.trunk.weights: {error}; put the weights of VGG-16 into a file and give it as "
                f"--config.trunk.weights=vgg16.safetensors, or train a trunk: {TRUNK_COMMAND}"
            ) from None
        return Trunk(IMAGENET, {k: jax.tree.map(np.asarray, v) for k, v in loaded.items() if k != last})
    if not (folder / "results.json").exists():
        raise UserError(f"config.trunk.weights: {folder} holds no finished run; train the trunk: {TRUNK_COMMAND}")
    config = json.loads((folder / "config.json").read_text())["config"]
    arrays = read_arrays(folder / "checkpoints")
    variables: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}, "batch_stats": {}}
    for path, array in arrays.items():
        if path.startswith("state/variables/"):
            part, layer, name = path.split("/")[2:]
            variables[part].setdefault(layer, {})[name] = array[0]
    params = fold_batch_norm(variables)
    for layer, leaves in wanted.items():
        for name, leaf in leaves.items():
            shape = np.shape(params.get(layer, {}).get(name))
            if layer != last and shape != leaf.shape:
                raise UserError(f"config.trunk.weights: {layer}/{name} in {folder} is {shape}, not {leaf.shape}")
    return Trunk(config["title"], {k: params[k] for k in wanted if k != last})


def _is_run(weights: str) -> bool:
    """Returns whether a run folder is meant: one that exists, or a path in the folder of runs."""
    return Path(weights).expanduser().is_dir() or Path(weights).parts[:1] == ("runs",)


def with_trunk(params: Mapping[str, Any], trunk: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters with the trunk's in place of their own."""
    return {**params, **jax.tree.map(jnp.asarray, dict(trunk))}
