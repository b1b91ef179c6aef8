"""Pictures of the latent space: walks between two points, and arithmetic with concepts.

A concept is written as conditions on columns that a classifier predicts, "label=3" or "is_bold=1,label=2", and its
latent is the mean over the samples that fulfil it best. Or a person picks samples by their numbers in the picture
"numbered_samples".
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.errors import UserError, check, unknown
from jaxrepro.evaluators.classifier import Judge
from jaxrepro.evaluators.pictures import image_rows
from jaxrepro.evaluators.samples import Sampler, image_grid
from jaxrepro.experiment import Evaluation, Evaluator, When

NUM_EXEMPLARS = 3  # per concept
NUM_REPETITIONS = 10
NOISE = 0.25  # neighbours of the result differ from it by U(-0.25, 0.25) in every latent
NUM_NUMBERED = 100
FACES = ("Smiling=1,Male=0", "Smiling=0,Male=0", "Smiling=0,Male=1")  # figure 7 of the article


@dataclass(frozen=True)
class ArithmeticConfig:
    """Whose latents are added up; one operand's latent is the mean of three.

    Attributes:
      concepts: three, such as ("label=7","label=1","label=0"), or () for those that the data has by itself: the
        smiling woman, neutral woman and neutral man of the article, where there are such columns (CelebA).
      by_default: whether () means that, or none.
      indices: instead, the numbers of nine samples in the picture `numbered_samples`, or ().
    """

    concepts: tuple[str, ...] = ()
    by_default: bool = True
    indices: tuple[int, ...] = ()

    def __post_init__(self):
        check(len(self.concepts) in (0, 3), f"concepts is {self.concepts}; give three, or () for none")
        check(len(self.indices) in (0, 9), f"indices is {self.indices}; give nine numbers of samples, or () for none")


def walk(a: jax.Array, b: jax.Array, num_steps: int) -> jax.Array:
    """Returns the points (1 - t) a + t b at t = 0, 1/num_steps, …, 1: [num_steps + 1, ...]."""
    t = jnp.arange(num_steps + 1) / num_steps
    return jax.vmap(lambda t: (1 - t) * a + t * b)(t)


def latent_walks(sampler: Sampler, *, num_pairs: int = 5, num_steps: int = 9, split: str, when: When) -> Evaluator:
    """Returns the evaluator that draws straight walks between pairs of random latents, one per row."""

    @jax.jit
    def images_of(state, key):
        ends = sampler.draw(key, 2 * num_pairs).reshape(num_pairs, 2, -1)
        latents = jax.vmap(lambda pair: walk(pair[0], pair[1], num_steps))(ends)
        labels = jnp.repeat(sampler.labels(num_pairs), num_steps + 1)
        images = sampler.generate(state, latents.reshape(num_pairs * (num_steps + 1), -1), labels)
        return images.reshape(num_pairs, num_steps + 1, *images.shape[1:])

    def evaluate(state, arrays, context) -> Evaluation:
        rows = [(f"walk {i + 1}", row) for i, row in enumerate(jax.device_get(images_of(state, context.key)))]
        return Evaluation(pictures={"latent_walks": image_rows(rows, "Straight walks between two latents")})

    return Evaluator("latent_walks", split, when, evaluate)


def parse_concept(text: str) -> dict[str, int]:
    """Returns {column: value} of "is_bold=1,label=2".

    Raises:
      UserError: not written like that.
    """
    try:
        pairs = [item.split("=") for item in text.split(",")]
        return {column.strip(): int(value) for column, value in pairs}
    except ValueError:
        raise UserError(f"bad concept {text!r}; write it like 'label=3' or 'is_bold=1,label=2'") from None


def best_samples(predicted: dict[str, np.ndarray], concept: dict[str, int], num: int) -> np.ndarray:
    """Returns the rows that most probably fulfil all conditions, best first: int [num].

    Args:
      predicted: column -> probabilities [N, K].
      concept: column -> value.

    Raises:
      UserError: a condition names a value that the column does not have.
    """
    scores = 1.0
    for column, value in concept.items():
        num_values = predicted[column].shape[1]
        if not 0 <= value < num_values:
            raise UserError(f"concept {column}={value}: the values of {column} are 0 to {num_values - 1}")
        scores = scores * predicted[column][:, value]
    return np.argsort(-np.asarray(scores), kind="stable")[:num]


def concept_columns(concepts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns the columns that concepts speak of.

    Raises:
      UserError: the source has no such column.
    """
    names = list(dict.fromkeys(column for text in concepts for column in parse_concept(text)))
    for name in names:
        if name not in known:
            raise unknown("column in a concept", name, known)
    return names


