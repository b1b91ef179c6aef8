"""What a classifier sees in each class: the mean of its last features over the class's images, for other programs.

Synbols (Lacoste et al., 2020): near-duplicate fonts are found by joining the mean embeddings of a classifier of fonts;
`python -m jaxrepro.synbols similar --embeddings=…` reads what this evaluator writes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.experiment import Evaluation, Evaluator, When
from jaxrepro.training.batched import map_batches
from jaxrepro.training.classification import Task, chosen_variables
from jaxrepro.training.precision import apply_in


def class_embeddings(
    name: str, task: Task, arrays: Mapping[str, np.ndarray], names: Sequence[str], when: When = When(end=True)
) -> Evaluator:
    """Returns the evaluator that keeps arrays/NAME.npz: `names` [K] and `embeddings` float32 [K, D].

    Args:
      arrays: "image" uint8 [N, H, W, C], "label" int32 [N]; classes of which there is no image are left out.
      names: of the classes.
    """
    embed_all = jax.jit(
        lambda variables, images: map_batches(lambda b: features(task, variables, b), images, task.batch_size)
    )

    def evaluate(state, arrays, context) -> Evaluation:
        found = np.asarray(embed_all(chosen_variables(state), arrays["image"]), np.float64)
        labels = np.asarray(arrays["label"])
        present = np.unique(labels)
        means = np.stack([found[labels == label].mean(axis=0) for label in present]).astype(np.float32)
        return Evaluation(arrays={name: {"names": np.array([names[i] for i in present]), "embeddings": means}})

    return Evaluator(name, "test", when, evaluate, dict(arrays))


def features(task: Task, variables: Any, images: jax.Array) -> jax.Array:
    """Returns what the last linear layer of a task's network sees, float32 [B, D], of images uint8 [B, H, W, C]."""
    seen = []

    def keep(next_function, args, kwargs, context):
        if context.method_name == "__call__" and isinstance(context.module, nn.Dense):
            seen.append(args[0])
        return next_function(*args, **kwargs)

    with nn.intercept_methods(keep):
        apply_in(task.precision, task.network, variables, task.prepare(images, None), train=False)
    return seen[-1].reshape(len(images), -1).astype(jnp.float32)
