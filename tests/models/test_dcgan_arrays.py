"""The authors' arrays against their layers written out: Theano's layout, its flipped convolution and its transpose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.errors import UserError
from jaxrepro.experiments import dcgan
from jaxrepro.models.dcgan import DCGANConfig
from jaxrepro.models.dcgan_arrays import read_arrays

MODEL = DCGANConfig(image_size=16, base_width=3, kernel=5, ends="dense", latent=7, batch_norm_eps=1e-8)
NCHW = ("NCHW", "OIHW", "NCHW")


def made_up(seed=0):
    """Returns arrays in the authors' order for maps of 4x4, 8x8 and 16x16: generator 7 -> 6 -> 3 -> 3 channels."""
    rng = np.random.default_rng(seed)

    def of(*shape):
        return rng.normal(size=shape).astype(np.float32)

    gen = [of(7, 6 * 16), of(96), of(96), of(6, 3, 5, 5), of(3), of(3), of(3, 3, 5, 5)]
    discrim = [of(3, 3, 5, 5), of(6, 3, 5, 5), of(6), of(6), of(6 * 16, 1)]
    return gen, discrim


def write(path, gen, discrim):
    np.savez(path, **{f"gen_{i}": a for i, a in enumerate(gen)}, **{f"discrim_{i}": a for i, a in enumerate(discrim)})
    return path


def shapes():
    config = dcgan.Config(experiment="dcgan", name="dcgan", model=MODEL)
    return jax.eval_shape(lambda: dcgan.init_params(config, jax.random.key(0)))


def flipped(x, w):
    """Theano's convolution of 5x5 with stride 2 and padding 2: [B, I, H, W], [O, I, h, w] to [B, O, H / 2, W / 2]."""
    w = w[:, :, ::-1, ::-1]
    return jax.lax.conv_general_dilated(x, w, (2, 2), ((2, 2), (2, 2)), dimension_numbers=NCHW, precision="highest")


def deconv(x, w):
    """Its transpose: [B, O, H, W] to [B, I, 2H, 2W] of w [O, I, h, w]."""
    large = jnp.zeros((len(x), w.shape[1], 2 * x.shape[2], 2 * x.shape[3]))
    return jax.vjp(lambda y: flipped(y, w), large)[1](x)[0]


def normalised(x, g, b):
    axes = (0,) if x.ndim == 2 else (0, 2, 3)
    shape = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-8) * g.reshape(shape) + b.reshape(shape)


def of_batch(network, params, x):
    """Returns a network's output, normalised by its batch."""
    run = jax.jit(lambda p, x: network.apply({"params": p}, x, train=True, mutable=["batch_stats"])[0])
    return run(params, x)


def test_both_networks_compute_what_the_authors_do_with_their_arrays(tmp_path):
    gen, discrim = made_up()
    params = read_arrays(write(tmp_path / "authors.npz", gen, discrim), shapes())
    rng = np.random.default_rng(1)
    z, images = rng.normal(size=(4, 7)).astype(np.float32), rng.normal(size=(4, 3, 16, 16)).astype(np.float32)

    w, g, b, w2, g2, b2, wx = gen
    h = jax.nn.relu(normalised(z @ w, g, b)).reshape(4, 6, 4, 4)
    expected = jnp.tanh(deconv(jax.nn.relu(normalised(deconv(h, w2), g2, b2)), wx))
    config = dcgan.Config(experiment="dcgan", name="dcgan", model=MODEL)
    generator, discriminator = dcgan.networks(config)
    found = of_batch(generator, params["generator"], z)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=2e-4)

    w, w2, g2, b2, wy = discrim
    h = jax.nn.leaky_relu(flipped(images, w), 0.2)
    h = jax.nn.leaky_relu(normalised(flipped(h, w2), g2, b2), 0.2)
    found = of_batch(discriminator, params["discriminator"], images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, (h.reshape(4, -1) @ wy)[:, 0], rtol=1e-3, atol=1e-3)


def test_arrays_of_another_net_are_refused_in_one_line(tmp_path):
    gen, discrim = made_up()
    smaller = [np.zeros((3, 3, 4, 4), np.float32), *discrim[1:]]
    for net, arrays in (("generator", (gen[:3], discrim)), ("discriminator", (gen, smaller))):
        with pytest.raises(UserError, match=f"does not fit the {net}") as error:
            read_arrays(write(tmp_path / "other.npz", *arrays), shapes())
        assert "\n" not in str(error.value)
    (tmp_path / "x.npz").write_text("no archive")
    with pytest.raises(UserError, match="no npz file"):
        read_arrays(tmp_path / "x.npz", shapes())
    with pytest.raises(UserError, match="no npz file"):
        read_arrays(tmp_path / "missing.npz", shapes())


def test_a_run_begins_with_the_authors_weights(tmp_path):
    gen, discrim = made_up()
    config = dcgan.Config(
        experiment="dcgan",
        name="dcgan",
        model=MODEL,
        weights=str(write(tmp_path / "authors.npz", gen, discrim)),
    )
    given = dcgan.read_weights(config)
    np.testing.assert_array_equal(given["generator"]["ConvTranspose_1"]["kernel"], gen[6].transpose(2, 3, 0, 1))
    optimizer = dcgan.make_optimizer(config.optim, 10)
    begin = jax.jit(lambda key, given: dcgan.init_state(config, optimizer, key, given), compiler_options=QUICK_COMPILE)
    state = begin(jax.random.key(0), given)
    np.testing.assert_array_equal(
        state.discriminator.params["last"]["kernel"].ravel()[:6], discrim[4].reshape(6, 16)[:, 0]
    )
    with pytest.raises(UserError, match="ends='dense'"):
        dcgan.Config(experiment="dcgan", name="dcgan", weights="authors.npz")
