"""Training steps of VAE and Deep InfoMax against plain jnp, their losses, cycles of beta, probes beside them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import representation_reference as reference
from contexts import at

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import OptimConfig
from jaxrepro.data.attributes import Attribute
from jaxrepro.losses import infomax, vae
from jaxrepro.models.hvae import HVAE, Decoder
from jaxrepro.models.infomax import DeepInfoMax, InfoMaxEncoder
from jaxrepro.models.probes import probe_network
from jaxrepro.models.residual_encoder import ResidualEncoder
from jaxrepro.training import representation
from jaxrepro.training.loss_weights import CyclicalConfig, cyclical_beta
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.probes import make_heads
from jaxrepro.training.representation import Autoencoder, InfoMax, Outcome, Task

pytestmark = pytest.mark.usefixtures("plain_convolutions")
RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)
CODE, NARROW = 4, (2, 3, 4, 5)
RATE = OptimConfig(name="sgd", lr=1.0, momentum=0.0)  # so that a step is the gradient
ATTRIBUTES = (Attribute("char", "label", 3), Attribute("scale", "scale", 0))
jit = functools.partial(jax.jit, compiler_options=QUICK_COMPILE)


def batch_of(side, num=4):
    pixels = RANDOM.integers(0, 256, (num, side, side, 3)).astype(np.uint8)
    return {"image": jnp.asarray(pixels), "char": jnp.arange(num) % 3, "scale": jnp.linspace(0.5, 1.0, num)}


def prepare(images):
    return images / 127.5 - 1


def task_of(method, optim=RATE, heads=()):
    made = make_heads(ATTRIBUTES, probe_network, (6,), (0.5,)) if heads is None else {}
    return Task(method, prepare, make_optimizer(optim, 10), made, batch_size=3)


def start(task, side, num_inputs=CODE):
    images = jnp.zeros((2, side, side, 3))
    return jit(lambda k: representation.init_learner(task, task.method.init(k, images), num_inputs, k))(KEY)


def infomax_network():
    return DeepInfoMax(InfoMaxEncoder(CODE, NARROW), 6, (3, 2), (5, 4))


AUTOENCODERS = {
    "HVAE (2 level)": (
        16, HVAE(InfoMaxEncoder(2 * CODE, NARROW), Decoder(5, (4, 3, 2), 3, 16), (CODE, 3)), reference.infomax_encoder
    ),
    "HVAE (2 level) ResNet": (
        8, HVAE(ResidualEncoder(2 * CODE, (3, 3, 4), (2, 1, 1), 6, 0.0), Decoder(4, (4, 3, 2), 3, 8), (CODE, 3), True),
        lambda x, p: reference.residual_encoder(x, p, [True, False, True, True]),
    ),
    "VAE": (
        16, HVAE(InfoMaxEncoder(2 * CODE, NARROW), Decoder(5, (4, 3, 2), 3, 16), (CODE,)), reference.infomax_encoder
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["HVAE (2 level) ResNet", "VAE", pytest.param("HVAE (2 level)", marks=pytest.mark.slow)]
)
def test_a_training_step_of_an_autoencoder_is_that_of_plain_jnp(name):
    side, network, encoder = AUTOENCODERS[name]
    method = Autoencoder(network, lambda step: jnp.float32(0.3))
    task = task_of(method)
    state, batch, context = start(task, side), batch_of(side), at(5)
    new, metrics = jit(functools.partial(representation.train_step, task))(state, batch, context)
    images = prepare(batch["image"])
    noise = jax.random.normal(jax.random.split(context.key)[0], (len(images), sum(network.codes)))
    params, stats = state.variables["params"], state.variables["batch_stats"]
    value, grads = jit(
        jax.value_and_grad(
            lambda p: reference.autoencoder_loss(p, stats, images, noise, CODE, encoder, 0.3)
        )
    )(params)  # fmt: skip
    assert float(metrics["loss"].value) == pytest.approx(float(value), rel=1e-5)
    moved = jax.tree.map(lambda a, b: a - b, params, new.variables["params"])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        mine = functools.reduce(lambda tree, k: tree[k.key], path, moved)
        scale = float(jnp.abs(grad).max())
        np.testing.assert_allclose(mine, grad, rtol=1e-2, atol=2e-3 * scale + 2e-5, err_msg=str(path))
    kernel = params["decoder"]["UpBlock_0"]["conv1"]["kernel"]
    before, after = (v["decoder"]["UpBlock_0"]["conv1"]["u"] for v in (stats, new.variables["batch_stats"]))
    np.testing.assert_allclose(after, reference.spectral(kernel, before)[1], rtol=1e-4, atol=1e-6)


def test_a_training_step_of_deep_infomax_is_that_of_plain_jnp_and_of_the_released_form():
    task = task_of(InfoMax(infomax_network(), alpha=0.5, beta=1.0, gamma=0.1))
    state, batch, context = start(task, 16), batch_of(16), at(5)
    new, metrics = jit(functools.partial(representation.train_step, task))(state, batch, context)
    uniform = jax.random.uniform(context.key, (4, CODE))
    params = state.variables["params"]
    value, grads = jit(
        jax.value_and_grad(lambda p: reference.infomax_loss(p, prepare(batch["image"]), uniform, 0.5, 1.0, 0.1))
    )(params)
    assert float(metrics["loss"].value) == pytest.approx(float(value), rel=1e-5)
    moved = jax.tree.map(lambda a, b: a - b, params, new.variables["params"])

    def close(mine, grad):
        np.testing.assert_allclose(mine, grad, rtol=1e-2, atol=2e-3 * float(jnp.abs(grad).max()) + 2e-5)

    jax.tree.map(close, moved, grads)


@pytest.mark.slow
def test_the_gradient_of_deep_infomax_agrees_with_finite_differences():
    method, images = InfoMax(infomax_network()), prepare(batch_of(16)["image"])
    variables = jit(lambda k: method.init(k, images))(KEY)
    direction = jax.tree.map(lambda a: jnp.asarray(RANDOM.normal(size=a.shape), jnp.float32), variables["params"])

    def loss(t):
        params = jax.tree.map(lambda p, d: p + t * d, variables["params"], direction)
        return method.run({**variables, "params": params}, images, KEY, jnp.int32(0)).losses.mean()

    at_and_slope, small = jit(jax.value_and_grad(loss)), 2e-3
    above, below = (float(at_and_slope(t)[0]) for t in (small, -small))
    assert float(at_and_slope(0.0)[1]) == pytest.approx((above - below) / (2 * small), rel=0.03)


@pytest.mark.slow
def test_an_encoder_against_the_prior_gets_the_fooling_loss_and_the_discriminator_its_own():
    images = prepare(batch_of(16)["image"])
    method = InfoMax(infomax_network(), alpha=0.0, beta=0.0, gamma=1.0)
    against = InfoMax(infomax_network(), alpha=0.0, beta=0.0, gamma=1.0, prior_adversarial=True)
    variables = jit(lambda k: method.init(k, images))(KEY)

    def grads(method):
        def loss(params):
            outcome = method.run({**variables, "params": params}, images, KEY, jnp.int32(0))
            return outcome.losses.mean() + outcome.rest

        return jit(jax.grad(loss))(variables["params"])

    def fooling(params):
        held = {**variables, "params": {**variables["params"], "encoder": params["encoder"]}}
        _, codes = method.network.apply(held, images, True, mutable=["batch_stats"], method="encode")[0]
        return infomax.fooling(method.network.apply(held, codes, method="prior")).mean()

    helping, playing, wanted = grads(method), grads(against), jit(jax.grad(fooling))(variables["params"])
    same = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-7)
    jax.tree.map(same, playing["prior_discriminator"], helping["prior_discriminator"])
    jax.tree.map(same, playing["encoder"], wanted["encoder"])
    last = "Dense_0"
    assert float((playing["encoder"][last]["kernel"] * helping["encoder"][last]["kernel"]).sum()) < 0


# Losses


def test_the_jensen_shannon_loss_and_its_gradient_are_those_of_the_definition():
    matched, mismatched = RANDOM.normal(0, 2, (2, 3, 2, 2))
    expected = [
        np.mean([np.log(1 + np.exp(t)) for t in mismatched[i].ravel()])
        + np.mean([np.log(1 + np.exp(-t)) for t in matched[i].ravel()])
        for i in range(3)
    ]
    given = jnp.asarray(matched), jnp.asarray(mismatched)
    np.testing.assert_allclose(infomax.jensen_shannon(*given), expected, rtol=1e-5)
    grads = jax.grad(lambda a, b: infomax.jensen_shannon(a, b).sum(), (0, 1))(*given)
    np.testing.assert_allclose(grads[0], -1 / (1 + np.exp(matched)) / 4, rtol=1e-4)
    np.testing.assert_allclose(grads[1], 1 / (1 + np.exp(-mismatched)) / 4, rtol=1e-4)
    np.testing.assert_allclose(infomax.jensen_shannon(jnp.zeros(2), jnp.zeros(2)), 2 * np.log(2), rtol=1e-6)


def test_the_prior_term_stays_finite_where_a_sigmoid_saturates():
    logits = jnp.asarray([-200.0, 0.0, 200.0])
    np.testing.assert_allclose(infomax.prior_matching(logits, logits), [200, 2 * np.log(2), 200], rtol=1e-6)
    np.testing.assert_allclose(infomax.fooling(logits), [200, np.log(2), 0], rtol=1e-6, atol=1e-6)


def test_the_divergence_of_a_latent_is_the_integral_of_its_definition():
    z = np.linspace(-12, 12, 20_001)
    for mean, log_variance in ((0.0, 0.0), (1.5, 0.3), (-0.5, -2.0)):
        std = np.exp(log_variance / 2)
        log_q = -0.5 * ((z - mean) / std) ** 2 - np.log(std)
        integrand = np.exp(log_q) / np.sqrt(2 * np.pi) * (log_q + 0.5 * z**2)
        expected = np.sum(integrand) * (z[1] - z[0])
        found = vae.kl_per_dimension(jnp.float32(mean), jnp.float32(log_variance))
        assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_reconstruction_errors_are_sums_over_pixels_and_channels():
    a, b = RANDOM.normal(size=(2, 3, 2, 2, 3))
    np.testing.assert_allclose(vae.absolute_error(a, b), np.abs(a - b).sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(vae.squared_error(a, b), ((a - b) ** 2).sum((1, 2, 3)), rtol=1e-5)


def test_beta_rises_over_half_of_each_of_four_cycles():
    """200 epochs, as released: 1e-6 at first, linear over 25 epochs, 0.01 for 25."""
    found = [float(cyclical_beta(CyclicalConfig(), epoch, 200)) for epoch in range(200)]
    expected = [0.01 * max(1e-4, min(1.0, (epoch % 50) / 25)) for epoch in range(200)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [found[e] for e in (0, 50, 150)] == pytest.approx([1e-6] * 3)
    assert found[25:50] == pytest.approx([0.01] * 25)
    assert float(cyclical_beta(CyclicalConfig(), 1, 2)) == pytest.approx(1e-6), "fewer epochs than cycles"


# Probes beside the encoder


@dataclasses.dataclass(frozen=True)
class Linear:
    """A method whose code is a linear map of the mean colour, and whose loss is its square."""

    def init(self, key, images):
        return {"params": {"w": jax.random.normal(key, (3, CODE))}, "batch_stats": {}}

    def run(self, variables, images, key, step):
        codes = images.mean((1, 2)) @ variables["params"]["w"]
        losses = jnp.square(codes).sum(-1)
        return Outcome(losses, codes, {"half": losses / 2}, variables["batch_stats"])


def test_probes_learn_beside_the_encoder_and_do_not_touch_it():
    states, batch = [], batch_of(8)
    for heads in ((), None):
        task = task_of(Linear(), heads=heads)
        state = start(task, 8)
        states.append(jit(functools.partial(representation.train_step, task))(state, batch, at(1)))
    (without, _), (with_probes, metrics) = states
    jax.tree.map(np.testing.assert_array_equal, without.variables, with_probes.variables)
    assert bool((without.variables["params"]["w"] != state.variables["params"]["w"]).any())
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.probes, with_probes.probes)
    assert all(all(jax.tree.leaves(probe.variables)) for probe in moved.values())
    names = {f"{kind}/{score}" for kind in ("linear", "mlp") for score in ("char_accuracy", "scale_mae")}
    assert names <= set(metrics)


def test_a_validation_counts_every_image_once_and_remembers_the_best_scores():
    task = task_of(Linear(), heads=None)
    state, valid = start(task, 8), batch_of(8, num=4)
    call = jit(functools.partial(representation.end_of_epoch, task))
    after, found = call(state, valid, at(3))
    outcome = task.method.run(state.variables, prepare(valid["image"]), KEY, None)
    assert float(found["loss"]) == pytest.approx(float(outcome.losses.mean()), rel=1e-5)
    assert float(found["linear/char_accuracy"]) % 25 == 0
    best = {name: -float(found[name]) if "accuracy" in name else float(found[name]) for name in after.best}
    assert {name: float(value) for name, value in after.best.items()} == best
    better = after.replace(best={name: value - 1.0 for name, value in after.best.items()})
    again, _ = call(better, valid, at(4))
    jax.tree.map(np.testing.assert_array_equal, again.best, better.best)
    jax.tree.map(np.testing.assert_array_equal, again.variables, state.variables)
