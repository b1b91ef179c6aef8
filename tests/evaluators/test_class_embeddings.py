"""Mean features of classes: what the last linear layer sees, averaged by hand, kept as an archive."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.evaluators.class_embeddings import class_embeddings, features
from jaxrepro.experiment import Context
from jaxrepro.models.classifiers import make_classifier
from jaxrepro.synbols.fonts import find_fonts, similar
from jaxrepro.training.classification import Classifier, Task
from jaxrepro.writers import save_arrays

NAMES = ("Abril Fatface", "Anton", "Bebas Neue")


class Small(nn.Module):
    """Two linear layers, of which the second is the last."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.relu(nn.Dense(5, name="first")(images.reshape(len(images), -1)))
        return nn.Dense(3, name="second")(x)


def task_of(network):
    return Task(network, lambda images, key: images.astype(jnp.float32) / 255, optimizer=None, batch_size=4)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (11, 8, 8, 3), np.uint8),
        "label": np.array([0, 2, 2, 0, 2, 0, 0, 2, 2, 0, 2], np.int32),
    }


def embeddings_of(task, variables, arrays):
    evaluator = class_embeddings("fonts", task, arrays, NAMES)
    state = Classifier(variables, None, None, None)
    return evaluator.fn(state, evaluator.arrays, Context(0, 0, jax.random.key(0))).arrays


def test_an_embedding_is_the_mean_of_what_the_last_layer_sees(arrays, tmp_path):
    task = task_of(Small())
    variables = task.network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), False)
    found = embeddings_of(task, variables, arrays)
    kernel, bias = (np.asarray(variables["params"]["first"][k]) for k in ("kernel", "bias"))
    hidden = np.maximum(arrays["image"].reshape(11, -1) / 255 @ kernel + bias, 0)
    expected = [hidden[arrays["label"] == label].mean(0) for label in (0, 2)]
    np.testing.assert_allclose(found["fonts"]["embeddings"], expected, rtol=1e-4, atol=1e-5)
    assert found["fonts"]["names"].tolist() == ["Abril Fatface", "Bebas Neue"]  # no image shows Anton
    save_arrays(tmp_path, found)
    text = similar.write_list(
        tmp_path / "list.txt", find_fonts(), num_merges=1, embeddings=tmp_path / "arrays" / "fonts.npz"
    )
    assert "2 fonts compared by the embeddings in fonts.npz" in text


@pytest.mark.parametrize(("name", "size"), [("MLP", 256), ("Conv-4 GAP", 256), ("Conv-4 Flat", None)])
def test_every_classifier_of_the_tables_has_features(arrays, name, size):
    task = task_of(make_classifier(name, 3))
    images = jnp.asarray(arrays["image"])
    shapes = jax.eval_shape(lambda key: task.network.init(key, jnp.zeros((1, 8, 8, 3)), False), jax.random.key(0))
    found = jax.eval_shape(lambda v, x: features(task, v, x), shapes, images)
    assert found.ndim == 2
    assert size in (None, found.shape[1])
