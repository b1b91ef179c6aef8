"""YOTO's preset `report` against what the reproduction's public code does, line by line."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from contexts import at
from yoto_reference import KEY, TINY, config_of, params_of, plain_report

from jaxrepro import config_file
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import DataConfig
from jaxrepro.data.dataset import table_from_arrays
from jaxrepro.data.splits import ordered_by
from jaxrepro.errors import UserError
from jaxrepro.experiments import yoto
from jaxrepro.losses import vae as losses
from jaxrepro.mesh import leaf_path
from jaxrepro.models.conv_vae import condition_of
from jaxrepro.training.loss_weights import KLConfig, Reduction
from jaxrepro.training.members import ends_epoch, member_metrics

leaves = jax.tree_util.tree_leaves_with_path


def num_params(config):
    shapes = jax.eval_shape(lambda: yoto.init_params(config, KEY))
    return {name: sum(a.size for a in jax.tree.leaves(tree)) for name, tree in shapes.items()}


def dense(n_in, n_out):
    return n_in * n_out + n_out


def conv(n_in, n_out):
    return 9 * n_in * n_out + n_out


def test_the_report_trains_on_50_000_images_as_they_are_between_0_and_1():
    config = config_of("yoto_cifar")
    assert (config.data.train, config.data.test) == ("train", "test")
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(yoto.prepare(config, images, KEY), images / 255, atol=1e-6)


def test_the_reports_shapes_are_the_means_of_two_by_two_pixels():
    config = config_of("yoto_shapes3d")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    means = images.reshape(2, 32, 2, 32, 2, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(yoto.prepare(config, jnp.asarray(images), KEY), means, atol=1e-6)


def test_the_reports_shapes_are_rows_in_the_order_of_the_file():
    config = config_of("yoto_shapes3d")
    assert (config.data.train, config.data.test) == ("train[:100000]", "train[100000:110000]")
    factors = np.array(np.meshgrid(*[range(2)] * 6, indexing="ij")).reshape(6, -1).T  # the last one fastest
    shuffled = np.random.default_rng(0).permutation(64)
    columns = {name: factors[shuffled, i] for i, name in enumerate(config.order_by)}
    table = table_from_arrays("shapes", {"image": shuffled.astype(np.uint8), **columns})
    np.testing.assert_array_equal(ordered_by(table, config.order_by).arrays()["image"], np.arange(64))
    with pytest.raises(UserError, match="did you mean 'label_shape'"):
        ordered_by(table, ("label_shap",))


@pytest.mark.parametrize("width", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_the_reports_cifar_nets_have_the_parameters_counted_by_hand(width):
    a, b, c = 8 * width, 16 * width, 32 * width
    encoder = conv(3, a) + conv(a, a) + conv(a, b) + conv(b, b) + conv(b, c) + conv(c, c)
    encoder += dense(16 * c, 256) + dense(256, 512) + 2 * dense(512, 256)
    decoder = dense(256, 256) + dense(256, 512)
    decoder += conv(32, c) + conv(c, b) + conv(b, b) + conv(b, a) + conv(a, a) + conv(a, 3)
    film = sum(2 * dense(256, channels) for channels in (a, b, c, b, a, 3))
    found = num_params(config_of("yoto_cifar", model__width=width))
    assert found == {"conditional": encoder + decoder + film} | {
        f"fixed_beta_{beta}": encoder + decoder for beta in (1, 16, 64, 256)
    }


@pytest.mark.parametrize("width", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_the_reports_shapes_nets_end_in_32_channels_at_every_width(width):
    a, b, c = 8 * width, 16 * width, 32 * width
    encoder = conv(3, a) + conv(a, a) + conv(a, b) + conv(b, b) + conv(b, c) + conv(c, 32)
    encoder += dense(512, 256) + dense(256, 512) + 2 * dense(512, 256)
    decoder = dense(256, 256) + dense(256, 512)
    decoder += conv(32, c) + conv(c, b) + conv(b, b) + conv(b, a) + conv(a, a) + conv(a, 3)
    film = sum(2 * dense(256, channels) for channels in (a, b, 32, b, a, 3))
    found = num_params(config_of("yoto_shapes3d", model__width=width))
    assert found == {"conditional": encoder + decoder + film} | {
        f"fixed_beta_{beta}": encoder + decoder for beta in (1, 128, 512)
    }


def test_the_reports_initial_values_are_pytorchs():
    """Uniform in ±1 / sqrt(fan-in), weights and biases; of a transposed convolution the fan-in is over its outputs."""
    params = params_of(config_of("yoto_cifar", beta__baselines=()))["conditional"]
    for path, a in params.items():
        layer, _, kind = path.rpartition("/")
        kernel = params[f"{layer}/kernel"].shape
        fan_in = 9 * kernel[3] if "ConvTranspose" in layer else int(np.prod(kernel[:-1]))
        bound = fan_in**-0.5
        assert kind in ("kernel", "bias")
        assert np.abs(a).max() <= bound, path
        if a.size >= 200:
            assert abs(a.std() / (bound / 3**0.5) - 1) < 0.15, path
        elif a.size >= 8:
            assert np.abs(a).max() > 0.5 * bound, path


def test_the_reports_networks_see_beta_itself_256_times():
    seen = condition_of(config_of("yoto_cifar").model, jnp.array([0.125, 512.0]))
    np.testing.assert_array_equal(seen, np.repeat([[0.125], [512.0]], 256, axis=1))


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """One update of the report's preset with tiny nets: (config, state before, batch, state after, metrics)."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    np.savez(path, train_images=images, test_images=images)
    config = config_of("yoto_cifar")
    config = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, batch_size=8),
        data=DataConfig(source=f"npz:{path}", test="test"),
        model=dataclasses.replace(config.model, **TINY),
        beta=dataclasses.replace(config.beta, baselines=(16.0,)),
    )
    experiment = yoto.build(config)
    before = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    batch = {"image": experiment.source.arrays["image"][:8]}
    after, metrics = jax.jit(experiment.update, compiler_options=QUICK_COMPILE)(before, batch, at())
    return config, before, batch, after, metrics


