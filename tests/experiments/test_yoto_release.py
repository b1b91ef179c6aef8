"""YOTO's preset `paper` against what the released code does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yoto_reference import KEY, TINY, config_of, params_of, plain_release

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.experiments import yoto
from jaxrepro.mesh import leaf_path


@pytest.mark.slow
def test_the_released_initial_values():
    """Dense and FiLM: variance 2 / fan-in; convolutions 2 / 1.09 / fan, TensorFlow's fan-in of transposed ones."""
    for name, average in (("yoto_cifar", True), ("yoto_shapes3d", False)):
        for path, a in params_of(config_of(name, "paper"))["conditional"].items():
            if path.endswith("bias"):
                assert not a.any(), path
                continue
            if a.ndim == 2:
                variance = 2 / len(a)
            else:
                fans = 9 * a.shape[2], 9 * a.shape[3]
                fan_in = fans[1] if "ConvTranspose" in path else fans[0]
                variance = 2 / 1.09 / (sum(fans) / 2 if average else fan_in)
            tolerance = 4 / a.size**0.5 + 0.01
            assert abs(a.std() / variance**0.5 - 1) < tolerance, (name, path)
            assert np.abs(a).max() < 2.3 * variance**0.5, "truncated at two deviations of the untruncated normal"


def test_the_release_trains_on_the_last_80_percent():
    for name in ("yoto_cifar", "yoto_shapes3d"):
        assert config_of(name, "paper").data.train == "train[20%:]"


def test_the_release_decays_all_weights_but_those_of_film():
    config = config_of("yoto_cifar", "paper", beta__baselines=(16.0,))
    small = TINY | {"image_shape": (8, 8, 3), "num_blocks": 1, "layers_per_block": 1, "film_hidden": 2}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **small))
    made = jax.jit(lambda key: yoto.init_params(config, key), compiler_options=QUICK_COMPILE)(KEY)
    for name, beta in (("conditional", 0.0), ("fixed_beta_16", 16.0)):
        optimizer, params = yoto.make_optimizer(yoto.optim_of(config, beta), 1000), made[name]

        def step_of_zero(params, optimizer=optimizer):
            zero = jax.tree.map(jnp.zeros_like, params)
            return optimizer.descend(zero, optimizer.init(params), params, 100.0)[0]

        new = jax.jit(step_of_zero, compiler_options=QUICK_COMPILE)(params)
        for (path, before), after in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(new)):
            kept = 1.0 if "FiLM" in leaf_path(path) else 1 - 100 * 1e-5
            np.testing.assert_allclose(after, kept * np.asarray(before), rtol=1e-6, err_msg=leaf_path(path))


@pytest.mark.slow
def test_a_step_of_the_release_is_that_of_its_network_in_plain_arithmetic():
    """Terms of every example, the gradient with a beta of its own each, Adam, then the decay of all but FiLM."""
    config = config_of("yoto_cifar", "paper")
    small = TINY | {"image_shape": (8, 8, 3), "num_blocks": 1, "film_hidden": 4}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, width=1, **small))
    model, quick = yoto.make_model(config, 0.0), {"compiler_options": QUICK_COMPILE}
    optimizer = yoto.make_optimizer(yoto.optim_of(config, 0.0), 10**7)
    with jax.enable_x64(True):  # so that rounding hides nothing
        params = jax.jit(lambda key: yoto.init_params(config, key), **quick)(KEY)["conditional"]
        params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)))
        beta, noise = jnp.array([0.125, 2.0, 16.0, 512.0]), jax.random.normal(KEY, (4, 3))  # log 1 is at the kink

        def plain(p):
            reconstruction, kl = plain_release(p, images, beta, noise)
            return (reconstruction + beta * kl).mean(), (reconstruction, kl)

        ours = jax.jit(jax.grad(lambda p: yoto.loss(config, model, p, images, beta, KEY), has_aux=True), **quick)
        (grads, terms), (expected, (reconstruction, kl)) = (
            ours(params),
            jax.jit(jax.grad(plain, has_aux=True), **quick)(params),
        )
        np.testing.assert_allclose(terms["reconstruction"], reconstruction, rtol=1e-9)
        np.testing.assert_allclose(terms["kl"], kl, rtol=1e-9)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), grads, expected)
        step = jax.jit(lambda g, p: optimizer.descend(g, optimizer.init(p), p, 1e-4)[0], **quick)
        new = step(expected, params)

        def moved(path, p, g):
            after = p - 1e-4 * g / (jnp.abs(g) + 1e-8)
            return after if "FiLM" in leaf_path(path) else after * (1 - 1e-4 * 1e-5)

        moved_params = jax.tree_util.tree_map_with_path(moved, params, expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-8), new, moved_params)
    np.testing.assert_allclose(float(optimizer.rate(0)), 1e-4, rtol=1e-6)
