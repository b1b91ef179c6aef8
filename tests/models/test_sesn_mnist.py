"""SESN Scalar and Vector: published counts, and the order of operations of the paper."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.layers import SteerableBasis, geometric_scales, lift, multi_level_functions, scale_conv
from jaxrepro.layers.steerable_conv import Strategy
from jaxrepro.models.scale.frame import Frame
from jaxrepro.models.scale.methods import make_model
from jaxrepro.models.scale.sesn import SESN

TINY = {
    "num_scales": 3,
    "scale_factor": 3.0,
    "sigma_min": 1.0,
    "mult": 1.5,
    "kernel_size": 9,
    "effective_size": 3,
}
FRAME = Frame(channels=(2, 3, 4), hidden=5)


@pytest.mark.parametrize("method", ["SESN Scalar", "SESN Vector"])
@pytest.mark.parametrize("resolution", [28, 56])
@pytest.mark.parametrize("tuned_with_zoom", [False, True])
def test_both_have_the_published_number_of_parameters(method, resolution, tuned_with_zoom):
    model = make_model(method, resolution, tuned_with_zoom)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), False))
    assert sum(np.prod(p.shape) for p in jax.tree.leaves(variables["params"])) == 494_549


@pytest.mark.parametrize(("vector", "resolution"), [(False, 28), (True, 28), (True, 56)])
def test_maxima_first_gives_what_the_papers_order_gives(vector, resolution):
    """Bias and ReLU before projection and pooling, pooling by flax, zero-padded convolutions."""
    model = SESN(**TINY, vector=vector, frame=dataclasses.replace(FRAME, resolution=resolution))
    images = jax.random.normal(jax.random.key(0), (2, 28, 28, 1))
    variables = jax.jit(lambda: model.init(jax.random.key(1), images, False))()
    params = {**variables["params"], **{f"bias_{i}": jnp.linspace(-0.1, 0.2, i + 1) for i in (1, 2, 3)}}
    basis = SteerableBasis(9, geometric_scales(1.0, 3.0, 3), multi_level_functions(9, 1.5))

    @jax.jit
    def expected():
        x = images.repeat(resolution // 28, 1).repeat(resolution // 28, 2)
        for i in (1, 2, 3):
            name = "SESConvH_" + str(i - 2) if vector and i > 1 else f"SESConv_{i - 1}"
            layer = scale_conv if vector and i > 1 else lift
            x = layer(x, params[name]["kernel"], basis, strategy=Strategy.PADDED) + params[f"bias_{i}"]
            x = x if vector and i < 3 else x.max(3, keepdims=True)
            window, pads = (2, "VALID") if i < 3 else (resolution // 7, ((2, 2), (2, 2)))
            scales = [
                nn.max_pool(nn.relu(x[:, :, :, s]), (window,) * 2, (window,) * 2, pads) for s in range(x.shape[3])
            ]
            x = jnp.stack(scales, 3) / np.sqrt(1 + 1e-5)
            x = x if vector and i < 3 else x[:, :, :, 0]
        dense, logits = params["Head_0"]["Dense_0"], params["Head_0"]["Dense_1"]
        hidden = nn.relu(x.reshape(2, -1) @ dense["kernel"] / np.sqrt(1 + 1e-5))
        return hidden @ logits["kernel"] + logits["bias"]

    actual = jax.jit(lambda: model.apply({**variables, "params": params}, images, False))()
    np.testing.assert_allclose(actual, expected(), atol=1e-5)


@pytest.mark.parametrize("vector", [False, True])
def test_gradients_reach_every_parameter(vector):
    model = SESN(**TINY, vector=vector, frame=FRAME)
    images = jax.random.normal(jax.random.key(0), (4, 28, 28, 1))
    variables = jax.jit(lambda: model.init(jax.random.key(1), images, False))()

    @jax.jit
    @jax.grad
    def gradients(params):
        key = {"dropout": jax.random.key(2)}
        logits, _ = model.apply({**variables, "params": params}, images, True, mutable=["batch_stats"], rngs=key)
        return jnp.sum(logits**2)

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(variables["params"])):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path