def concepts_of(config: ArithmeticConfig, columns: Iterable[str]) -> tuple[str, ...]:
    """Returns the concepts of a config, or those that data with such columns has by itself; () for none."""
    if config.concepts or config.indices or not config.by_default:
        return config.concepts
    return FACES if {"Smiling", "Male"} <= set(columns) else ()


def arithmetic(
    sampler: Sampler,
    get_judge: Callable[[], Judge],
    *,
    concepts: Sequence[str] = (),
    indices: Sequence[int] = (),
    num_samples: int,
    split: str,
    when: When,
) -> Evaluator:
    """Returns the evaluator of y = mean(a) - mean(b) + mean(c) over three latents each, and of its neighbours.

    Args:
      get_judge: trains or returns the classifier of the concepts' columns.
      concepts: a, b, c, or ().
      indices: nine numbers of samples, three for each of a, b, c, that take their place, or ().
      num_samples: drawn, from the same key at every step, for the classifier to choose from.

    The first image of the result is G(y), the others G(y + U(-0.25, 0.25)). Source: the article, section 6.3.2.
    """
    generate = jax.jit(sampler.generate)

    def candidates(state) -> tuple[jax.Array, jax.Array]:
        latents = sampler.draw(jax.random.key(0), num_samples)
        return latents, generate(state, latents, sampler.labels(num_samples))

    def choose(images) -> np.ndarray:
        if indices:
            return np.asarray(indices).reshape(3, NUM_EXEMPLARS)
        predicted = jax.device_get(get_judge()(images))
        return np.stack([best_samples(predicted, parse_concept(text), NUM_EXEMPLARS) for text in concepts])

    def evaluate(state, arrays, context) -> Evaluation:
        latents, images = candidates(state)
        pictures: dict[str, Any] = {"numbered_samples": numbered(np.asarray(images[:NUM_NUMBERED]))}
        if concepts or indices:
            chosen = choose(images)
            a, b, c = (latents[rows].mean(0) for rows in chosen)
            noise = jax.random.uniform(context.key, (NUM_REPETITIONS, latents.shape[1]), minval=-NOISE, maxval=NOISE)
            results = a - b + c + noise.at[0].set(0)
            labels = jnp.zeros(NUM_REPETITIONS, jnp.int32) + sampler.labels(num_samples)[chosen[0, 0]]
            names = ("a", "b", "c") if indices else concepts
            shown = np.asarray(images)[chosen]  # [3, 3, H, W, C], filled up with white to the length of the last row
            blank = np.full((NUM_REPETITIONS - NUM_EXEMPLARS, *shown.shape[2:]), 255, np.uint8)
            rows = [(s + n, np.concatenate([e, blank])) for s, n, e in zip(("", "− ", "+ "), names, shown)]
            rows.append(("= ", np.asarray(generate(state, results, labels))))
            pictures["arithmetic"] = image_rows(rows, "Arithmetic with the mean latents of three samples each")
        return Evaluation(pictures=pictures)

    return Evaluator("arithmetic", split, when, evaluate)


def numbered(images: np.ndarray, columns: int = 10) -> Any:
    """Returns a matplotlib Figure of images uint8 [n, H, W, C] with their numbers, to pick exemplars from."""
    from matplotlib.figure import Figure

    gap = 10
    height, width = images.shape[1:3]
    num_rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 0.8, num_rows * 0.8 * (height + gap) / (width + gap)), layout="constrained")
    ax = figure.subplots()
    ax.imshow(image_grid(images, columns, gap), interpolation="nearest")
    ax.axis("off")
    for i in range(len(images)):
        ax.text((i % columns) * (width + gap), (i // columns) * (height + gap) - 2, str(i), fontsize=7)
    return figure
