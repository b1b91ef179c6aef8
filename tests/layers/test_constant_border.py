"""Convolutions without the arithmetic of a constant border give what the whole map gives, gradients included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.layers.constant_border import Bordered, bordered, conv_block

CHANNELS = ((3, 4), (5, 3), (4, 6, 5), (3, 4, 4), (4, 4, 3))  # of the blocks


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


@functools.partial(jax.jit, static_argnums=(2, 3), compiler_options=QUICK_COMPILE)
def maps_and_gradients(images, blocks, border, short):
    """Returns the last three maps, and gradients of a function of theirs."""

    def loss(images, blocks):
        maps = run(images, blocks, border, short=short)[0][-3:]
        return sum(jnp.sin(3 * x + jnp.arange(x.size).reshape(x.shape) / 100).sum() for x in maps), maps

    grads, maps = jax.grad(loss, argnums=(0, 1), has_aux=True)(images, blocks)
    return maps, grads


def test_maps_are_those_of_the_whole_map():
    blocks, images = random_weights(jax.random.key(0))[:2], jax.random.normal(jax.random.key(1), (2, 9, 9, 2))
    maps = jax.jit(
        lambda x, short: run(x, blocks, 24, short=short)[0], static_argnums=1, compiler_options=QUICK_COMPILE
    )
    for a, b in zip(maps(images, True), maps(images, False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert float(jnp.abs(b).max()) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("side", "border"), [(32, 99), (33, 99), (47, 80)])
def test_maps_and_gradients_of_five_blocks_are_those_of_the_whole_map(side, border):
    blocks = random_weights(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (2, side, side, 2))
    (maps, grads), (whole, expected) = (maps_and_gradients(images, blocks, border, short) for short in (True, False))
    for a, b in zip(maps, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert float(jnp.abs(b).max()) > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), grads, expected)


def test_four_blocks_of_the_published_network_fit_and_a_narrow_border_does_not():
    blocks = random_weights(jax.random.key(0))
    num_short = []
    jax.eval_shape(lambda x: num_short.append(run(x, blocks, 99, short=True)[1]), jnp.zeros((1, 128, 128, 2)))
    assert num_short == [4]
    assert not bordered(jnp.zeros((1, 32, 32, 3)), 4).fits(2)
    assert bordered(jnp.zeros((1, 32, 32, 3)), 5).fits(2)
