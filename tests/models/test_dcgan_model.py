"""The networks of DCGAN against published counts, a transposed convolution by hand, and each other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_maps import quickly

from jaxrepro import config_file
from jaxrepro.config import parse
from jaxrepro.errors import UserError
from jaxrepro.experiments import dcgan
from jaxrepro.models.dcgan import (
    DCGANConfig,
    Discriminator,
    Downsampling,
    Ends,
    Generator,
    LatentLaw,
    Output,
    draw_latents,
    transposed_padding,
)

KEY = jax.random.key(0)
LABELS = jnp.array([0, 1, 2])


def preset(name, **changes):
    config = parse(dcgan.Config, config_file.load(f"configs/dcgan.py:{name}"))
    return dataclasses.replace(config.model, **changes)


def tiny(**changes):
    return DCGANConfig(**{"image_size": 8, "image_channels": 1, "base_width": 2, "latent": 3} | changes)


def initial(network, x, labels=None):
    """Returns the variables of a network, compiled: operation by operation it takes seconds."""
    return quickly(functools.partial(network.init, train=True), KEY, x, labels)


def counts(model):
    config = dcgan.Config(experiment="dcgan", name="dcgan", model=model)
    shapes = jax.eval_shape(lambda: dcgan.init_params(config, KEY))
    return tuple(sum(leaf.size for leaf in jax.tree.leaves(shapes[n])) for n in ("generator", "discriminator"))


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (preset("report"), (3_576_704, 2_765_568)),
        (preset("report", image_size=32), (1_068_928, 663_296)),
        (preset("report", image_size=128), (12_786_560, 11_164_416)),
        (preset("report", image_channels=1), (3_574_656, 2_763_520)),
        (preset("report", latent=10), (2_839_424, 2_765_568)),
        (preset("report", latent=1000), (10_949_504, 2_765_568)),
        (preset("paper"), (18_885_760, 17_232_768)),
        (preset("imagenet"), (6_690_688, 4_586_112)),
        (preset("svhn"), (1_446_976, 1_033_664)),
        (preset("mnist"), (6_820_538, 6_688_202)),
        (preset("mnist", num_labels=0), (6_731_328, 6_629_952)),
    ],
)
def test_the_published_nets_have_their_published_numbers_of_parameters(model, expected):
    assert counts(model) == expected


def test_dense_ends_only_add_their_biases():
    generator, discriminator = counts(preset("report", ends=Ends.PLAIN_DENSE))
    assert (generator, discriminator) == (3_576_704 + 4 * 4 * 512, 2_765_568 + 1)


def test_pooling_replaces_the_kernels_of_4_by_kernels_of_3():
    _, discriminator = counts(preset("report", downsampling=Downsampling.MAX_POOL))
    assert discriminator == 2_765_568 - 7 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)


def test_the_feature_extractor_has_28672_pooled_features():
    assert 16 * sum(width for width, _ in preset("imagenet").convolutions) == 28_672


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("model", [preset("imagenet"), preset("mnist"), preset("paper"), preset("report")])
def test_the_generator_makes_what_the_discriminator_takes(model):
    variables = jax.eval_shape(lambda: Generator(model).init(KEY, jnp.zeros((3, model.latent)), LABELS, train=True))
    images = jax.eval_shape(
        lambda v: Generator(model).apply(v, jnp.zeros((3, model.latent)), LABELS, train=False), variables
    )
    assert images.shape == (3, *model.image_shape)
    logits = jax.eval_shape(lambda: Discriminator(model).init_with_output(KEY, images_like(images), LABELS, train=True))
    assert logits[0].shape == (3,)


def images_like(shape):
    return jnp.zeros(shape.shape, shape.dtype)


@pytest.mark.parametrize(("kernel", "stride", "crop"), [(3, 2, 1), (4, 2, 1), (5, 2, 2), (3, 1, 1), (5, 1, 2)])
def test_a_transposed_convolution_scatters_its_kernel_as_in_the_tutorial(kernel, stride, crop):
    """Input pixel i adds its value times the kernel at stride * i - crop, and the map grows by the stride exactly."""
    from jaxrepro.layers import conv_transpose2d

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4, 4, 3)).astype(np.float32), rng.normal(size=(kernel, kernel, 3, 2)).astype(np.float32)
    canvas = np.zeros((2, 4 * stride + 2 * kernel, 4 * stride + 2 * kernel, 2))
    for i in range(4):
        for j in range(4):
            top, left = stride * i - crop + kernel, stride * j - crop + kernel
            canvas[:, top : top + kernel, left : left + kernel] += np.einsum("bi,hwio->bhwo", x[:, i, j], w[::-1, ::-1])
    expected = canvas[:, kernel : kernel + 4 * stride, kernel : kernel + 4 * stride]
    found = quickly(lambda x, w: conv_transpose2d(x, w, stride, transposed_padding(kernel, stride)), x, w)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("output", "low", "high"), [(Output.TANH, -1, 1), (Output.SIGMOID, 0, 1), (Output.RELU, 0, jnp.inf)]
)
def test_the_output_activation_bounds_the_images(output, low, high):
    generator = Generator(tiny(output=output))
    z = 100 * draw_latents(generator.config, KEY, 8)
    images, _ = jax.jit(functools.partial(generator.init_with_output, train=True))(KEY, z)
    assert images.min() >= low
    assert images.max() <= high
    assert images.std() > 0


def test_a_slope_of_0_is_a_relu_and_the_default_leaks():
    images = jax.random.normal(KEY, (2, 8, 8, 1))
    for slope in (0.0, 0.2):
        discriminator = Discriminator(tiny(slope=slope))
        variables = initial(discriminator, images)
        first = jax.jit(functools.partial(discriminator.apply, train=False, method="features"))(variables, images)
        assert (min(a.min() for a in first) < 0) == (slope > 0)


def test_the_dense_ends_compute_the_same_function_as_the_4_by_4_convolutions():
    images = jax.random.normal(KEY, (3, 8, 8, 1))
    convolutional, dense = (Discriminator(tiny(ends=e)) for e in (Ends.CONVOLUTION, Ends.PLAIN_DENSE))
    variables = initial(convolutional, images)
    kernel = variables["params"]["last"]["kernel"]
    last = {"kernel": kernel.reshape(-1, 1), "bias": jnp.zeros(1)}
    other = {**variables, "params": {**variables["params"], "last": last}}
    expected, found = (
        quickly(functools.partial(network.apply, train=False), v, images)
        for network, v in ((convolutional, variables), (dense, other))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_labels_enter_a_conditional_model_and_no_other():
    images, z = jax.random.normal(KEY, (3, 8, 8, 1)), draw_latents(tiny(), KEY, 3)
    for num_labels in (0, 4):
        model = tiny(num_labels=num_labels)
        for network, x in ((Generator(model), z), (Discriminator(model), images)):
            variables = initial(network, x, LABELS)
            apply = jax.jit(functools.partial(network.apply, train=False))
            found = [apply(variables, x, labels) for labels in (LABELS, LABELS + 1)]
            assert np.array_equal(*found) == (num_labels == 0)


def test_latents_follow_their_law():
    normal, uniform = (draw_latents(tiny(latent_law=law), KEY, 5000) for law in (LatentLaw.NORMAL, LatentLaw.UNIFORM))
    assert abs(normal.std() - 1) < 0.03
    assert abs(uniform.std() - 3**-0.5) < 0.01
    assert abs(uniform).max() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 48}, "image_size is 48"),
        ({"image_size": 4}, "image_size is 4"),
        ({"kernel": 7}, "kernel is 7"),
        ({"layers_per_stage": 2}, "odd"),
        ({"hidden": 10}, "hidden is 10"),
        ({"latent": 0}, "latent is 0"),
        ({"slope": -0.1}, "slope is -0.1"),
    ],
)
def test_an_impossible_net_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        DCGANConfig(**changes)
