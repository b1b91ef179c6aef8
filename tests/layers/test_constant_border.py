"""Convolutions without the arithmetic of a constant border give what the whole map gives, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.layers.constant_border import Bordered, bordered, conv_block

CHANNELS = ((3, 4), (5,), (4, 6, 5), (3, 4, 4), (4, 4))  # of the blocks


def random_weights(key):
    blocks, channels = [], 2
    for block in CHANNELS:
        blocks.append([])
        for features in block:
            key, kernel_key, bias_key = jax.random.split(key, 3)
            kernel = jax.random.normal(kernel_key, (3, 3, channels, features)) / np.sqrt(4.5 * channels)
            blocks[-1].append((kernel, jax.random.normal(bias_key, (features,)) / 5))
            channels = features
    return blocks


def run(images, blocks, border, *, short):
    """Returns the maps after every block, and how many of these were computed without the border."""
    x, maps, num_short = bordered(images, border), [], 0
    x = x if short else x.assembled()
    for weights in blocks:
        if isinstance(x, Bordered) and not x.fits(len(weights)):
            x = x.assembled()
        num_short += isinstance(x, Bordered)
        x = x.conv_block(weights) if isinstance(x, Bordered) else conv_block(x, weights)
        maps.append(x.assembled() if isinstance(x, Bordered) else x)
    return maps, num_short


@pytest.mark.parametrize(("side", "border"), [(32, 99), (33, 99), (47, 80), (40, 45)])
def test_maps_and_gradients_are_those_of_the_whole_map(side, border):
    blocks = random_weights(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (2, side, side, 2))
    maps, num_short = run(images, blocks, border, short=True)
    whole, _ = run(images, blocks, border, short=False)
    assert num_short >= (4 if border == 99 else 2)
    for a, b in zip(maps, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert float(jnp.abs(b).max()) > 0.1

    def loss(given, short):
        found, _ = run(*given, border, short=short)
        return sum((jnp.sin(3 * x + jnp.arange(x.size).reshape(x.shape) / 100)).sum() for x in found[2:])

    a, b = (jax.grad(lambda given: loss(given, short))((images, blocks)) for short in (True, False))  # noqa: B023
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3), a, b)


def test_a_narrow_border_does_not_fit():
    assert not bordered(jnp.zeros((1, 32, 32, 3)), 4).fits(2)
    assert bordered(jnp.zeros((1, 32, 32, 3)), 5).fits(2)
