"""The networks of STL-10: published counts, the skeleton against SciPy, levels, equivariance, rematerialisation."""

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_maps import KEY, quickly, slow_conv

from jaxrepro.errors import UserError
from jaxrepro.layers import BatchNorm
from jaxrepro.models.scale import residual, residual_parts
from jaxrepro.models.scale.residual import Block, Parts, Place, Projection, Remat, ResidualNet
from jaxrepro.models.scale.residual_methods import METHODS, VARIANTS, ResidualConfig, make_residual
from tests.layers.equivariance import equivariance_error

RANDOM = np.random.default_rng(0)
COUNTS = {
    "WRN": 10_961_370,
    "SiCNN": 10_975_770,
    "SI-ConvNet": 10_961_370,
    "DSS": 10_939_482,
    "SS-CNN": 10_846_835,
    "SESN-A": 10_961_370,
    "SESN-B": 10_961_370,
    "SESN-C": 10_979_802,
    "Harm WRN": 10_961_370,
}


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def num_parameters_of(method):
    """Also looks whether it maps images to logits by three stages of half the size of the one before."""
    network = make_residual(method, 10)
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    keys = {"params": KEY, "dropout": KEY}
    logits, found = jax.eval_shape(lambda x: network.init_with_output(keys, x, True, mutable=True), images)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    first = 8 if method.startswith("Harm") else 16
    sizes = [found["intermediates"][f"stage_{i}"]["features"][0].shape[1] for i in (1, 2, 3)]
    assert sizes == [first, first // 2, first // 4]
    # The printed count of SS-CNN holds one constant per pair of channels of a 3×3 convolution, which is never used.
    leaves = jax.tree_util.tree_leaves_with_path(found["params"])
    unused = sum(math.prod(a.shape[-2:]) for path, a in leaves if "real" in jax.tree_util.keystr(path))
    return count(found["params"]) + unused


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("method", METHODS)
def test_every_network_has_the_published_number_of_parameters_and_three_stages(method):
    assert num_parameters_of(method) == COUNTS[method]


@pytest.mark.slow
@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("method", VARIANTS)
def test_every_variant_has_the_parameters_of_its_row(method):
    fewer = (9 - 6) * 10_950_000 // 9 if "six filters" in method else 0
    row = re.match(r"[-\w]+( WRN)?", method)[0]
    assert num_parameters_of(method) == pytest.approx(COUNTS[row] - fewer, rel=0.02)


def test_the_skeleton_equals_a_slow_network_block_by_block():
    network = ResidualNet(Parts(), widths=(2, 3, 4, 5), num_classes=3, dropout=0.0)
    images = RANDOM.normal(size=(1, 8, 8, 3)).astype(np.float32)
    variables = quickly(lambda: network.init(KEY, images, False))
    params, root = jax.tree.map(np.asarray, variables["params"]), np.sqrt(1 + 1e-5)
    found = quickly(lambda: network.apply(variables, images, False))

    def conv(x, layer, strides=1):
        kernel = layer["conv"]["kernel"]
        pad = len(kernel) // 2
        return slow_conv(x, kernel, ((pad, pad), (pad, pad)))[::strides, ::strides]

    x = conv(images[0], params["OneMapStem_0"])
    for group in (1, 2, 3):
        for block in (1, 2):
            layers, strides = params[f"group_{group}_block_{block}"], 2 if (group > 1 and block == 1) else 1
            inside = np.maximum(x / root, 0)
            y = conv(
                np.maximum(conv(inside, layers["EachMap_0"], strides) / root, 0),
                layers["EachMap_2" if block == 1 else "EachMap_1"],
            )
            x = y + (conv(inside, layers["EachMap_1"], strides) if block == 1 else x)
    pooled = np.maximum(x / root, 0).mean((0, 1))
    dense = params["Dense_0"]
    np.testing.assert_allclose(found[0], pooled @ dense["kernel"] + dense["bias"], atol=1e-5)


def test_convolutions_begin_with_the_published_variances():
    block = Block(Parts(), 1, 2, 64, 1, 0.0)
    params = quickly(lambda: block.init(KEY, (jnp.zeros((1, 2, 2, 64)),), False))["params"]
    kernel = params["EachMap_0"]["conv"]["kernel"]
    assert kernel.std() == pytest.approx((2 / (9 * kernel.shape[-1])) ** 0.5, rel=0.05)
    shape = (9, 2, 16, 256)
    steerable = residual_parts.sesn(num_taps=2).conv(Place(1, 1, 1, 256, 1))
    weights = quickly(lambda: steerable.init(KEY, (jnp.zeros((1, 4, 4, 16)),) * 3))["params"]["kernel"]
    assert weights.shape == shape
    assert weights.std() == pytest.approx((2 / (256 * 2 * 9)) ** 0.5, rel=0.05)


def test_a_scale_space_kernel_begins_as_a_repetition_of_channels():
    kernel = np.array(residual_parts.delta_init(KEY, (3, 3, 4, 6)))
    expected = np.zeros((4, 6))
    for i in range(4):
        for o in range(6):
            expected[i, o] = 2 / 6 if i * 2 // 4 == o * 2 // 6 else 0
    assert np.abs(kernel[1, 1] - expected).max() <= 0.01
    kernel[1, 1] = 0
    assert 0.009 < np.abs(kernel).max() <= 0.01


@pytest.mark.usefixtures("plain_convolutions")
def test_dss_loses_a_level_in_its_first_two_groups():
    found = []

    def watch(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, Block):
            found.append((len(args[0]), len(out)))
        return out

    with nn.intercept_methods(watch):
        network = make_residual("DSS", 10, width=1)
        jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, 8, 8, 3)), False))
    assert found == [(4, 3), (3, 3), (3, 2), (2, 2), (2, 2), (2, 2)]


