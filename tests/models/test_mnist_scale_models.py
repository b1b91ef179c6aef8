"""The ten networks of MNIST-scale: counts made by hand, and the frame against a slow SciPy computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_maps import KEY, quickly, slow_conv

from jaxrepro.models.scale.methods import COLUMNS, MODELS, column_of, make_model

RANDOM = np.random.default_rng(0)


def head(num_in, bias=False):
    return num_in * 256 + 256 * bias + 2 * 256 + 256 * 10 + 10


def convs(channels, weights, bias):
    """Convolutions of three stages, `weights` per pair of channels."""
    pairs = zip((1, *channels), channels)
    return sum(weights * a * b for a, b in pairs) + bias * sum(channels)


ORDINARY = convs((32, 63, 95), 49, bias=True) + 2 * (32 + 63 + 95) + head(4 * 95)
COUNTS = {
    "CNN": ORDINARY,
    "SiCNN": convs((32, 63, 95), 49, bias=False) + 7 * 2 * (32 + 63 + 95) + head(4 * 95),
    "SI-ConvNet": ORDINARY,
    "SEVF Scalar": convs((32, 63, 95), 49, bias=False) + 2 * (32 + 63) + head(4 * 95, bias=True),
    # The printed 475,475 hold one scale per channel of two normalisations, which the code never applies.
    "SEVF Vector": 475_475 - 23 - 45,
    "DSS Scalar": convs((32, 63, 95), 49, bias=False) + 2 * (32 + 63 + 95) + head(4 * 95),
    "DSS Vector": convs((32, 63, 95), 49, bias=False) + 2 * (32 + 63 + 95) + head(4 * 95),
    # The printed 493,688 hold one constant per pair of channels and a normalisation that are never used.
    "SS-CNN": 493_688 - (30 + 30 * 60 + 60 * 90) - 2 * 90,
    "SESN Scalar": ORDINARY,
    "SESN Vector": ORDINARY,
}
PUBLISHED = {"CNN": 494_549, "SiCNN": 496_639, "SEVF Scalar": 494_425, "DSS Scalar": 494_359}


def shapes_of(model):
    return jax.eval_shape(lambda: model.init(KEY, jnp.zeros((1, 28, 28, 1)), False))


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("resolution", [28, 56])
@pytest.mark.parametrize("method", MODELS)
def test_every_network_has_the_parameters_counted_by_hand(method, resolution):
    model = make_model(method, resolution)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)["params"]))
    assert count == COUNTS[method]
    assert count == PUBLISHED.get(method, count)


@pytest.mark.parametrize("resolution", [28, 56])
@pytest.mark.parametrize("method", MODELS)
def test_every_network_maps_images_to_ten_logits(method, resolution):
    model = make_model(method, resolution, channels=(2, 3, 4), hidden=5)
    variables = shapes_of(model)
    images = jax.ShapeDtypeStruct((3, 28, 28, 1), jnp.float32)
    for train in (False, True):
        logits, _ = jax.eval_shape(
            lambda v, x, t=train: model.apply(v, x, t, rngs={"dropout": KEY}, mutable=["batch_stats"]),
            variables,
            images,
        )
        assert logits.shape == (3, 10)


def test_settings_of_sesn_give_the_supports_of_each_column():
    supports = {
        ("SESN Scalar", "28x28"): (5, 7, 11, 15),
        ("SESN Scalar", "28x28+"): (5, 7, 9, 13),
        ("SESN Scalar", "56x56"): (7, 11, 15),
        ("SESN Scalar", "56x56+"): (5, 9, 17),
        ("SESN Vector", "28x28"): (5, 7, 13),
        ("SESN Vector", "28x28+"): (5, 9, 15),
        ("SESN Vector", "56x56"): (7, 9, 11, 15),
        ("SESN Vector", "56x56+"): (7, 9, 11, 13),
    }
    for (method, column), expected in supports.items():
        tuned = column.endswith("+")
        model = make_model(method, int(column[:2]), tuned)
        assert model.basis.supports == expected
        assert column_of(model.frame.resolution, tuned) == column
    assert COLUMNS == ("28x28", "28x28+", "56x56", "56x56+")


def test_the_frame_equals_a_slow_network_stage_by_stage():
    model = make_model("CNN", 28, channels=(2, 3, 2), hidden=4)
    images = RANDOM.normal(size=(2, 28, 28, 1))
    variables = quickly(lambda: model.init(KEY, images, False))
    params = jax.tree.map(np.asarray, variables["params"])
    found = quickly(lambda: model.apply(variables, images, False))
    for x, logits in zip(images, found, strict=True):
        for i, (window, pad) in enumerate(((2, 0), (2, 0), (4, 2))):
            conv = params[f"TorchConv_{i}"]["conv"]
            x = np.maximum(slow_conv(x, conv["kernel"], ((3, 3), (3, 3))) + conv["bias"], 0)
            x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
            size = (len(x) - window) // window + 1
            blocks = [[x[r * window :, c * window :][:window, :window] for c in range(size)] for r in range(size)]
            x = np.array([[b.max((0, 1)) for b in row] for row in blocks]) / np.sqrt(1 + 1e-5)
        assert x.shape == (2, 2, 2)
        dense = params["Head_0"]
        hidden = np.maximum(x.ravel() @ dense["Dense_0"]["kernel"] / np.sqrt(1 + 1e-5), 0)
        np.testing.assert_allclose(logits, hidden @ dense["Dense_1"]["kernel"] + dense["Dense_1"]["bias"], atol=1e-4)


def test_at_56_every_pixel_stands_for_four():
    model = make_model("CNN", 56, channels=(1, 1, 1), hidden=2)
    images = jnp.asarray(RANDOM.normal(size=(1, 28, 28, 1)), jnp.float32)
    variables = quickly(lambda: model.init(KEY, images, False))
    _, kept = quickly(lambda: model.apply(variables, images, False, mutable=["intermediates"]))
    conv = jax.tree.map(np.asarray, variables["params"]["TorchConv_0"]["conv"])
    enlarged = np.kron(images[0, ..., 0], np.ones((2, 2)))[..., None]
    expected = np.maximum(slow_conv(enlarged, conv["kernel"], ((3, 3), (3, 3))) + conv["bias"], 0)
    np.testing.assert_allclose(kept["intermediates"]["stage_1"]["features"][0][0], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", MODELS)
def test_every_network_has_finite_gradients(method):
    model = make_model(method, 28, channels=(2, 3, 4), hidden=16, dropout=0.0)
    images = jnp.asarray(RANDOM.normal(size=(8, 28, 28, 1)), jnp.float32)
    variables = quickly(lambda: model.init(KEY, images, False))

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, images, True, mutable=["batch_stats"])
        return (logits**2).sum()

    gradients = quickly(jax.grad(loss), variables["params"])
    assert all(jnp.isfinite(g).all() and (g != 0).any() for g in jax.tree.leaves(gradients))
