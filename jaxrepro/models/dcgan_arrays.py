"""Weights that the authors of DCGAN published with their Theano code, as parameters of our networks.

    params = read_arrays(Path("authors.npz"), expected)        # config.weights=authors.npz

The authors' files are pickles, which run code when they are opened: convert them in an environment of its own, once.

    import joblib, numpy                                        # of that time; the .npy files lie beside the .jl ones
    nets = {n: joblib.load(f"200_{n}_params.jl") for n in ("gen", "discrim")}
    numpy.savez("authors.npz", **{f"{n}_{i}": a for n, arrays in nets.items() for i, a in enumerate(arrays)})

Their order: a layer's weights, then scale and shift of its batch norm, if it has one. Theano's maps are [C, H, W], and
its convolution turns the kernel by half a circle, which ours does not; its transposed convolution is the transpose of
that, so its kernels stay as they are. Source: the authors' code; so their SVHN weights draw house numbers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrepro.errors import UserError

NETS = {"generator": "gen", "discriminator": "discrim"}


def read_arrays(path: Path, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"generator", "discriminator"}: parameters, float32, from arrays "gen_0", …, "discrim_0", ….

    Args:
      path: an npz file.
      expected: the parameters' shapes, of networks with dense ends, no labels and no hidden layer.

    Raises:
      UserError: no such file, or its arrays are not those of the networks.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise UserError(f"config.weights: {path} is no npz file of arrays ({error})") from None
    made = {}
    for net, name in NETS.items():
        listed = [arrays[f"{name}_{i}"] for i in range(len(arrays)) if f"{name}_{i}" in arrays]
        shape = map_shape(expected[net], net)
        made[net] = generator(listed, shape) if net == "generator" else discriminator(listed, shape)
        check_shapes(path, net, made[net], expected[net])
    return made


def map_shape(params: Mapping[str, Any], net: str) -> tuple[int, int]:
    """Returns (channels, side) of the smallest map."""
    convs = [v["kernel"].shape for k, v in params.items() if k.startswith(("convs_", "ConvTranspose_"))]
    channels = max(shape[3] if net == "discriminator" else shape[2] for shape in convs)
    units = params["last"]["kernel"].shape[0] if net == "discriminator" else params["Dense_0"]["kernel"].shape[1]
    return channels, round((units / channels) ** 0.5)


def channels_last(units: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns units [..., C * H * W] in the order [..., H * W * C]."""
    channels, side = shape
    maps = units.reshape(*units.shape[:-1], channels, side, side)
    return np.moveaxis(maps, -3, -1).reshape(units.shape)


def norm(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    scale, bias = arrays
    return {"scale": scale, "bias": bias}


def generator(arrays: Sequence[np.ndarray], shape: tuple[int, int]) -> dict[str, Any]:
    """Returns the parameters of [w, g, b, w2, g2, b2, …, wx]: dense [nz, C * H * W], then [I, O, h, w]."""
    first, rest = [channels_last(a, shape) for a in arrays[:3]], arrays[3:]
    params = {"Dense_0": {"kernel": first[0]}, "BatchNorm_0": norm(first[1:])} if first else {}
    for i, w in enumerate(rest[::3]):
        params[f"ConvTranspose_{i}"] = {"kernel": w.transpose(2, 3, 0, 1)}
        if len(rest) > 3 * i + 2:
            params[f"BatchNorm_{i + 1}"] = norm(rest[3 * i + 1 : 3 * i + 3])
    return params


def discriminator(arrays: Sequence[np.ndarray], shape: tuple[int, int]) -> dict[str, Any]:
    """Returns the parameters of [w, w2, g2, b2, …, wy]: [O, I, h, w], and dense [C * H * W, 1]."""
    params = {"last": {"kernel": channels_last(arrays[-1].T, shape).T}} if arrays else {}
    weights = [arrays[0], *arrays[1:-1:3]] if arrays else []
    for i, w in enumerate(weights):
        params[f"convs_{i}"] = {"kernel": w[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)}
        if i:
            params[f"norms_{i - 1}"] = norm(arrays[3 * i - 1 : 3 * i + 1])
    return params


def check_shapes(path: Path, net: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises UserError unless the parameters have the networks' names and shapes."""
    ours, theirs = ({jax.tree_util.keystr(p): a.shape for p, a in leaves(tree)} for tree in (expected, found))
    wrong = sorted(k for k in {*ours, *theirs} if ours.get(k) != theirs.get(k))
    if wrong:
        k = wrong[0]
        raise UserError(
            f"config.weights: {path} does not fit the {net}: {k} is {theirs.get(k, 'missing')} there and "
            f"{ours.get(k, 'missing')} here; take the preset whose weights these are"
        )


def leaves(tree: Any) -> list:
    return jax.tree_util.tree_leaves_with_path(tree)
