"""Does a generator copy? Its samples beside the training images that are nearest to them, searched in the whole set."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.data import Table
from jaxrepro.data.square import Fit, squares
from jaxrepro.evaluators.pictures import image_rows
from jaxrepro.evaluators.samples import Sampler, nearest, pixels, squared_distances
from jaxrepro.experiment import Evaluation, Evaluator, When
from jaxrepro.rng import generator

NUM_NEIGHBOURS = 3
BLOCK = 2000  # training images that samples are compared with at a time


@dataclass(frozen=True)
class Searched:
    """Training images that samples are compared with.

    Attributes:
      num: of the images, N.
      take: `rows int [n] -> uint8 [n, H, W, C]`, any of the N.
      num_train: of the whole training set.
    """

    num: int
    take: Callable[[np.ndarray], np.ndarray]
    num_train: int

    @property
    def title(self) -> str:
        """How much of the training set is searched."""
        if self.num == self.num_train:
            return f"all {self.num:,} searched"
        return f"{self.num:,} of {self.num_train:,} searched, {100 * self.num / self.num_train:.2g} %"


@functools.partial(jax.jit, static_argnames="num")
def nearer(
    queries: jax.Array, block: jax.Array, is_row: jax.Array, start: jax.Array, best: tuple, num: int
) -> tuple[jax.Array, jax.Array]:
    """Returns (squared distances [N, num], rows [N, num]): the best so far, and those of a block that are nearer.

    Args:
      queries: uint8 [N, ...].
      block: uint8 [M, ...], rows start … start + M - 1 of the references.
      is_row: bool [M], False where the block is filled up.
      best: of the blocks before.
    """
    found = jnp.where(is_row, squared_distances(pixels(queries), pixels(block)), jnp.inf)
    distances = jnp.concatenate([best[0], found], axis=1)
    rows = jnp.concatenate([best[1], jnp.broadcast_to(start + jnp.arange(len(block)), found.shape)], axis=1)
    negative, places = jax.lax.top_k(-distances, num)
    return -negative, jnp.take_along_axis(rows, places, axis=1)


def nearest_of_all(
    queries: np.ndarray, searched: Searched, num: int, block_size: int = BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `nearest` does, of a training set that is read in blocks, whatever its size.

    queries: uint8 [N, ...]; num: at most the number of images that are searched.
    """
    size = min(block_size, searched.num)
    best = (jnp.full((len(queries), num), jnp.inf), jnp.zeros((len(queries), num), jnp.int32))
    for start in range(0, searched.num, size):
        rows = np.arange(start, start + size)
        block = searched.take(np.minimum(rows, searched.num - 1))
        best = nearer(queries, block, rows < searched.num, jnp.int32(start), best, num)
    distances, rows = jax.device_get(best)
    return np.sqrt(distances), rows


def searched_images(table: Table, size: int, fit: Fit, limit: int = 0) -> Searched:
    """Returns all images of a training set, or as many of it as `limit`, random ones, as [size, size] pictures."""
    num = min(limit or table.num_rows, table.num_rows)
    order = np.arange(num) if num == table.num_rows else generator(0, "searched").permutation(table.num_rows)[:num]
    return Searched(num, lambda rows: squares(table.take(order[rows])["image"], size, fit), table.num_rows)


def memorisation(
    sampler: Sampler, searched: Searched, test_images: np.ndarray, *, num_samples: int, split: str, when: When
) -> Evaluator:
    """Returns the evaluator of distances between samples, training and test images (uint8 [N, H, W, C]).

    Metrics: `train_distance` from samples to their nearest training image; `train_distance_of_test`, the same for at
    most as many test images, which it should resemble: a model that copies has a far smaller one. `sample_distance`
    from test images to their nearest sample (a monitor of the authors' code). `share_searched` of the training set.
    Means of Euclidean distances, pixels in [0, 1].
    """
    draw = jax.jit(lambda state, key: sampler.generate(state, sampler.draw(key, num_samples), labels))
    labels = sampler.labels(num_samples)
    of_test = jax.jit(lambda test, drawn: nearest(test, drawn, 1)[0].mean())
    neighbours = min(NUM_NEIGHBOURS, searched.num)

    def evaluate(state, test, context) -> Evaluation:
        drawn = np.asarray(jax.device_get(draw(state, context.key)))
        distances, rows = nearest_of_all(drawn, searched, neighbours)
        test = jax.device_get(test)
        metrics = {
            "train_distance": float(distances[:, 0].mean()),
            "train_distance_of_test": float(nearest_of_all(test[:num_samples], searched, 1)[0].mean()),
            "sample_distance": float(of_test(test, drawn)),
            "share_searched": searched.num / searched.num_train,
        }
        shown = [("samples", drawn[:10])]
        shown += [(f"nearest training image {i + 1}", searched.take(rows[:10, i])) for i in range(neighbours)]
        title = f"Samples and the training images nearest to them in pixels ({searched.title})"
        return Evaluation(metrics, {"nearest_training_images": image_rows(shown, title)})

    return Evaluator("memorisation", split, when, evaluate, test_images)
