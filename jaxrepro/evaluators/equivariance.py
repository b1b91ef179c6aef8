"""How far the features of a network follow a change of scale: an error curve and a picture, networks side by side.

For features F, images f and the zoom L_s by a factor s the error is |L_s F(f) - F(L_s f)|² / |L_s F(f)|², a mean over
images; 0 means that scaling the image scales its feature maps. F is taken relative to its answer to an empty image, so
that the surroundings of a shrunken map are right; images without any answer beyond that, empty ones above all, have no
error and are left out. Pictures are no smooth inputs, and a map is zoomed on its own coarse
grid, so the error of a perfect network would not be 0 here: it serves to compare networks. Smooth filters alone lower
it; how much, a network with the same filters at a single scale tells, the rows "…, one scale".

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), equation 13, whose images and borders are not
stated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro import mesh as mesh_lib
from jaxrepro.data.augment import zoom
from jaxrepro.experiment import Record
from jaxrepro.training.classification import Task
from jaxrepro.training.precision import apply_in

SCALES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PICTURED_SCALE = 0.6
MIN_PIXELS = 14  # smaller maps say more about interpolation than about the network
TABLE = "equivariance error"


@dataclass(frozen=True)
class Measured:
    """A network as the measurement sees it.

    Attributes:
      label: row of the records.
      name: its key among the variables.
      features: `(variables, images uint8 [B, H, W, I]) -> [maps [B, h, w, C] of stage 1, 2, …]`.
    """

    label: str
    name: str
    features: Callable[[Any, jax.Array], Sequence[jax.Array]]


def measured(label: str, name: str, task: Task) -> Measured:
    """Returns a classifier as the measurement sees it; its stages are the maps that it leaves as "stage_1", ….

    Args:
      label, name: see `Measured`.
      task: of the classifier.
    """

    def features(variables, images):
        _, kept = apply_in(
            task.precision,
            task.network,
            variables,
            task.prepare(images, None),
            train=False,
            mutable=["intermediates"],
        )
        stages = kept["intermediates"]
        return [stages[k]["features"][0].astype(jnp.float32) for k in sorted(stages) if k.startswith("stage_")]

    return Measured(label, name, features)


def least_shrunk(images: jax.Array, scales: jax.Array, num: int = 64) -> jax.Array:
    """Returns the (at most) `num` images that were shrunk least, [num, H, W, C], in their own order."""
    largest = np.argsort(-mesh_lib.to_host(scales), kind="stable")[:num]
    return images[np.sort(largest)]


def compare(networks: Sequence[Measured], variables: Mapping[str, Any], images: Any) -> tuple[list[Record], dict]:
    """Returns records of the error at every scale, stage and network, and the picture "feature_maps".

    Args:
      variables: network's name -> its variables.
      images: uint8 [B, H, W, C].
    """
    records, shown = [], []
    for network in networks:
        measure = jax.jit(lambda v, x, s, n=network: errors_and_maps(n, v, x, s))
        for scale in SCALES:
            errors, maps = mesh_lib.to_host(measure(variables[network.name], images, jnp.float32(scale)))
            records += [
                Record(TABLE, network.label, f"scale {scale:g}", f"stage {stage}", float(error))
                for stage, error in errors.items()
            ]
            if scale == PICTURED_SCALE:
                shown.append((network.label, maps))
    if not any(maps for _, maps in shown):  # no stage is large enough
        return records, {}
    return records, {"feature_maps": draw_feature_maps(shown, mesh_lib.to_host(images))}


def errors_and_maps(network: Measured, variables: Any, images: jax.Array, scale: jax.Array) -> tuple[dict, dict]:
    """Returns the error of every stage that is large enough, and its three maps, in its loudest channel.

    Returns:
      ({stage: error}, {stage: float [3, B, h, w]}): maps of the images, these zoomed, and maps of the zoomed images.
    """
    num, factors = len(images), jnp.full(len(images), scale)
    stages = network.features(variables, jnp.concatenate([images, zoomed(images, scale), jnp.zeros_like(images[:1])]))
    errors, maps = {}, {}
    for i, stage in enumerate(stages, start=1):
        if stage.shape[1] < MIN_PIXELS:
            continue
        plain, other = stage[:num] - stage[-1], stage[num:-1] - stage[-1]
        expected = zoom(plain, factors)
        difference, size = (jnp.square(x).sum((1, 2, 3)) for x in (expected - other, expected))
        seen = size > 0
        some = jnp.sum(jnp.where(seen, difference / size, 0)) / jnp.sum(seen)
        errors[i] = jnp.where(seen.all(), jnp.mean(difference / size), some)
        channel = jnp.argmax(jnp.square(plain).sum((0, 1, 2)))
        maps[i] = jnp.stack([x[..., channel] for x in (plain, expected, other)])
    return errors, maps


def zoomed(images: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns images uint8 [B, H, W, C] zoomed about their centre by one factor, black around where it is below 1."""
    pixels = zoom(images.astype(jnp.float32), jnp.full(len(images), scale))
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def draw_feature_maps(shown: Sequence[tuple[str, Mapping[int, np.ndarray]]], images: np.ndarray) -> Any:
    """Returns a matplotlib Figure: for one image, a channel of every stage before and after the image is rescaled.

    Args:
      shown: (label, {stage: maps [3, B, h, w]}) of every network, at `PICTURED_SCALE`.
      images: uint8 [B, H, W, 1 or 3]; the one with the median amount of ink is shown.
    """
    from matplotlib.figure import Figure

    row = typical(images)
    small = zoomed(jnp.asarray(images[row : row + 1]), jnp.float32(PICTURED_SCALE))[0]
    lines = [(f"{label}\nstage {stage}", maps[:, row]) for label, found in shown for stage, maps in found.items()]
    heads = (
        "image",
        "rescaled image",
        "features",
        "features, rescaled",
        "features of the\nrescaled image",
        "difference",
    )
    figure = Figure(figsize=(1.45 * len(heads) + 1.0, 1.5 * len(lines) + 0.8), layout="constrained")
    axes = figure.subplots(len(lines), len(heads), squeeze=False)
    for line, (label, (plain, expected, other)) in zip(axes, lines, strict=True):
        top = max(np.abs(plain).max(), np.abs(other).max()) or 1.0
        for ax, x in zip(line[:2], (images[row], np.asarray(small)), strict=True):
            ax.imshow(x if x.shape[-1] == 3 else x[..., 0], cmap="gray", vmin=0, vmax=255)
        for ax, x in zip(line[2:], (plain, expected, other, expected - other), strict=True):
            ax.imshow(x, cmap="RdBu_r", vmin=-top, vmax=top)
        error = np.square(expected - other).sum() / np.square(expected).sum()
        line[-1].set_xlabel(f"error {error:.2g}", fontsize=9)
        line[0].set_ylabel(label, fontsize=10)
    figure.suptitle(f"Feature maps before and after rescaling by {PICTURED_SCALE:g}", fontsize=11)
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head, fontsize=9)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
    return figure


def typical(images: np.ndarray) -> int:
    """Returns the row of the image with the median amount of ink."""
    ink = images.reshape(len(images), -1).sum(axis=1, dtype=np.int64)
    return int(np.argsort(ink, kind="stable")[len(ink) // 2])
