"""The networks of Synbols' table 4: published parameter counts, sizes, and their parts against other computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.errors import UserError
from jaxrepro.layers.conditional_norm import ConditionalBatchNorm
from jaxrepro.models.hvae import UpBlock, double
from jaxrepro.models.infomax import PairScores
from jaxrepro.models.probes import probe_network
from jaxrepro.models.representations import RepresentationConfig, check_images, make_network

pytestmark = pytest.mark.usefixtures("plain_convolutions")
KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
COUNTS = {  # of the whole, and of parts; by hand from the shapes of the released code
    "Deep InfoMax": (24_811_547, {"encoder": 15_865_600, "local_discriminator": 361_985,
                                  "global_discriminator": 8_318_561, "prior_discriminator": 265_401}),
    "VAE": (41_158_915, {"encoder": 28_972_864, "decoder": 12_186_051}),
    "HVAE (2 level)": (54_463_107, {"low_level": 11_075_712, "decoder": 14_414_531}),
    "VAE ResNet": (9_320_777, {"encoder": 5_005_702, "decoder": 4_315_075}),
    "HVAE (2 level) ResNet": (15_743_945, {"low_level": 4_194_432, "low_norm": 256, "decoder": 6_543_555}),
}  # fmt: skip


def shapes_of(config, side=32):
    network, images = make_network(config, (side, side, 3)), jnp.zeros((2, side, side, 3))
    given = (images, KEY, False) if config.is_autoencoder else (images, False)
    return network, jax.eval_shape(lambda key: network.init(key, *given), KEY)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", COUNTS)
def test_networks_have_the_published_numbers_of_parameters(name):
    _, variables = shapes_of(RepresentationConfig(name))
    total, parts = COUNTS[name]
    assert count(variables["params"]) == total
    assert {part: count(variables["params"][part]) for part in parts} == parts


@pytest.mark.parametrize(
    ("inputs", "classes", "hidden", "expected"),
    [
        (64, 26, 0, 1690), (64, 888, 0, 57_720), (128, 26, 0, 3354), (128, 888, 0, 114_552),
        (64, 26, 128, 28_416), (64, 888, 128, 138_752), (128, 26, 256, 105_984), (128, 888, 256, 326_656),
    ],
)  # fmt: skip
def test_probes_have_the_published_numbers_of_parameters(inputs, classes, hidden, expected):
    network = probe_network(classes, hidden)
    shapes = jax.eval_shape(lambda key: network.init(key, jnp.zeros((2, inputs)), False), KEY)
    assert count(shapes["params"]) == expected


def test_the_papers_three_blocks_narrow_codes_and_other_sizes_are_options():
    full, few = (
        shapes_of(RepresentationConfig("VAE ResNet", encoder_blocks=blocks))[1]["params"]["encoder"]
        for blocks in ((2, 1, 2), (1, 1, 1))
    )
    assert count(full) - count(few) == 295_424 + 1_180_672
    network, variables = shapes_of(RepresentationConfig("HVAE (2 level)", codes=(32, 16), width=0.125), side=16)
    images = jnp.zeros((2, 16, 16, 3))
    posterior, output = jax.eval_shape(lambda v: network.apply(v, images, KEY, False), variables)
    assert posterior.mean.shape == (2, 48)
    assert output.shape == (2, 16, 16, 3)
    assert variables["params"]["encoder"]["Conv_3"]["kernel"].shape == (4, 4, 32, 64)


@pytest.mark.parametrize(("name", "shape"), [("VAE", (15, 15, 3)), ("VAE ResNet", (12, 12, 3)), ("VAE", (32, 24, 3))])
def test_images_of_another_size_are_refused_in_one_line(name, shape):
    with pytest.raises(UserError, match=f"images are {shape[0]}×{shape[1]} pixels; {name} needs squares"):
        check_images(RepresentationConfig(name), shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.0}, "width is 0.0"),
        ({"codes": (64,)}, "write \\(64,64\\)"),
        ({"encoder_blocks": (2, 0, 2)}, "2,1,2"),
    ],
)
def test_an_impossible_network_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        RepresentationConfig(**changes)


def test_what_differs_from_the_published_network_is_said_in_words():
    assert RepresentationConfig("VAE", codes=(64, 32)).network == "published"  # it has no lower level
    assert RepresentationConfig("HVAE (2 level)", codes=(32, 32)).network == "with codes of (32, 32)"
    assert RepresentationConfig("VAE ResNet", width=0.5, encoder_blocks=(1, 1, 1)).network == (
        "of 0.5 times the width, with (1, 1, 1) blocks"
    )


# Parts


def test_conditional_normalisation_is_a_normalisation_whose_scale_and_shift_are_linear_in_the_condition():
    x, z = RANDOM.normal(2, 3, (4, 3, 3, 2)), RANDOM.normal(size=(4, 5))
    layer = ConditionalBatchNorm()
    variables = layer.init(KEY, jnp.asarray(x), jnp.asarray(z), False)
    y, changed = layer.apply(variables, jnp.asarray(x), jnp.asarray(z), True, mutable=["batch_stats"])
    dense = variables["params"]["Dense_0"]
    both = z @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = both[:, None, None, :2] * (x - mean) / np.sqrt(var + 1e-5) + both[:, None, None, 2:]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    running = changed["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(running["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * var * 36 / 35, rtol=1e-5)


def test_a_1x1_convolution_in_front_of_the_doubling_gives_what_it_gives_behind_it():
    x, w = jnp.asarray(RANDOM.normal(size=(2, 3, 3, 4)), jnp.float32), jnp.asarray(RANDOM.normal(size=(4, 5)))
    np.testing.assert_allclose(double(x @ w), double(x) @ w, rtol=1e-5)
    np.testing.assert_array_equal(double(x)[0, :, :, 0], np.kron(np.asarray(x)[0, :, :, 0], np.ones((2, 2))))


def test_the_first_layer_of_pairs_is_a_dense_layer_of_the_two_next_to_each_other():
    x, codes = RANDOM.normal(size=(3, 2, 2, 4)), RANDOM.normal(size=(3, 5))
    layer = PairScores(6)
    variables = layer.init(KEY, jnp.asarray(x), jnp.asarray(codes))
    p = jax.tree.map(np.asarray, variables["params"])
    tiled = np.broadcast_to(codes[:, None, None], (3, 2, 2, 5))
    h = np.maximum(np.concatenate([x, tiled], -1) @ p["kernel"] + p["bias"], 0)
    h = np.maximum(h @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], 0)
    expected = (h @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"])[..., 0]
    (found,) = layer.apply(variables, jnp.asarray(x), jnp.asarray(codes))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_savings_of_deep_infomax_change_neither_scores_nor_gradients():
    """Naive: the maps are shifted by one along the batch and pass through every discriminator once more."""
    network, shapes = shapes_of(RepresentationConfig("Deep InfoMax", codes=(5, 5), width=0.03125), side=16)
    maps = jnp.asarray(RANDOM.normal(size=(3, 10, 10, 4)), jnp.float32)
    codes = jnp.asarray(RANDOM.normal(size=(3, 5)), jnp.float32)
    params = jax.tree.map(lambda a: jnp.asarray(RANDOM.normal(0, 0.3, a.shape), jnp.float32), shapes["params"])

    def naive(params, maps, codes):
        def both(module, name):
            next_maps = jnp.roll(maps, -1, axis=0)  # image i gets the map of image i + 1
            scores = (module(m, codes)[0] for m in (maps, next_maps))
            return name, tuple(scores)

        bound = network.bind({"params": params})
        return dict([both(bound.local_discriminator, "local"), both(bound.global_discriminator, "global")])

    def saving(params, maps, codes):
        return network.apply({"params": params}, maps, codes, method="pairs")

    def weighted(fn):
        def total(*given):
            scores = fn(*given)
            return sum((i + 1) * jnp.sin(s).sum() for i, s in enumerate(jax.tree.leaves(scores))), scores

        return jax.jit(jax.grad(total, (0, 1, 2), has_aux=True), compiler_options=QUICK_COMPILE)

    grads, scores = weighted(saving)(params, maps, codes)
    expected_grads, expected = weighted(naive)(params, maps, codes)
    assert {k: (v[0].shape, v[1].shape) for k, v in scores.items()} == {
        "local": ((3, 10, 10),) * 2, "global": ((3,),) * 2
    }  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), scores, expected)
    for grad, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(grad, other, rtol=1e-3, atol=1e-3 * float(jnp.abs(other).max() + 1e-6))


def test_initial_values_are_those_of_the_released_code():
    """Autoencoders: N(0, 0.02²) kernels, scales about 1, the rest of PyTorch; Deep InfoMax is of PyTorch altogether."""
    images = jnp.zeros((2, 16, 16, 3))

    def encoder_of(name):
        network = make_network(RepresentationConfig(name, width=0.125, codes=(16, 16)), (16, 16, 3))
        init = jax.jit(lambda key: network.encoder.init(key, images, False)["params"], compiler_options=QUICK_COMPILE)
        return init(KEY)

    auto, infomax = encoder_of("VAE"), encoder_of("Deep InfoMax")
    assert float(auto["Conv_3"]["kernel"].std()) == pytest.approx(0.02, rel=0.02)
    assert 0.005 < float(auto["BatchNorm_2"]["scale"].std()) < 0.04
    dense = auto["Dense_0"]["kernel"]
    assert float(jnp.abs(dense).max()) <= len(dense) ** -0.5
    bound = (16 * 32) ** -0.5
    assert float(jnp.abs(infomax["Conv_3"]["kernel"]).max()) == pytest.approx(bound, rel=1e-2)
    assert float(jnp.ptp(infomax["BatchNorm_2"]["scale"])) == 0
    up = UpBlock(24).init(KEY, jnp.zeros((1, 2, 2, 16)), jnp.zeros((1, 4)), False)["params"]
    assert float(up["conv2"]["kernel"].std()) == pytest.approx(0.02, rel=0.05)
