"""Samples of a generator: the grid as training goes, and how varied they are.

`diversity` is 1 where samples differ from each other as much as images of the data do, and near 0 after a collapse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.experiment import Evaluation, Evaluator, When
from jaxrepro.training.batched import map_batches

GRID = 8  # rows and columns of the grid of samples
NUM_COMPARED = 256  # images whose pairwise distances are averaged


@dataclass(frozen=True)
class Sampler:
    """A generator as evaluators see it.

    Attributes:
      draw: `(key, num) -> latents [num, D]`, from the prior.
      generate: `(state, latents [n, D], labels int32 [n]) -> uint8 [n, H, W, C]`, jitted here or there; an image
        depends on its own latents only. Labels count for a conditional generator only.
      fixed: `state -> latents [n, D]` that stay the same throughout training.
      num_labels: classes of a conditional generator; 0 = unconditional.
    """

    draw: Callable[[jax.Array, int], jax.Array]
    generate: Callable[[Any, jax.Array, jax.Array], jax.Array]
    fixed: Callable[[Any], jax.Array]
    num_labels: int = 0

    def labels(self, num: int) -> jax.Array:
        """Returns int32 [num] that go through all classes in turn."""
        return jnp.arange(num) % max(1, self.num_labels)


def pixels(images: jax.Array) -> jax.Array:
    """Returns uint8 images [N, ...] as float32 [N, D] in [0, 1]."""
    return images.reshape(len(images), -1).astype(jnp.float32) / 255


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns |a_i - b_j|^2 [N, M] of vectors [N, D] and [M, D]."""
    products = jnp.matmul(a, b.T, precision="highest")
    return jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * products, 0)


def mean_distance(images: jax.Array) -> jax.Array:
    """Returns the mean Euclidean distance between two different images of uint8 [N, ...], pixels in [0, 1]."""
    num = len(images)
    return jnp.sqrt(squared_distances(pixels(images), pixels(images))).sum() / (num * (num - 1))


def nearest(queries: jax.Array, references: jax.Array, num: int, batch_size: int = 256) -> tuple[jax.Array, jax.Array]:
    """Returns the `num` nearest references of every query, nearest first.

    Args:
      queries, references: uint8 [N, ...] and [M, ...].
      num: at most M.
      batch_size: of queries.

    Returns:
      Euclidean distances float32 [N, num], pixels in [0, 1], and rows of `references`, int32 [N, num].
    """
    flat = pixels(references)

    def one(batch):
        negative, rows = jax.lax.top_k(-squared_distances(pixels(batch), flat), num)
        return jnp.sqrt(-negative), rows

    return map_batches(one, queries, batch_size)


def samples(sampler: Sampler, train_images: np.ndarray, *, split: str, when: When, last: int) -> Evaluator:
    """Returns the evaluator of the grid and of the samples' diversity, which runs throughout training.

    Its picture is "samples" at step `last` and carries the step in its name before. Fixed latents give the same
    places in all of them. train_images: uint8 [N, H, W, C].
    """
    real = train_images[np.linspace(0, len(train_images) - 1, min(NUM_COMPARED, len(train_images))).astype(int)]

    @jax.jit
    def evaluate_on_device(state, real, key):
        fixed = sampler.fixed(state)[: GRID**2]
        shown = sampler.generate(state, fixed, sampler.labels(len(fixed)))
        drawn = sampler.generate(state, sampler.draw(key, NUM_COMPARED), sampler.labels(NUM_COMPARED))
        return shown, mean_distance(drawn) / mean_distance(real)

    def evaluate(state, real, context) -> Evaluation:
        shown, diversity = jax.device_get(evaluate_on_device(state, real, context.key))
        name = "samples" if context.step == last else f"samples_step_{context.step:07d}"
        return Evaluation({"diversity": float(diversity)}, {name: image_grid(shown, GRID)})

    return Evaluator("samples", split, when, evaluate, real)


def image_grid(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Returns images uint8 [n, H, W, C] row by row on white as one picture uint8 [H', W', 3]."""
    num, height, width, _ = images.shape
    rows = -(-num // columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid
