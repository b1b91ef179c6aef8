"""A small convolutional classifier that judges pictures, trained on the spot from a labelled source.

    judge = train_classifier(images, {"label": labels}, num_steps=1000)
    judge(images)["label"]              # probabilities [N, K]
    coverage = class_coverage(sampler, get_judge, ...)

It sees no sample while it trains, and depends on no seed of the run: all runs on a source meet the same judge.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrepro.evaluators.samples import Sampler
from jaxrepro.experiment import Evaluation, Evaluator, When
from jaxrepro.layers import Conv
from jaxrepro.training.batched import map_batches
from jaxrepro.training.fit import fit

Judge = Callable[[Any], dict[str, jax.Array]]

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
EVEN_SHARE = 0.1  # a class is covered if it gets this part of what it would get of an even distribution


class Classifier(nn.Module):
    """Three convolutions with stride 2, a dense layer, and one head per column: {column: logits [B, K]}."""

    num_classes: Mapping[str, int]

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Args: images: uint8 [B, H, W, C]."""
        x = images.astype(jnp.float32) / 127.5 - 1
        for width in (16, 32, 64):
            x = nn.relu(Conv(width, (3, 3), 2, padding="SAME")(x))
        x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
        return {name: nn.Dense(num, name=f"head_{name}")(x) for name, num in self.num_classes.items()}


def train_classifier(images: np.ndarray, columns: Mapping[str, np.ndarray], num_steps: int) -> Judge:
    """Trains a classifier with Adam and cosine decay; always from the same seed.

    Args:
      images: uint8 [N, H, W, C].
      columns: name -> integers or booleans [N] from 0; every column is predicted.
      num_steps: of batch 64.

    Returns:
      A function from uint8 images [N, H, W, C] to {column: probabilities float32 [N, K]}.
    """
    num_classes = {name: int(np.max(values)) + 1 for name, values in columns.items()}
    model = Classifier(num_classes)

    def loss(params, batch):
        images, columns = batch
        logits = model.apply(params, images)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        return sum(cross_entropy(logits[name], columns[name]).mean() for name in columns)

    arrays = (images, {name: np.asarray(values, np.int32) for name, values in columns.items()})
    params = fit(
        lambda key, row: model.init(key, row[0]),
        loss,
        arrays,
        num_steps=num_steps,
        batch_size=BATCH_SIZE,
        lr=LEARNING_RATE,
    )
    predict = jax.jit(lambda params, images: map_batches(lambda b: model.apply(params, b), images, 256))
    return lambda images: jax.tree.map(jax.nn.softmax, predict(params, images))


def class_coverage(
    sampler: Sampler,
    get_judge: Callable[[], Judge],
    column: str,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    *,
    num_samples: int,
    split: str,
    when: When,
) -> Evaluator:
    """Returns the evaluator that classifies samples.

    Metrics: `classes_covered`, how many classes get at least a tenth of an even share of the samples;
    `class_entropy`, of the shares, in nats (log K where all are equal); `confidence`, the judge's mean largest
    probability on samples; `confidence_of_test` and `judge_accuracy`, the same and its accuracy on test images.

    Args:
      get_judge: trains the judge or returns the trained one.
      column: what it predicts and the samples are counted by.
      test_images, test_labels: uint8 [N, H, W, C], int [N].
    """
    generate = jax.jit(sampler.generate)

    def evaluate(state, arrays, context) -> Evaluation:
        judge = get_judge()
        images = generate(state, sampler.draw(context.key, num_samples), sampler.labels(num_samples))
        found = np.asarray(judge(images)[column])
        on_test = np.asarray(judge(arrays["image"])[column])
        num_classes = found.shape[1]
        shares = np.bincount(found.argmax(1), minlength=num_classes) / num_samples
        positive = shares[shares > 0]
        return Evaluation(
            {
                "classes_covered": float((shares >= EVEN_SHARE / num_classes).sum()),
                "class_entropy": float(-(positive * np.log(positive)).sum()),
                "confidence": float(found.max(1).mean()),
                "confidence_of_test": float(on_test.max(1).mean()),
                "judge_accuracy": float((on_test.argmax(1) == np.asarray(arrays["label"])).mean()),
            }
        )

    return Evaluator("class_coverage", split, when, evaluate, {"image": test_images, "label": test_labels})
