"""The tutorial's networks at 8 pixels and its training step, written a second time."""

import jax
import jax.numpy as jnp
import optax


def normalised(x, bn):
    mean = x.mean(axis=(0, 1, 2))
    return bn["scale"] * (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(axis=(0, 1, 2)) + 1e-5) + bn["bias"]


def scattered(x, kernel, stride, crop, size):
    """A transposed convolution written as the tutorial's: every pixel adds its share of the flipped kernel."""
    k = kernel.shape[0]
    canvas = jnp.zeros((len(x), size + 2 * k, size + 2 * k, kernel.shape[3]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            share = jnp.einsum("bi,hwio->bhwo", x[:, i, j], kernel[::-1, ::-1])
            top, left = stride * i - crop + k, stride * j - crop + k
            canvas = canvas.at[:, top : top + k, left : left + k].add(share)
    return canvas[:, k : k + size, k : k + size]


def reference_generator(p, z):
    x = scattered(z[:, None, None], p["ConvTranspose_0"]["kernel"], 1, 0, 2)
    x = jax.nn.relu(normalised(x, p["BatchNorm_0"]))
    x = jax.nn.relu(normalised(scattered(x, p["ConvTranspose_1"]["kernel"], 2, 1, 4), p["BatchNorm_1"]))
    return jnp.tanh(scattered(x, p["ConvTranspose_2"]["kernel"], 2, 1, 8))


def convolution(p, layer, x, stride, pad):
    pads = ((pad, pad), (pad, pad))
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, p[layer]["kernel"], (stride, stride), pads, dimension_numbers=dimensions)


def second_convolution(p, images):
    """Returns what the discriminator's only batch norm sees."""
    x = convolution(p, "convs_0", images, 2, 1)
    return convolution(p, "convs_1", jnp.where(x > 0, x, 0.2 * x), 2, 1)


def reference_discriminator(p, images):
    x = normalised(second_convolution(p, images), p["norms_0"])
    return convolution(p, "last", jnp.where(x > 0, x, 0.2 * x), 1, 0).reshape(len(x))


def reference_step(lr, params, opt_states, images, z):
    """The tutorial's step with Optax's cross entropy and Adam; returns losses, new parameters and optimizer states."""
    adam, bce = optax.adam(lr, b1=0.5), optax.sigmoid_binary_cross_entropy
    real = images["image"] / 127.5 - 1
    fakes = reference_generator(params["generator"], z)

    def discriminator_loss(d):
        on_real, on_fake = reference_discriminator(d, real), reference_discriminator(d, fakes)
        return bce(on_real, jnp.ones(len(real))).mean() + bce(on_fake, jnp.zeros(len(real))).mean()

    loss_d, grads = jax.value_and_grad(discriminator_loss)(params["discriminator"])
    updates, state_d = adam.update(grads, opt_states["discriminator"])
    new_d = optax.apply_updates(params["discriminator"], updates)

    def generator_loss(g):
        return bce(reference_discriminator(new_d, reference_generator(g, z)), jnp.ones(len(real))).mean()

    loss_g, grads = jax.value_and_grad(generator_loss)(params["generator"])
    updates, state_g = adam.update(grads, opt_states["generator"])
    new = {"generator": optax.apply_updates(params["generator"], updates), "discriminator": new_d}
    return loss_d, loss_g, new, {"generator": state_g, "discriminator": state_d}
