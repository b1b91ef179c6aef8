"""The classifiers of the Synbols tables: published counts, initial values, and forward passes against slow NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from contexts import INIT_KEY

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.errors import UserError
from jaxrepro.models import vgg, wide_resnet
from jaxrepro.models.classifiers import forward_macs, make_classifier
from jaxrepro.models.conv4 import strides_of
from jaxrepro.models.resnet12 import ResNet12

KEY = jax.random.key(0)
CLASSES = (10, 26, 48, 888, 1000, 1120)
COUNTS = {
    "MLP": (920_842, 924_954, 930_608, 1_146_488, 1_175_272, 1_206_112),
    "Conv-4 Flat": (429_866, 495_418, 585_552, 4_027_032, 4_485_896, 4_977_536),
    "Conv-4 GAP": (391_466, 395_578, 401_232, 617_112, 645_896, 676_736),
    "ResNet-12": (8_001_994, 8_010_202, 8_021_488, 8_452_408, 8_509_864, 8_571_424),
    "WRN-28-4": (5_849_050, 5_853_162, 5_858_816, 6_074_696, 6_103_480, 6_134_320),
    "VGG-16": (134_301_514, 134_367_066, 134_457_200),
}
GREY_COUNTS = {
    "MLP": 396_554, "Conv-4 Flat": 429_290, "Conv-4 GAP": 390_890, "ResNet-12": 8_000_714, "WRN-28-4": 5_848_762,
}  # fmt: skip
MACS = {
    "MLP": 0.924, "Conv-4 Flat": 15.15, "Conv-4 GAP": 15.05, "ResNet-12": 366.9, "WRN-28-4": 845.6, "VGG-16": 432.8,
}  # fmt: skip


def num_params(model, shape=(32, 32, 3)):
    shapes = jax.eval_shape(lambda: model.init(KEY, jnp.zeros((1, *shape)), False))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published_for_every_number_of_classes(name):
    found = tuple(num_params(make_classifier(name, n)) for n in CLASSES[: len(COUNTS[name])])
    assert found == COUNTS[name]


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("name", GREY_COUNTS)
def test_parameters_for_images_of_one_channel(name):
    assert num_params(make_classifier(name, 10), (32, 32, 1)) == GREY_COUNTS[name]


def test_the_version_of_the_papers_text_explains_the_counts_that_it_states():
    build = functools.partial(make_classifier, channels=(64,) * 4, max_pooling=True)
    batch_norm = 2 * 4 * 64  # not counted there
    assert num_params(build("Conv-4 Flat", 26)) - batch_norm == 138_970
    assert num_params(build("Conv-4 GAP", 10)) - batch_norm == 112_970


def test_vgg_with_the_released_number_of_outputs():
    assert num_params(make_classifier("VGG-16", 96)) == 134_653_856


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("name", MACS)
def test_multiply_adds_are_those_published(name):
    found = forward_macs(make_classifier(name, 26), (32, 32, 3)) / 1e6
    assert f"{found:.4g}" == f"{MACS[name]:.4g}" or round(found, 3) == MACS[name]


@pytest.mark.parametrize(
    ("size", "strides"),
    [(7, (1, 1, 1, 1)), (8, (1, 2, 1, 1)), (28, (1, 2, 2, 1)), (32, (1, 2, 2, 2)), (63, (1, 2, 2, 2)), (64, (2,) * 4)],
)
def test_the_strides_of_conv4_depend_on_the_size_of_the_images(size, strides):
    assert strides_of(size) == strides


def test_an_unknown_classifier_gets_the_nearest():
    with pytest.raises(UserError, match="did you mean 'ResNet-12'"):
        make_classifier("Resnet12", 10)


def first_variables(model, shape, key=KEY):
    return jax.jit(lambda: model.init(key, jnp.zeros((1, *shape)), False), compiler_options=QUICK_COMPILE)()


def logits_of(model, variables, images):
    return jax.jit(lambda v, x: model.apply(v, x, False), compiler_options=QUICK_COMPILE)(variables, images)


@pytest.mark.parametrize("name", ["MLP", "Conv-4 GAP"])
def test_initial_values_are_uniform_within_one_over_the_root_of_the_fan_in(name):
    params = first_variables(make_classifier(name, 26), (16, 16, 3))["params"]
    for layer in (params[k] for k in params if k.startswith(("Dense", "Conv"))):
        bound = np.prod(layer["kernel"].shape[:-1]) ** -0.5
        for values in layer.values():
            assert np.abs(values).max() <= bound
            np.testing.assert_allclose(np.std(values), bound / 3**0.5, rtol=0.35 if values.size < 300 else 0.06)


def test_wide_resnet_starts_normal_with_variance_two_over_fan_in_and_its_replaced_stem_uniform():
    model = wide_resnet.WideResNet(10, width=2, blocks_per_group=1)
    rgb, grey = (first_variables(model, (8, 8, c))["params"] for c in (3, 1))
    for kernel in (rgb["Conv_0"]["kernel"], rgb["Block_1"]["Conv_1"]["kernel"], rgb["Dense_0"]["kernel"]):
        std = (2 / np.prod(kernel.shape[:-1])) ** 0.5
        np.testing.assert_allclose(np.std(kernel), std, rtol=4 / kernel.size**0.5)
        assert np.abs(kernel).max() > 2 * std
    assert np.abs(grey["Conv_0"]["kernel"]).max() <= 1 / 3


# Slow references in NumPy


def conv(x, layer, stride=1):
    kernel = np.asarray(layer["kernel"], np.float64)
    pad = kernel.shape[0] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = ((n - kernel.shape[0]) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + kernel.shape[0], j * stride : j * stride + kernel.shape[1]]
            out[:, i, j] = np.einsum("bhwi,hwio->bo", window, kernel)
    return out + np.asarray(layer.get("bias", 0.0))


def pool(x, window, stride, pad):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
    rows, columns = ((n - window) // stride + 1 for n in x.shape[1:3])
    return np.array(
        [
            [
                x[:, i * stride : i * stride + window, j * stride : j * stride + window].max((1, 2))
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    ).transpose(2, 0, 1, 3)


def norm(x, layer, stats):
    scaled = (x - stats["mean"]) / np.sqrt(np.asarray(stats["var"], np.float64) + 1e-5)
    return scaled * layer["scale"] + layer["bias"]


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])


def relu(x):
    return np.maximum(x, 0)


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def with_random_statistics(model, images, variance=0.1):
    """Returns variables in which normalisation is not the identity, and leaves about half of the features positive."""
    variables = first_variables(model, images.shape[1:])
    generator = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key == "mean":
            return generator.normal(0, 0.1, leaf.shape)
        return variance * generator.uniform(0.5, 2, leaf.shape)

    return {**variables, "batch_stats": jax.tree_util.tree_map_with_path(draw, variables["batch_stats"])}


def photos(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(("name", "max_pooling"), [("Conv-4 Flat", False), ("Conv-4 GAP", False), ("Conv-4 GAP", True)])
def test_conv4_equals_a_slow_reference(name, max_pooling):
    images = photos(2, 32, 32, 3)
    model = make_classifier(name, 5, channels=(4, 3, 5, 2), max_pooling=max_pooling)
    variables = with_random_statistics(model, images)
    params, stats = variables["params"], variables["batch_stats"]
    x = images
    for i, stride in enumerate((1, 2, 2, 2)):
        x = conv(x, params[f"Conv_{i}"], 1 if max_pooling else stride)
        x = leaky(norm(x, params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"]))
        x = pool(x, 2, 2, 0) if max_pooling and stride == 2 else x
    x = x.reshape(2, -1) if name == "Conv-4 Flat" else x.mean((1, 2))
    np.testing.assert_allclose(logits_of(model, variables, images), dense(x, params["Dense_0"]), atol=1e-4)


def test_resnet12_equals_a_slow_reference():
    images = photos(2, 8, 8, 3)
    model = ResNet12(5, channels=(4, 3))
    variables = with_random_statistics(model, images)
    x = images
    for b in range(2):
        params, stats = variables["params"][f"Block_{b}"], variables["batch_stats"][f"Block_{b}"]
        shortcut = conv(x, params["shortcut"])
        for i in range(3):
            x = norm(conv(x, params[f"Conv_{i}"]), params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"])
            x = relu(x) if i < 2 else relu(x + shortcut)
        x = pool(x, 3, 2, 1)
    x = norm(x.mean((1, 2)), variables["params"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"])
    expected = dense(relu(x), variables["params"]["Dense_0"])
    np.testing.assert_allclose(logits_of(model, variables, images), expected, atol=1e-4)


def test_wide_resnet_equals_a_slow_reference():
    images = photos(2, 8, 8, 3)
    model = wide_resnet.WideResNet(5, width=1, blocks_per_group=2)
    variables = with_random_statistics(model, images, variance=1.0)
    x, b = conv(images, variables["params"]["Conv_0"]), 0
    for group in range(3):
        for j in range(2):
            params, stats = variables["params"][f"Block_{b}"], variables["batch_stats"][f"Block_{b}"]
            stride = 2 if group and not j else 1
            shortcut = conv(x, params["shortcut"], stride) if "shortcut" in params else x
            x = conv(relu(norm(x, params["BatchNorm_0"], stats["BatchNorm_0"])), params["Conv_0"], stride)
            x = conv(relu(norm(x, params["BatchNorm_1"], stats["BatchNorm_1"])), params["Conv_1"]) + shortcut
            b += 1
    x = relu(norm(x, variables["params"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"])).mean((1, 2))
    found = logits_of(model, variables, images)
    np.testing.assert_allclose(found, dense(x, variables["params"]["Dense_0"]), atol=1e-3)


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize(
    "model", [ResNet12(5, channels=(16,)), wide_resnet.WideResNet(5, width=1, blocks_per_group=1)], ids=["rn", "wrn"]
)
def test_dropout_zeroes_whole_feature_maps_and_is_off_in_evaluation(model):
    seen = []

    def watch(next_function, args, kwargs, context):
        out = next_function(*args, **kwargs)
        if isinstance(context.module, nn.Dropout):
            seen.append((args[0], out))
        return out

    images = photos(4, 8, 8, 3)
    variables = first_variables(model, (8, 8, 3), INIT_KEY)

    def masks_of(train):
        def run(variables):
            seen.clear()
            model.apply(variables, images, train, rngs={"dropout": KEY}, mutable=["batch_stats"])
            return list(seen)

        return jax.tree.map(np.asarray, jax.jit(run, compiler_options=QUICK_COMPILE)(variables))

    with nn.intercept_methods(watch):
        dropped = [m for m in masks_of(True) if m[0].any()]
        masks = masks_of(False)
    assert masks
    assert all((before == after).all() for before, after in masks)
    factors = np.concatenate([(a.max((1, 2)) / np.maximum(b.max((1, 2)), 1e-9)).ravel() for b, a in dropped])
    alive = np.concatenate([b.max((1, 2)).ravel() > 0 for b, _ in dropped])
    assert {round(float(f), 3) for f in factors[alive]} == {0.0, round(1 / 0.9, 3)}
    assert 0.02 < (factors[alive] == 0).mean() < 0.25


# VGG-16 and its weights

TINY_BLOCKS = ((2, 3), (2, 2), (3, 2, 2), (2, 2, 2), (2, 2, 4))
POSITIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of convolutions in torchvision's `features`


def torchvision_weights(channels, hidden, num_classes):
    generator = np.random.default_rng(3)
    shapes, inputs = {}, 3
    for position, outputs in zip(POSITIONS, channels, strict=True):
        shapes[f"features.{position}"], inputs = (outputs, inputs, 3, 3), outputs
    shapes |= {"classifier.0": (hidden, inputs * 49), "classifier.3": (hidden, hidden)}
    shapes["classifier.6"] = (num_classes, hidden)
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = (generator.normal(size=shape) * np.prod(shape[1:]) ** -0.5).astype(np.float32)
        weights[f"{name}.bias"] = generator.normal(size=shape[0]).astype(np.float32)
    return weights


def write_safetensors(path, tensors):
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    return path


def torchvision_forward(weights, images):
    """VGG-16 as torchvision computes it: channels first, and flattened so."""
    x = images.astype(np.float64)
    for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        for position in block:
            kernel = weights[f"features.{position}.weight"].transpose(2, 3, 1, 0)
            x = relu(conv(x, {"kernel": kernel, "bias": weights[f"features.{position}.bias"]}))
        x = pool(x, 2, 2, 0)
    x = x.transpose(0, 3, 1, 2)
    cells = [(i * x.shape[2] // 7, -(-(i + 1) * x.shape[2] // 7)) for i in range(7)]
    x = np.array([[x[:, :, a:b, c:d].mean((2, 3)) for c, d in cells] for a, b in cells]).transpose(2, 3, 0, 1)
    x = x.reshape(len(x), -1)
    for name in ("classifier.0", "classifier.3"):
        x = relu(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
    return x @ weights["classifier.6.weight"].T + weights["classifier.6.bias"]


@pytest.fixture(scope="module")
def tiny_vgg():
    model = vgg.VGG16(6, blocks=TINY_BLOCKS, hidden_size=8)
    weights = torchvision_weights([c for block in TINY_BLOCKS for c in block], 8, 6)
    return model, first_variables(model, (32, 32, 3))["params"], weights


@pytest.mark.parametrize("size", [32, 96])
def test_vgg_with_loaded_weights_computes_what_torchvision_does(tiny_vgg, tmp_path, size):
    model, params, weights = tiny_vgg
    loaded = vgg.load_vgg16(write_safetensors(tmp_path / "vgg.safetensors", weights), params)
    np.testing.assert_array_equal(loaded["Dense_2"]["kernel"], params["Dense_2"]["kernel"])  # the new head stays
    head = {"kernel": weights["classifier.6.weight"].T, "bias": weights["classifier.6.bias"]}
    images = photos(2, size, size, 3)
    found = logits_of(model, {"params": {**loaded, "Dense_2": head}}, images)
    np.testing.assert_allclose(found, torchvision_forward(weights, images), atol=1e-4)


def test_vgg_reads_the_layout_in_which_dense_layers_are_convolutions(tiny_vgg, tmp_path):
    _, params, weights = tiny_vgg
    renamed = {k: v for k, v in weights.items() if not k.startswith("classifier")}
    for old, new, shape in (
        ("classifier.0", "pre_logits.fc1", (8, 4, 7, 7)),
        ("classifier.3", "pre_logits.fc2", (8, 8, 1, 1)),
    ):
        renamed |= {f"{new}.weight": weights[f"{old}.weight"].reshape(shape), f"{new}.bias": weights[f"{old}.bias"]}
    one = vgg.load_vgg16(write_safetensors(tmp_path / "a.safetensors", weights), params)
    two = vgg.load_vgg16(write_safetensors(tmp_path / "b.safetensors", renamed), params)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_weights_of_another_network_are_refused(tiny_vgg, tmp_path):
    _, params, weights = tiny_vgg
    wider = {**weights, "features.0.weight": np.zeros((5, 3, 3, 3), np.float32)}
    with pytest.raises(UserError, match=r"convolution 1 is \(3, 3, 3, 5\); VGG-16 needs \(3, 3, 3, 2\)"):
        vgg.load_vgg16(write_safetensors(tmp_path / "wide.safetensors", wider), params)
    lacking = {k: v for k, v in weights.items() if not k.startswith("classifier.3")}
    path = write_safetensors(tmp_path / "less.safetensors", lacking)
    with pytest.raises(UserError, match=r"no weights classifier.3.weight"):
        vgg.load_vgg16(path, params)