def test_sesn_b_projects_at_the_start_of_groups_2_and_3_only():
    parts = residual_parts.sesn(projects=True)
    places = [Place(g, b, c, 8, 1) for g in (1, 2, 3) for b in (1, 2) for c in (1, 2)]
    assert [p for p in places if parts.conv(p).lifts] == [(2, 1, 1, 8, 1), (3, 1, 1, 8, 1)]
    assert [p for p in places if residual_parts.sesn(num_taps=2).conv(p).num_taps == 2] == [(1, 1, 1, 8, 1)]


class StemAndBlock(nn.Module):
    """The first layers of a network, its scales on an axis: [B, H, W, 1] to [B, H, W, S, C]."""

    parts: Parts

    @nn.compact
    def __call__(self, images):
        maps = self.parts.stem(4, 1)(images, False)
        return jnp.stack(Block(self.parts, 1, 1, 6, 1, 0.0)(maps, False), axis=3)


def test_a_block_of_sesn_with_ample_supports_is_scale_equivariant_and_one_of_wrn_is_not():
    def features_of(parts):
        network = StemAndBlock(parts)
        variables = quickly(lambda: network.init(jax.random.key(1), jnp.zeros((1, 16, 16, 1))))
        return jax.jit(lambda images: network.apply(variables, images))

    error = equivariance_error(features_of(residual_parts.sesn(kernel_size=21)), 1.41, size=48, count=2)
    assert error < 1e-3
    plain = features_of(Parts())
    assert equivariance_error(lambda images: plain(images)[:, :, :, 0], 1.41, size=48, count=2) > 10 * error


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("remat", [Remat.NORM, Remat.BLOCK])
@pytest.mark.parametrize(
    ("parts", "num_scales"), [(Parts(), 1), pytest.param(residual_parts.sesn(), 3, marks=pytest.mark.slow)]
)
def test_a_rematerialised_block_has_the_gradients_and_statistics_of_the_plain_one(parts, num_scales, remat):
    maps = tuple(jnp.asarray(RANDOM.normal(size=(2, 6, 6, 2)), jnp.float32) for _ in range(num_scales))
    arguments = (parts, 1, 1, 3, 1, 0.5)
    plain, saving = Block(*arguments, name="block"), residual.rematerialised(remat)(*arguments, name="block")
    variables = quickly(lambda: plain.init(KEY, maps, False))

    def both(block):
        def loss(params, maps):
            variables_now = {**variables, "params": params}
            y, new = block.apply(variables_now, maps, True, rngs={"dropout": KEY}, mutable=["batch_stats"])
            return sum(jnp.sin(m).sum() for m in y), new

        return quickly(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), variables["params"], maps)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), both(plain), both(saving))


