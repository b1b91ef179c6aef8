"""Scores against closed forms and a slow reference, and dropout passes against whole passes of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_maps import quickly

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.models import vgg
from jaxrepro.training.acquisition import Averaged, Score, bald, monte_carlo_logits, predictive_entropy, score


def slow_scores(logits):
    """Returns BALD and the entropies of mean probabilities and of mean logits, in float64, an image at a time."""

    def softmax(z):
        e = np.exp(z - z.max())
        return e / e.sum()

    def entropy(p):
        return -sum(x * np.log(x) for x in p if x > 0)

    found = []
    for image in np.asarray(logits, np.float64).swapaxes(0, 1):
        probabilities = [softmax(z) for z in image]
        mean = sum(probabilities) / len(image)
        expected = sum(entropy(p) for p in probabilities) / len(image)
        found.append((entropy(mean) - expected, entropy(mean), entropy(softmax(sum(image) / len(image)))))
    return np.array(found).T


@pytest.mark.parametrize("size", [(1, 5, 3), (20, 7, 26)])
def test_scores_equal_a_slow_reference(size):
    logits = np.random.default_rng(0).normal(scale=4, size=size).astype(np.float32)
    found = bald(logits), predictive_entropy(logits), predictive_entropy(logits, Averaged.LOGITS)
    np.testing.assert_allclose(np.array(found), slow_scores(logits), atol=2e-5)


def test_uniform_passes_have_the_largest_entropy_and_nothing_to_disagree_about():
    logits = jnp.zeros((4, 2, 26))
    np.testing.assert_allclose(predictive_entropy(logits), np.log(26), rtol=1e-6)
    np.testing.assert_allclose(bald(logits), 0, atol=1e-6)


def test_certain_passes_that_agree_score_zero():
    logits = jnp.zeros((4, 2, 5)).at[..., 3].set(1e4)
    np.testing.assert_allclose(predictive_entropy(logits), 0, atol=1e-6)
    np.testing.assert_allclose(bald(logits), 0, atol=1e-6)


def test_two_certain_passes_that_disagree_score_log_2():
    logits = jnp.zeros((2, 1, 5)).at[0, 0, 1].set(1e4).at[1, 0, 3].set(1e4)
    np.testing.assert_allclose(bald(logits), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(predictive_entropy(logits), np.log(2), rtol=1e-6)


def test_scores_that_are_not_finite_become_zero():
    logits = jnp.zeros((2, 3, 4)).at[0, 1, 0].set(jnp.nan).at[1, 2, 2].set(jnp.inf)
    for kind in (Score.BALD, Score.ENTROPY):
        found = score(kind, logits)
        assert found[1] == found[2] == 0
    assert found[0] > 0


def test_a_random_order_is_no_score_of_logits():
    with pytest.raises(ValueError, match="does not depend on logits"):
        score(Score.RANDOM, jnp.zeros((2, 3, 4)))


BLOCKS = ((4,), (6, 6), (8,))


@pytest.fixture(scope="module")
def network():
    model = vgg.VGG16(5, blocks=BLOCKS, hidden_size=16)
    return model, quickly(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), False))


@pytest.mark.parametrize("size", [8, 16, (8, 24)])  # maps of 1×1, 2×2 and 1×3 pixels
def test_passes_share_the_trunk_and_equal_whole_passes_with_the_same_masks(network, size):
    model, variables = network
    shape = (size, size) if isinstance(size, int) else size
    images = jnp.asarray(np.random.default_rng(1).random((3, *shape, 3), np.float32))
    key = jax.random.key(7)
    found = quickly(lambda v, x: monte_carlo_logits(model, v, x, key, 4), variables, images)
    masks = [{"dropout": jax.random.fold_in(key, t)} for t in range(4)]
    one_pass = jax.jit(lambda rngs: unfolded(model, variables, images, rngs), compiler_options=QUICK_COMPILE)
    naive = jnp.stack([one_pass(rngs) for rngs in masks])
    np.testing.assert_allclose(found, naive, atol=1e-5)
    assert float(jnp.abs(naive[0] - naive[1]).max()) > 1e-2, "passes must differ for this to say anything"
    one_pass = jax.jit(lambda rngs: model.apply(variables, images, True, rngs=rngs), compiler_options=QUICK_COMPILE)
    whole = jnp.stack([one_pass(rngs) for rngs in masks])
    np.testing.assert_allclose(found, whole, atol=1e-5)


def unfolded(model, variables, images, rngs):
    """A pass of the whole network with the first dense layer on the 7×7 map that pooling repeats."""
    params, x = variables["params"], images
    layers = iter(range(4))
    for block in BLOCKS:
        for _ in block:
            layer = params[f"Conv_{next(layers)}"]
            dims = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=dims)
            x = jax.nn.relu(x + layer["bias"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = vgg.adaptive_avg_pool(x, 7).reshape(len(x), -1)
    hidden = jax.nn.relu(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    return model.apply(variables, hidden, True, method="classify", rngs=rngs)
