"""Blobs of predicted pixels, on the host: connected components, watershed lines, and what they weigh in a loss.

    labels, number = label_blobs(mask)                               # SciPy, 8-connected
    counts = blob_counts(masks)                                      # inside jit, through a callback
    split, false = background_weights(mask, probability, points, SplitRule.BENCHMARK)

Flooding goes pixel by pixel in the order of a queue, which decides ties: an accelerator gains nothing, and
scikit-image's is what the published numbers were made with. Components alone could be found on a device; a callback to
SciPy is the faster on a CPU (`benchmarks/counting.py`), and the loss calls the host anyway. Every image is treated by
itself, so batches do not change a bit.

Source: Laradji et al., "Where are the blobs: counting by localization with point supervision" (ECCV 2018), as executed
by the released code of Synbols (SplitRule.BENCHMARK) and by the authors' later package (PACKAGE).
"""

import functools
from enum import StrEnum

import jax
import jax.numpy as jnp
import numpy as np

EIGHT = np.ones((3, 3), bool)  # neighbours of a pixel of a blob
WINDOW = 7  # of the closing under the watershed, pixels


class SplitRule(StrEnum):
    """How blobs of an image add up: their mean and a term of the whole image where a blob holds two points, or sums
    and that term where the image has two points."""

    BENCHMARK = "benchmark"
    PACKAGE = "package"


def label_blobs(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns (labels int32 [H, W] from 1, their number) of the 8-connected components of bool [H, W]."""
    from scipy import ndimage

    return ndimage.label(mask, structure=EIGHT)


def blob_centres(mask: np.ndarray) -> np.ndarray:
    """Returns the centroids of the blobs of bool [H, W], rounded down to pixels, int [n, 2]."""
    from scipy import ndimage

    labels, number = label_blobs(mask)
    centres = ndimage.center_of_mass(mask, labels, np.arange(1, number + 1)) if number else []
    return np.floor(np.array(centres, float).reshape(-1, 2)).astype(int)


def watershed_lines(relief: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns where floods from points meet, bool [H, W]: pixels beside one, of 4, that another flood reached.

    Args:
      relief: float [H, W], flooded from low to high.
      points: bool [H, W], the markers, numbered row by row.
    """
    from skimage.segmentation import watershed

    markers = np.zeros(points.shape, np.int32)
    markers[points] = np.arange(1, np.count_nonzero(points) + 1)
    basins = watershed(relief, markers)
    lines = np.zeros(points.shape, bool)
    for basin, line in ((basins, lines), (basins.T, lines.T)):  # views: both directions end in `lines`
        differ = basin[1:] != basin[:-1]
        line[1:] |= differ
        line[:-1] |= differ
    return lines


def background_weights(mask: np.ndarray, probability: np.ndarray, points: np.ndarray, rule: SplitRule) -> np.ndarray:
    """Returns what -log(probability of background) weighs at every pixel, float32 [2, H, W]: to split, as false.

    Args:
      mask: bool [H, W], the predicted foreground.
      probability: of it, float32 [H, W].
      points: bool [H, W].
    """
    from scipy import ndimage

    labels, number = label_blobs(mask)
    inside = np.bincount(labels[points], minlength=number + 1)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    several, empty = np.flatnonzero(inside[1:] >= 2) + 1, np.flatnonzero(inside[1:] == 0) + 1
    averaged = rule == SplitRule.BENCHMARK
    false = np.zeros(number + 1)
    false[empty] = 1 / sizes[empty] / (len(empty) if averaged else 1)
    split, num_points = np.zeros(mask.shape), np.count_nonzero(points)
    parts = []  # (weight, pixels that share it)
    if len(several) or (num_points > 1 and not averaged):
        relief = ndimage.black_tophat(probability, size=WINDOW)
        for blob in several:
            own = labels == blob
            weight = (inside[blob] - 1) / (len(several) if averaged else 1)
            parts.append((weight, watershed_lines(relief, points & own) & own))
        parts.append((num_points if averaged else num_points - 1, watershed_lines(relief, points)))
    for weight, line in parts:
        split[line] += weight / max(1, np.count_nonzero(line))
    return np.stack([split, false[labels]]).astype(np.float32)


def blob_counts(masks: jax.Array) -> jax.Array:
    """Returns the numbers of blobs, int32 [...], of bool [..., H, W]; for use inside jit."""
    result = jax.ShapeDtypeStruct(masks.shape[:-2], jnp.int32)
    return jax.pure_callback(_count, result, masks, vmap_method="broadcast_all")


def batch_background_weights(masks: jax.Array, probabilities: jax.Array, points: jax.Array, rule: SplitRule):
    """Returns `background_weights` of a batch [B, H, W], float32 [B, 2, H, W]; inside jit, not differentiated."""
    given = jax.lax.stop_gradient((masks, probabilities, points))
    result = jax.ShapeDtypeStruct((len(masks), 2, *masks.shape[1:]), jnp.float32)
    return jax.pure_callback(functools.partial(_weigh, rule=rule), result, *given, vmap_method="broadcast_all")


def _count(masks: jax.Array) -> np.ndarray:
    flat = np.asarray(masks).reshape(-1, *masks.shape[-2:])
    return np.array([label_blobs(mask)[1] for mask in flat], np.int32).reshape(masks.shape[:-2])


def _weigh(*given: jax.Array, rule: SplitRule) -> np.ndarray:
    batch, size = given[0].shape[:-2], given[0].shape[-2:]
    flat = (np.asarray(a).reshape(-1, *size) for a in given)
    return np.stack([background_weights(*image, rule) for image in zip(*flat)]).reshape(*batch, 2, *size)