@pytest.mark.parametrize("member", ["conditional", "fixed_beta_16"])
def test_a_step_of_the_report_is_that_of_its_network_in_plain_arithmetic(step, member):
    """Loss, gradient, L2 of every parameter added to it, Adam's first step of 1e-4 with eps 1e-8."""
    config, before, batch, after, metrics = step
    _, beta_key, sample_key = jax.random.split(KEY, 3)
    beta = yoto.sample_beta(config.beta, beta_key, 8) if member == "conditional" else jnp.full(8, 16.0)
    noise = jax.random.normal(sample_key, (8, 3))
    params, images = before[member].params, batch["image"] / np.float32(255)

    @jax.jit
    def value(p):
        reconstruction, kl, _ = plain_report(p, images, beta, noise)
        return reconstruction + beta[0] * kl, (reconstruction, kl)

    grads, (reconstruction, kl) = jax.grad(value, has_aux=True)(params)
    prefix = "" if member == "conditional" else f"{member}/"
    np.testing.assert_allclose(metrics[f"{prefix}reconstruction"].value, reconstruction, rtol=1e-5)
    np.testing.assert_allclose(metrics[f"{prefix}kl"].value, kl, rtol=1e-5)
    g = jax.tree.map(lambda g, p: g + 1e-5 * p, grads, params)
    expected = jax.tree.map(lambda p, g: p - 1e-4 * g / (jnp.abs(g) + 1e-8), params, g)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=3e-7), after[member].params, expected)
    moments = next(s for s in jax.tree.leaves(after[member].opt_state, is_leaf=lambda s: hasattr(s, "mu")) if s)
    jax.tree.map(lambda m, g: np.testing.assert_allclose(m, 0.1 * g, rtol=2e-3, atol=1e-5), moments.mu, g)


def test_the_report_modulates_every_second_convolution_and_the_output(step):
    config, before, *_ = step
    films = {leaf_path(path): a.shape for path, a in leaves(before["conditional"].params) if "FiLM" in leaf_path(path)}
    kernels = [shape for path, shape in sorted(films.items()) if path.endswith("kernel")]
    assert kernels == [(256, 2 * 2), (256, 2 * 3), (256, 2 * 2), (256, 2 * 4)]  # decoder to 2 and 3, encoder to 2 and 4
    model, z = yoto.make_model(config, 0.0), jnp.ones((1, 3))
    params = jax.tree.map(jnp.copy, before["conditional"].params)
    raw = jnp.array([-1e4] * 3 + [0.0, 1e4, -1e4])
    params["decoder_blocks_1"]["FiLM_0"]["both"] = {"kernel": jnp.zeros((256, 6)), "bias": raw}
    decode = jax.jit(
        lambda p: model.apply({"params": p}, z, jnp.ones(1), method="decode"), compiler_options=QUICK_COMPILE
    )
    output = decode(params)  # sigma is 0, mu 1/2, 1 and 0
    np.testing.assert_allclose(output, np.broadcast_to([0.5, 1.0, 0.0], (1, 16, 16, 3)), atol=1e-6)