def kept_maps(remat):
    """How many maps, float and bool, the backward pass of a block of three scales keeps."""
    block = residual.rematerialised(remat)(residual_parts.sesn(), 1, 1, 8, 1, 0.5, name="block")
    maps = (jax.ShapeDtypeStruct((4, 16, 16, 8), jnp.float32),) * 3
    variables = jax.eval_shape(lambda m: block.init(KEY, m, False), maps)

    def pull_back(params, maps, batch_stats):
        def of(params, maps):
            return block.apply(
                {"params": params, "batch_stats": batch_stats},
                maps,
                True,
                rngs={"dropout": KEY},
                mutable=["batch_stats"],
            )[0]

        return jax.vjp(of, params, maps)[1]

    kept = jax.eval_shape(pull_back, variables["params"], maps, variables["batch_stats"])
    return sum(a.shape == maps[0].shape for a in jax.tree.leaves(kept))


@pytest.mark.usefixtures("plain_convolutions")
def test_rematerialisation_keeps_the_inputs_of_blocks_and_the_results_of_first_convolutions_only():
    none, norm, block = (kept_maps(remat) for remat in Remat)
    assert (norm, block) == (2 * 3, 3)
    assert none > 20


def test_projection_meets_scales_where_the_method_says():
    """The maximum of two maps before normalisation, ReLU and pooling, between them, or behind."""
    a, b = (jnp.asarray(RANDOM.normal(size=(1, 4, 4, 2)), jnp.float32) for _ in range(2))

    class Ends(nn.Module):
        at: Projection

        @nn.compact
        def __call__(self):
            return residual.pooled((a, b), self.at, BatchNorm(), False)

    found = {at: quickly(lambda at=at: Ends(at).init_with_output(KEY)[0]) for at in Projection}
    root = np.sqrt(1 + 1e-5)
    mean_of = lambda x: np.maximum(x / root, 0).mean((1, 2))  # noqa: E731
    np.testing.assert_allclose(found[Projection.BEFORE_NORM], mean_of(np.maximum(a, b)), rtol=1e-5)
    np.testing.assert_allclose(found[Projection.AFTER_POOL], np.maximum(mean_of(a), mean_of(b)), rtol=1e-5)
    # ReLU and the normalisation's positive scale commute with the maximum, until the scale is negative.
    np.testing.assert_allclose(found[Projection.BEFORE_POOL], found[Projection.BEFORE_NORM], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualConfig(method="SESN-D"), "method is 'SESN-D'; did you mean 'SESN-"),
        (lambda: ResidualConfig(method="WRN", beside=("WRN",)), "twice"),
        (lambda: ResidualConfig(width=0), "width is 0; it must be 1 or more"),
        (lambda: ResidualConfig(stem_strides=3), "stem_strides is 3"),
        (lambda: make_residual("ResNet", 10), "method is 'ResNet'; it must be one of: WRN; SiCNN"),
        (
            lambda: residual_parts.sesn(num_scales=6).conv(Place(1, 1, 1, 2, 1)),
            "kernel_size is 7, which leaves one pixel",
        ),
    ],
)
def test_impossible_networks_are_refused_in_one_line(make, message):
    with pytest.raises(UserError, match=message):
        make()
