"""YOTO against closed forms, quadrature, SciPy and counts made by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from contexts import at
from slow_maps import quickly

from jaxrepro import config_file
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import DataConfig, OptimConfig, Precision, TrainConfig, parse
from jaxrepro.experiments import yoto
from jaxrepro.losses import vae as losses
from jaxrepro.models.conv_vae import Conditioning, ConvVAE, VAEConfig
from jaxrepro.training.optim import make_optimizer

KEY = jax.random.key(0)


def config_of(name, preset="paper"):
    return parse(yoto.Config, config_file.load(f"configs/{name}.py:{preset}"))


def tiny(**changes):
    model = {"image_shape": (8, 8, 3), "num_blocks": 1, "base_channels": 2, "width": 1, "hidden": 5, "latent": 3}
    return VAEConfig(**model | {"film_hidden": 4} | changes)


def tiny_config(**changes):
    return dataclasses.replace(config_of("yoto_cifar"), model=tiny(**changes))


def initial(model, images, beta):
    return quickly(model.init, KEY, images, beta, KEY)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def dense(n_in, n_out):
    return n_in * n_out + n_out


def conv(n_in, n_out):
    return 9 * n_in * n_out + n_out


def test_kl_equals_a_quadrature():
    for mean, std in [(0.0, 1.0), (1.5, 0.3), (-2.0, 2.5)]:
        q = scipy.stats.norm(mean, std)
        low, high = mean - 12 * std, mean + 12 * std
        expected, _ = scipy.integrate.quad(
            lambda z, q=q: q.pdf(z) * (q.logpdf(z) - scipy.stats.norm.logpdf(z)), low, high
        )
        found = losses.gaussian_kl(jnp.array([[mean]]), jnp.array([[std]]))
        np.testing.assert_allclose(found, [expected], rtol=1e-5, atol=1e-6)


def test_reconstruction_losses_equal_scipy_summed_over_pixels_and_channels():
    rng = np.random.default_rng(0)
    x, mean, std = rng.normal(size=(3, 4, 4, 2)), rng.normal(size=(3, 4, 4, 2)), rng.uniform(0.1, 2, (3, 4, 4, 2))
    expected = -scipy.stats.norm(mean, std).logpdf(x).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(losses.gaussian_nll(x, mean, std), expected, rtol=1e-5)
    bits, logits = rng.integers(0, 2, (3, 4, 4, 2)), 5 * mean
    expected = -scipy.stats.bernoulli(scipy.special.expit(logits)).logpmf(bits).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(losses.bernoulli_nll(bits, logits), expected, rtol=1e-5)


def test_beta_is_log_uniform_and_drawn_per_example():
    config = yoto.BetaConfig(low=0.125, high=512.0)
    beta = np.asarray(yoto.sample_beta(config, KEY, 4000))
    assert len(np.unique(beta)) > 3900
    assert scipy.stats.kstest(np.log2(beta), scipy.stats.uniform(-3, 12).cdf).pvalue > 0.01


def test_the_released_cifar_net_has_the_parameters_counted_by_hand():
    film = {c: 2 * (dense(2, 512) + dense(512, c)) for c in (16, 32, 64)}
    encoder = conv(3, 16) + conv(16, 16) + conv(16, 32) + conv(32, 32) + conv(32, 64) + conv(64, 64)
    encoder += sum(film.values()) + dense(4 * 4 * 64, 512) + dense(512, 512)
    decoder = dense(256, 512) + dense(512, 1024) + conv(64, 64) + conv(64, 64) + conv(64, 32) + conv(32, 32)
    decoder += conv(32, 16) + conv(16, 16) + sum(film.values()) + conv(16, 6)
    shapes = jax.eval_shape(lambda: yoto.init_params(config_of("yoto_cifar"), KEY))
    assert count(shapes["conditional"]) == encoder + decoder


def test_the_released_shapes3d_net_has_the_parameters_counted_by_hand():
    film = sum(2 * (dense(2, 256) + dense(256, c)) for c in (8, 16, 32, 64))
    encoder = conv(3, 8) + conv(8, 16) + conv(16, 32) + conv(32, 64) + film + dense(1024, 256) + dense(256, 20)
    decoder = dense(10, 256) + dense(256, 1024) + conv(64, 64) + conv(64, 32) + conv(32, 16) + conv(16, 8)
    decoder += film + conv(8, 3)
    shapes = jax.eval_shape(lambda: yoto.init_params(config_of("yoto_shapes3d"), KEY))
    assert count(shapes["conditional"]) == encoder + decoder


def test_a_fixed_weight_model_is_the_same_net_without_its_film_layers():
    config = dataclasses.replace(config_of("yoto_cifar"), beta=yoto.BetaConfig(baselines=(16.0,)))
    shapes = jax.eval_shape(lambda: yoto.init_params(config, KEY))
    film = 2 * sum(2 * (dense(2, 512) + dense(512, c)) for c in (16, 32, 64))
    assert count(shapes["fixed_beta_16"]) == count(shapes["conditional"]) - film


def test_with_zero_film_outputs_the_conditional_net_equals_the_unconditional_one_exactly():
    config = tiny()
    images, beta = jax.random.uniform(KEY, (4, 8, 8, 3)), jnp.array([0.1, 1.0, 10.0, 500.0])
    params = initial(ConvVAE(config), images, beta)["params"]
    apply = jax.jit(ConvVAE(config).apply, compiler_options=QUICK_COMPILE)

    def zeroed(path, leaf):
        return jnp.zeros_like(leaf) if path[-2].key in ("sigma", "mu") else leaf

    def without_film(tree):
        return {k: without_film(v) if isinstance(v, dict) else v for k, v in tree.items() if not k.startswith("FiLM")}

    plain = ConvVAE(dataclasses.replace(config, conditioning=Conditioning.NONE))
    expected = quickly(plain.apply, {"params": without_film(params)}, images, beta, KEY)
    zero = jax.tree_util.tree_map_with_path(zeroed, params)
    jax.tree.map(np.testing.assert_array_equal, apply({"params": zero}, images, beta, KEY), expected)
    for last in ("sigma", "mu"):
        alive = jax.tree_util.tree_map_with_path(lambda p, x, n=last: x + 1.0 if p[-2].key == n else x, zero)
        assert not np.allclose(apply({"params": alive}, images, beta, KEY)[1], expected[1])


@pytest.mark.parametrize(
    ("conditioning", "condition_input", "differs"),
    [
        ("film", "repeated_beta", True),
        ("concat_blocks", "log_weights", True),
        ("concat_input", "log_weights", True),
        ("none", "log_weights", False),
    ],
)
def test_every_way_of_conditioning_sees_beta_and_none_does_not(conditioning, condition_input, differs):
    images = jax.random.uniform(KEY, (2, 8, 8, 3))
    model = ConvVAE(tiny(conditioning=Conditioning(conditioning), condition_input=condition_input, film_scale=1.0))
    variables = initial(model, images, jnp.ones(2))
    apply = jax.jit(model.apply, compiler_options=QUICK_COMPILE)
    low, high = (apply(variables, images, jnp.full(2, b), KEY)[1] for b in (0.5, 100.0))
    assert low.shape == (2, 8, 8, 6)
    assert np.allclose(low, high) != differs


def test_the_gradient_of_the_loss_equals_finite_differences():
    with jax.enable_x64(True):
        model = ConvVAE(tiny())
        images = jax.random.uniform(KEY, (3, 8, 8, 3), jnp.float64)
        beta = jnp.array([0.5, 4.0, 64.0])
        params = initial(model, images, beta)["params"]
        flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda a: a.astype(jnp.float64), params))

        @jax.jit
        def value(v):
            return yoto.loss(tiny_config(), model, unravel(v), images, beta, KEY)[0]

        gradient = jax.jit(jax.grad(value))(flat)
        rng = np.random.default_rng(0)
        for _ in range(5):
            direction = rng.normal(size=flat.shape)
            difference = (value(flat + 1e-5 * direction) - value(flat - 1e-5 * direction)) / 2e-5
            np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-5)


def test_the_loss_weighs_each_example_with_its_own_beta():
    model = ConvVAE(tiny())
    images, beta = jax.random.uniform(KEY, (4, 8, 8, 3)), jnp.array([0.5, 1.0, 8.0, 64.0])
    params = initial(model, images, beta)["params"]
    config = tiny_config()
    terms, (total, found) = quickly(
        lambda p: [f(config, model, p, images, beta, KEY) for f in (yoto.elbo_terms, yoto.loss)], params
    )
    np.testing.assert_allclose(total, np.mean(terms["reconstruction"] + beta * terms["kl"]), rtol=1e-6)
    np.testing.assert_allclose(found["kl"], terms["kl"], rtol=1e-6)


def test_bfloat16_computes_close_to_float32_with_float32_parameters():
    config = tiny_config()
    images, beta = jax.random.uniform(KEY, (4, 8, 8, 3)) * 2 - 1, jnp.ones(4)
    params = quickly(functools.partial(yoto.init_params, config), KEY)["conditional"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    narrow = dataclasses.replace(config, precision=Precision.BFLOAT16)
    losses_found = quickly(
        lambda p: [yoto.loss(c, yoto.make_model(c, 0.0), p, images, beta, KEY)[0] for c in (config, narrow)], params
    )
    assert losses_found[0] != losses_found[1]
    np.testing.assert_allclose(losses_found[1], losses_found[0], rtol=0.02)


def test_images_reach_the_model_in_its_range_and_are_augmented_in_training_only():
    config = config_of("yoto_cifar")
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8))
    plain = yoto.prepare(config, images)
    np.testing.assert_allclose(plain, images / 127.5 - 1, atol=1e-6)
    augmented = quickly(functools.partial(yoto.prepare, config), images, KEY)
    assert augmented.shape == plain.shape
    assert not np.allclose(augmented, plain)
    shapes3d = quickly(functools.partial(yoto.prepare, config_of("yoto_shapes3d")), jnp.tile(images, (1, 2, 2, 1)), KEY)
    assert shapes3d.min() >= 0
    np.testing.assert_allclose(shapes3d, jnp.tile(images, (1, 2, 2, 1)) / 255, atol=1e-6)


def test_the_released_rate_is_halved_four_times():
    for name, drops in (("yoto_cifar", (600, 780, 960, 1140)), ("yoto_shapes3d", (300, 390, 480, 570))):
        config = config_of(name)
        steps = [1000 * d + offset for d in drops for offset in (-1, 0)]
        rates = [float(make_optimizer(config.optim, 10**7).rate(step)) for step in steps]
        expected = config.optim.lr * 0.5 ** np.repeat(np.arange(5), 2)[1:-1]
        np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_every_member_steps_by_the_logged_rate():
    config = dataclasses.replace(
        config_of("yoto_cifar", "smoke"),
        train=TrainConfig(duration="60 steps", batch_size=8),
        optim=OptimConfig(name="sgd", lr=1e-3, momentum=0.0, schedule="cosine", warmup_steps=10),
        data=DataConfig(source="synbols:default?num_samples=200&resolution=8"),
        model=tiny(likelihood="bernoulli"),
        beta=yoto.BetaConfig(baselines=(4.0,)),
    )
    experiment = yoto.build(config)
    state = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    batch = {"image": experiment.source.arrays["image"][:8]}
    update = jax.jit(experiment.update, compiler_options=QUICK_COMPILE)
    rates, changes = [], {name: [] for name in ("conditional", "fixed_beta_4")}
    for step in (0, 5, 10, 35):  # of 60; with the same key the gradient is the same
        new, metrics = update(state, batch, at(step))
        rates.append(float(metrics["learning_rate"]))
        for name, found in changes.items():
            found.append(new[name].params["encoder_hidden"]["kernel"] - state[name].params["encoder_hidden"]["kernel"])
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 5e-4], rtol=1e-5)
    for found in changes.values():
        assert np.abs(found[2]).max() > 1e-4
        for rate, change in zip(rates, found, strict=True):
            np.testing.assert_allclose(change, rate / 1e-3 * found[2], atol=1e-6)