def test_the_last_batch_of_an_epoch_is_logged_apart(step):
    metrics = step[-1]
    assert metrics["last_batch_kl"].count == 0  # the first of three batches
    assert metrics["fixed_beta_16/last_batch_reconstruction"].count == 0
    values = {"kl": jnp.arange(8.0), "reconstruction": jnp.ones(8), "loss": jnp.ones(8)}
    assert member_metrics({"conditional": values}, jnp.bool_(True))["last_batch_kl"].value == 3.5
    assert [i for i in range(9) if ends_epoch(jnp.int32(i), 2.5, 9)] == [2, 4, 7, 8]


def test_the_reports_kl_as_run_and_correct():
    rng = np.random.default_rng(0)
    mean, s = rng.normal(size=(5, 256)), rng.normal(size=(5, 256))
    as_run = losses.squared_head_kl(mean, s) / 256
    np.testing.assert_allclose(as_run, 0.5 * (mean**2 + s**2 - np.log(s**2) - 1).mean(1), rtol=1e-5)
    correct = losses.gaussian_kl(mean, np.exp(s / 2))
    np.testing.assert_allclose(correct, 0.5 * (mean**2 + np.exp(s) - s - 1).sum(1), rtol=1e-4)
    assert losses.squared_head_kl(np.zeros((1, 1)), np.ones((1, 1))) == 0


@pytest.mark.slow
def test_both_slips_of_the_kl_have_keys(step):
    config, before, batch, *_ = step
    noise_key = jax.random.key(3)
    images, beta = batch["image"] / np.float32(255), jnp.full(8, 4.0)
    model = yoto.make_model(config, 0.0)

    def kl(**changes):
        c = dataclasses.replace(config, kl=KLConfig(**changes))
        terms = jax.jit(lambda p: yoto.elbo_terms(c, model, p, images, beta, noise_key))(before["conditional"].params)
        return terms["kl"].mean()

    noise = jax.random.normal(noise_key, (8, 3))
    _, as_run, right = jax.jit(plain_report)(before["conditional"].params, images, beta, noise)
    np.testing.assert_allclose(kl(reduction=Reduction.MEAN, squared_head=True), as_run, rtol=1e-5)
    np.testing.assert_allclose(kl(), right, rtol=1e-4)
    assert config.kl == KLConfig(Reduction.MEAN, True)
    with pytest.raises(UserError, match=r"squared_head needs model\.layout='report'"):
        config_of("yoto_cifar", "paper", kl__squared_head=True)


def test_the_report_draws_one_beta_per_batch_log_uniform():
    config = config_of("yoto_cifar").beta
    drawn = np.stack([yoto.sample_beta(config, jax.random.key(i), 6) for i in range(300)])
    assert (drawn == drawn[:, :1]).all()
    assert scipy.stats.kstest(np.log2(drawn[:, 0]), scipy.stats.uniform(-3, 12).cdf).pvalue > 0.01


def test_the_report_has_adam_at_1e_4_batches_of_128_100_epochs_and_its_fixed_weights():
    for name, betas in (("yoto_cifar", (1, 16, 64, 256)), ("yoto_shapes3d", (1, 128, 512))):
        config = config_of(name)
        assert (config.optim.name, config.optim.schedule, config.optim.lr) == ("adam", "constant", 1e-4)
        assert (config.optim.b1, config.optim.b2, config.optim.eps, config.optim.l2) == (0.9, 0.999, 1e-8, 1e-5)
        assert (config.train.batch_size, config.train.duration) == (128, "100 epochs")
        assert config.beta.baselines == betas
        assert [p["model.width"] for p in config_file.sweep_points(f"configs/{name}.py:report")] == [1, 2, 4]
