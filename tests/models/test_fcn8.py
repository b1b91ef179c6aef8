"""FCN8: published parameters and sizes, the shortcut, its interpolation, and the weights of VGG-16 in it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.layers import conv_transpose2d
from jaxrepro.models.fcn8 import FCN8, bilinear
from jaxrepro.models.trunk import TrunkConfig

TINY = {"blocks": ((2, 3), (3,), (4,), (5,), (3,)), "hidden_size": 6}


@functools.cache
def shapes():
    network = FCN8()
    return jax.eval_shape(lambda k: network.init(k, jnp.zeros((1, 128, 128, 3)), False)["params"], jax.random.key(0))


def test_it_has_the_published_number_of_parameters():
    assert sum(a.size for a in jax.tree.leaves(shapes())) == 134_271_430


def test_layers_of_vgg16_have_its_names_and_shapes():
    network = TrunkConfig(weights="").network(2)
    vgg = jax.eval_shape(lambda k: network.init(k, jnp.zeros((1, 32, 32, 3)), False)["params"], jax.random.key(0))
    own = shapes()
    trunk = {name: layer for name, layer in vgg.items() if name != "Dense_2"}
    assert len(trunk) == 15
    assert jax.tree.map(lambda a: a.shape, trunk) == {k: jax.tree.map(lambda a: a.shape, own[k]) for k in trunk}


EVERY_SIDE = pytest.param(range(96, 201), marks=pytest.mark.slow)


@pytest.mark.parametrize("sides", [(101, 128), EVERY_SIDE], ids=["some", "all"])
@pytest.mark.parametrize("padding", [100, 1])
def test_logits_are_as_large_as_the_image_for_every_side(padding, sides):
    network = FCN8(**TINY, padding=padding)
    params = jax.eval_shape(lambda k: network.init(k, jnp.zeros((1, 64, 64, 3)), False), jax.random.key(0))
    for side in sides:
        images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        found = jax.eval_shape(lambda p, x: network.apply(p, x, False), params, images)
        assert (found.shape, found.dtype) == ((1, side, side, 2), jnp.float32)


def init(network):
    """Returns the variables, drawn in one compiled program."""
    draw = jax.jit(lambda k: network.init(k, jnp.zeros((1, 32, 32, 3)), False), compiler_options=QUICK_COMPILE)
    return draw(jax.random.key(0))


def moved(variables):
    """Returns variables of which none is zero any more."""
    random = np.random.default_rng(0)
    return jax.tree.map(lambda a: a + 0.1 * random.normal(size=a.shape).astype(np.float32), variables)


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 41])
def test_the_shortcut_gives_the_same_logits(side):
    short, whole = FCN8(**TINY), FCN8(**TINY, shortcut=False)
    variables, images = moved(init(FCN8(**TINY, padding=1))), jax.random.normal(jax.random.key(5), (2, side, side, 3))
    a, b = (np.asarray(jax.jit(lambda v, n=n: n.apply(v, images, False))(variables)) for n in (short, whole))
    assert np.ptp(b) > 0.01
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(np.abs(b).max()))


@pytest.mark.slow
def test_all_logits_are_zero_before_training_and_every_key_drops_others():
    network = FCN8(**TINY, padding=1)
    images = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    variables = init(network)
    draw = jax.jit(lambda v, k: network.apply(v, images, True, rngs={"dropout": k}), compiler_options=QUICK_COMPILE)
    assert not np.any(draw(variables, jax.random.key(1)))
    variables = moved(variables)
    one, two = (draw(variables, jax.random.key(seed)) for seed in (1, 2))
    assert (one != two).any()


def test_the_kernel_of_four_pixels_interpolates_with_quarters():
    kernel = np.asarray(bilinear(None, (4, 4, 2, 2)))
    np.testing.assert_allclose(kernel[:, :, 0, 0], np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]))
    assert not kernel[:, :, 0, 1].any()
    kernel = np.asarray(bilinear(None, (16, 16, 1, 1)))[:, :, 0, 0]
    np.testing.assert_allclose(kernel[0], (1 / 16) * (1 - np.abs(np.arange(16) - 7.5) / 8), rtol=1e-6)


@pytest.mark.parametrize(("size", "stride"), [(4, 2), (16, 8)])
def test_a_transposed_convolution_is_the_explicit_sum(size, stride):
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, 3, 5, 2)), random.normal(size=(size, size, 2, 3))
    expected = np.zeros((2, 2 * stride + size, 4 * stride + size, 3))
    for i in range(3):
        for j in range(5):
            patch = np.einsum("bi,hwio->bhwo", x[:, i, j], kernel[::-1, ::-1])
            expected[:, i * stride : i * stride + size, j * stride : j * stride + size] += patch
    found = conv_transpose2d(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), stride, "VALID")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
