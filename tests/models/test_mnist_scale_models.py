"""The ten networks of MNIST-scale: counts made by hand, and every special layer against a slow SciPy computation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.special

from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.steerable_basis import SteerableBasis, geometric_scales, multi_level_functions
from jaxrepro.models import dss, sevf, si_convnet, sicnn, ss_cnn
from jaxrepro.models.mnist_scale import COLUMNS, MODELS, column_of, make_model
from jaxrepro.step import QUICK_COMPILE

KEY = jax.random.key(0)
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


def slow_conv(x, kernel, pads):
    """Correlates x [H, W, I] with [h, w, I, O] after padding ((top, bottom), (left, right)), channel by channel."""
    x = np.pad(x, (*pads, (0, 0)))
    planes = [
        sum(scipy.signal.correlate2d(x[..., i], kernel[..., i, o], mode="valid") for i in range(kernel.shape[2]))
        for o in range(kernel.shape[3])
    ]
    return np.stack(planes, axis=-1)


def slow_resize(x, size, align_corners):
    """Resizes x [H, H, C] bilinearly to [size, size, C]."""
    num = len(x)
    if align_corners:
        position = np.arange(size) * (num - 1) / (size - 1)
    else:
        position = (np.arange(size) + 0.5) * num / size - 0.5
    grid = np.meshgrid(position, position, indexing="ij")
    planes = [scipy.ndimage.map_coordinates(x[..., c], grid, order=1, mode="nearest") for c in range(x.shape[-1])]
    return np.stack(planes, axis=-1)


def slow_fit(x, size):
    """Pads or cuts both spatial axes of x [n, n, C] to `size`, as `pad(before, after)` with negative numbers would."""
    before = (size - len(x)) // 2
    out = np.zeros((size, size, *x.shape[2:]))
    for i in range(size):
        for j in range(size):
            if 0 <= i - before < len(x) and 0 <= j - before < len(x):
                out[i, j] = x[i - before, j - before]
    return out


def quickly(function, *arguments):
    """Calls a function of arrays as one program that is compiled for its compile time."""
    return jax.jit(function, compiler_options=QUICK_COMPILE)(*arguments)


def layer_and_params(module, *inputs):
    variables = quickly(module.init, KEY, *inputs)
    return quickly(module.apply, variables, *inputs), jax.tree.map(np.asarray, variables["params"])


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
        scales = geometric_scales(model.sigma_min, model.scale_factor, model.num_scales)
        basis = SteerableBasis(model.kernel_size, scales, multi_level_functions(49, model.mult, 4))
        assert basis.supports == expected
        assert column_of(model.resolution, tuned) == column
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


def test_batch_norm_keeps_the_unbiased_variance_and_normalises_by_the_biased_one():
    x = RANDOM.normal(2.0, 3.0, (4, 3, 2, 5)).astype(np.float32)
    variables = quickly(lambda: BatchNorm().init(KEY, x, True))
    y, changed = quickly(lambda: BatchNorm().apply(variables, x, True, mutable=["batch_stats"]))
    axes = (0, 1, 2)
    np.testing.assert_allclose(y, (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5), atol=1e-4)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * x.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 0.1 * x.var(axes, ddof=1), rtol=1e-5)
    later = BatchNorm().apply({**variables, **changed}, x, False)
    mean, var = changed["batch_stats"]["mean"], changed["batch_stats"]["var"]
    np.testing.assert_allclose(later, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)


def test_sicnn_convolves_every_group_with_a_resized_kernel_of_the_same_l1_norm():
    scales, size = (0.3, 0.67, 1.0, 1.49, 3.33), 23
    x = RANDOM.normal(size=(1, 9, 9, len(scales) * 2)).astype(np.float32)
    found, params = layer_and_params(sicnn.SiConv(3, scales), x)
    canvas = np.pad(params["kernel"], ((8, 8), (8, 8), (0, 0), (0, 0)))
    for i, scale in enumerate(scales):
        resized_size = int(size * scale)
        flat = canvas.reshape(size, size, -1)
        if scale > 1:
            source = (np.arange(resized_size) / scale).astype(int)
            resized = flat[source][:, source]
        else:
            resized = flat if scale == 1 else slow_resize(flat, resized_size, align_corners=True)
        resized = slow_fit(resized, size).reshape(size, size, 2, 3)
        resized = resized * np.abs(canvas).sum((0, 1)) / np.abs(resized).sum((0, 1))
        expected = slow_conv(x[0, ..., 2 * i : 2 * i + 2], resized, ((11, 11), (11, 11)))
        np.testing.assert_allclose(found[0, ..., 3 * i : 3 * i + 3], expected, atol=1e-4)


def test_si_convnet_takes_the_maximum_over_resized_copies_of_the_input():
    size, scales = 14, (0.3, 0.67, 1.0, 2.23)
    x = RANDOM.normal(size=(1, size, size, 2)).astype(np.float32)
    found, params = layer_and_params(si_convnet.MaxOverSizes(3, scales), x)
    conv = params["TorchConv_0"]["conv"]
    answers = []
    for scale in scales:
        there = x[0] if scale == 1 else slow_fit(slow_resize(x[0], int(size * scale), align_corners=True), size)
        y = slow_conv(there, conv["kernel"], ((3, 3), (3, 3))) + conv["bias"]
        answers.append(y if scale == 1 else slow_fit(slow_resize(y, int(size / scale), align_corners=True), size))
    np.testing.assert_allclose(found[0], np.max(answers, axis=0), atol=1e-4)


def slow_field(answers):
    best = np.argmax(answers, axis=0)
    strength = np.maximum(np.max(answers, axis=0), 0)
    angle = np.deg2rad(np.array([-480, -360, -240, -120, 0, 120, 240, 360]) / 7)[best]
    return strength * np.cos(angle), strength * np.sin(angle)


def slow_at_scale(x, kernel, exponent):
    scaled = slow_resize(x, round(len(x) * 1.26**exponent), align_corners=False)
    return slow_resize(slow_conv(scaled, kernel, ((3, 3), (3, 3))), len(x), align_corners=False)


def test_sevf_answers_with_the_strongest_scale_and_its_angle():
    x = RANDOM.normal(size=(1, 11, 11, 2)).astype(np.float32)
    answers, params = layer_and_params(sevf.ConvAtScales(2), x)
    expected = slow_field([slow_at_scale(x[0], params["kernel"], e) for e in range(-4, 4)])
    for found, wanted in zip(quickly(sevf.strongest, answers), expected, strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=1e-4)


def test_sevf_turns_the_kernels_of_a_field_by_the_angle_of_each_scale():
    u, v = RANDOM.normal(size=(2, 1, 11, 11, 2)).astype(np.float32)
    found, params = layer_and_params(sevf.FieldToField(2), u, v)
    answers = []
    for exponent in range(-4, 4):
        angle = np.deg2rad(120 * exponent / 7)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        kernels = np.einsum("ab,bhwio->ahwio", turn, np.stack([params["kernel_u"], params["kernel_v"]]))
        answers.append(sum(slow_at_scale(x[0], k, exponent) for x, k in zip((u, v), kernels, strict=True)))
    for got, wanted in zip(found, slow_field(answers), strict=True):
        np.testing.assert_allclose(got[0], wanted, atol=1e-4)


def test_sevf_pools_the_longest_vector_and_normalises_by_the_spread_of_lengths():
    u, v = RANDOM.normal(size=(2, 2, 7, 7, 3)).astype(np.float32)
    length = np.hypot(u, v)
    pooled = quickly(lambda: sevf.pool_field(u, v, 4, padding=2))
    assert pooled[0].shape == (2, 2, 2, 3)
    for b, r, s, c in np.ndindex(2, 2, 2, 3):
        rows, columns = (slice(max(4 * i - 2, 0), 4 * i + 2) for i in (r, s))
        i, j = np.unravel_index(np.argmax(length[b, rows, columns, c]), length[b, rows, columns, c].shape)
        assert pooled[0][b, r, s, c] == u[b, rows, columns, c][i, j]
        assert pooled[1][b, r, s, c] == v[b, rows, columns, c][i, j]
    variables = sevf.FieldNorm().init(KEY, u, v, False)
    (found, _), changed = quickly(lambda: sevf.FieldNorm().apply(variables, u, v, True, mutable=["batch_stats"]))
    np.testing.assert_allclose(found, u / np.sqrt(length.var((0, 1, 2)) + 1e-5), rtol=1e-4)
    expected = 0.5 + 0.5 * length.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(changed["batch_stats"]["var"], expected, rtol=1e-4)


def test_the_gradient_of_a_vanishing_vectors_length_is_zero():
    gradient = jax.grad(lambda u, v: sevf.magnitude(u, v).sum(), argnums=(0, 1))(jnp.zeros(2), jnp.array([0.0, 3.0]))
    np.testing.assert_allclose(gradient, [[0, 0], [0, 1]])


def test_dss_blurs_with_the_discrete_gaussian_and_dilates_the_kernel():
    matrix = dss.blur_matrix(21, 0.1875)
    taps = scipy.special.ive(np.abs(np.arange(-4, 5)), 0.1875)
    np.testing.assert_allclose(matrix[10, 6:15], taps / taps.sum(), atol=1e-6)
    np.testing.assert_allclose(matrix[10, 10:12], [0.83633, 0.07806], atol=1e-5)
    assert matrix[10, 5] == 0
    x = RANDOM.normal(size=(1, 7, 7, 2)).astype(np.float32)
    lifted = np.asarray(quickly(dss.lift, x))
    np.testing.assert_array_equal(lifted[:1], x)
    planes = [scipy.signal.convolve2d(x[0, ..., c], np.outer(matrix[10], matrix[10]), mode="same") for c in range(2)]
    np.testing.assert_allclose(lifted[1], np.stack(planes, axis=-1), atol=1e-5)
    found, params = layer_and_params(dss.ScaleSpaceConv(3), jnp.asarray(lifted))
    dilated = np.zeros((13, 13, 2, 3))
    dilated[::2, ::2] = params["kernel"]
    np.testing.assert_allclose(found[0], slow_conv(x[0], params["kernel"], ((3, 3), (3, 3))), atol=1e-4)
    np.testing.assert_allclose(found[1], slow_conv(lifted[1], dilated, ((6, 6), (6, 6))), atol=1e-4)


def slow_filter(size, order, angle):
    """A log-radial filter as complex numbers, pixel by pixel, not normalised."""
    half = size // 2
    frequency = 2 * np.pi * order / np.log(np.sqrt(2) * half)
    out = np.zeros((size, size), complex)
    for i, j in np.ndindex(size, size):
        down, right = i - half, j - half
        r = max(np.hypot(down, right), 1.0)
        if np.hypot(down, right) > half:
            continue
        phi = np.arctan2(right, -down)
        d = min(abs(phi - angle), abs(phi + 2 * np.pi - angle), abs(phi - angle - np.pi), abs(phi + np.pi - angle))
        out[i, j] = np.exp(-(d**2) / (2 * (np.pi / 16) ** 2)) / r * np.exp(1j * (frequency * np.log(r) - np.pi / 4))
    return out


def test_ss_cnn_takes_the_maximum_over_steered_kernels():
    sizes = (5, 11)
    x = RANDOM.normal(size=(1, 9, 9, 2)).astype(np.float32)
    found, params = layer_and_params(ss_cnn.SteeredConv(3, sizes), x)
    answers = []
    for size in sizes:
        kernel = np.zeros((11, 11, 2, 3))
        for (k, order), (f, angle) in itertools.product(enumerate((0.5, 1, 2)), enumerate(np.linspace(0, np.pi, 9))):
            one = slow_filter(11, order, angle)
            turn = 2 * np.pi * order / np.log(np.sqrt(2) * 5) * np.log(size / 11)
            a, b = params["real"][k, f], params["imaginary"][k, f]
            a, b = a * np.cos(turn) + b * np.sin(turn), b * np.cos(turn) - a * np.sin(turn)
            real, imaginary = one.real / np.linalg.norm(one.real), one.imag / np.linalg.norm(one.imag)
            kernel += np.einsum("ab,io->abio", real, a) - np.einsum("ab,io->abio", imaginary, b)
        cut = (11 - size) // 2
        kernel = kernel[cut : 11 - cut, cut : 11 - cut]
        answers.append(slow_conv(x[0], kernel, ((size // 2,) * 2,) * 2))
    np.testing.assert_allclose(found[0], np.max(answers, axis=0), atol=1e-4)


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
