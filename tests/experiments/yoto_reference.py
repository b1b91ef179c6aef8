"""YOTO's two networks once more in plain jnp, and the presets' configs, for tests of every line of the presets.

PyTorch's transposed convolution is a scatter here, the release's the transpose of a strided one.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro import config_file
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import parse
from jaxrepro.experiments import yoto
from jaxrepro.mesh import leaf_path

KEY = jax.random.key(0)
NHWC = ("NHWC", "HWIO", "NHWC")
TINY = {"image_shape": (16, 16, 3), "num_blocks": 2, "base_channels": 2, "hidden": 5, "latent": 3}


def config_of(name, preset="report", **changes):
    values = config_file.load(f"configs/{name}.py:{preset}")
    for path, value in changes.items():
        config_file.set_value(values, path.replace("__", "."), value)
    return parse(yoto.Config, values)


def params_of(config):
    key = jax.random.key(0, impl="rbg")  # whose generator compiles much faster
    made = jax.jit(lambda key: yoto.init_params(config, key), compiler_options=QUICK_COMPILE)(key)
    return {
        name: {leaf_path(path): np.asarray(a) for path, a in jax.tree_util.tree_leaves_with_path(tree)}
        for name, tree in made.items()
    }


def correlate(x, params, stride=1):
    """PyTorch's convolution of 3x3 with padding 1, [B, H, W, I] to [B, H / stride, W / stride, O]."""
    pads = ((1, 1), (1, 1))
    y = jax.lax.conv_general_dilated(x, params["kernel"], (stride, stride), pads, dimension_numbers=NHWC)
    return y + params["bias"]


def scatter(x, params, stride=1):
    """PyTorch's transposed convolution of 3x3 with padding 1, and an output padding of 1 where stride is 2.

    Pixel (i, j) adds x W[u, v] at (stride i + u - 1, stride j + v - 1); W is our kernel turned by half a circle.
    """
    num, height, width, _ = x.shape
    w = params["kernel"][::-1, ::-1]
    y = jnp.zeros((num, stride * height + 2, stride * width + 2, w.shape[3]))
    for u in range(3):
        for v in range(3):
            rows, columns = (slice(o, o + stride * n, stride) for o, n in ((u, height), (v, width)))
            y = y.at[:, rows, columns].add(x @ w[u, v])
    return y[:, 1 : 1 + stride * height, 1 : 1 + stride * width] + params["bias"]


def linear(x, params):
    return x @ params["kernel"] + params["bias"]


def leaky(x, slope=0.01):
    return jnp.where(x > 0, x, slope * x)


def modulated(x, params, condition):
    """FiLM without a hidden layer; nothing without conditioning."""
    if "FiLM_0" not in params:
        return x
    sigma, mu = jnp.split(jax.nn.sigmoid(linear(condition, params["FiLM_0"]["both"])), 2, axis=-1)
    return sigma[:, None, None] * x + mu[:, None, None]


def plain_report(p, images, beta, noise):
    """Returns (reconstruction, KL as run, KL as it should be), means over the batch, of a net of two blocks."""
    condition = jnp.tile(beta[:, None], (1, 256))
    x = images
    for n in range(2):
        block = p[f"encoder_blocks_{n}"]
        x = correlate(leaky(correlate(x, block["Conv_0"], 2)), block["Conv_1"])
        x = leaky(modulated(x, block, condition))
    x = leaky(linear(leaky(linear(x.reshape(len(x), -1), p["encoder_hidden"])), p["encoder_output"]))
    mean, s = linear(x, p["mean_head"]), linear(x, p["variance_head"])
    z = mean + jnp.exp(s / 2) * noise
    x = leaky(linear(leaky(linear(z, p["decoder_hidden"])), p["decoder_input"])).reshape(len(z), 4, 4, -1)
    for n in range(2):
        block = p[f"decoder_blocks_{n}"]
        x = scatter(leaky(scatter(x, block["ConvTranspose_0"], 2)), block["ConvTranspose_1"])
        x = modulated(x, block, condition)
        x = x if n else leaky(x)
    q = jax.nn.sigmoid(x)
    entropy = -(images * jnp.log(q) + (1 - images) * jnp.log(1 - q)).sum((1, 2, 3)).mean()
    as_run = 0.5 * (mean**2 + s**2 - jnp.log(s**2) - 1).mean()
    right = 0.5 * (mean**2 + jnp.exp(s) - s - 1).sum(1).mean()
    return entropy, as_run, right


def plain_release(p, images, beta, noise):
    """Returns (reconstruction, KL) [B] of the release's net, of blocks of two convolutions."""
    num_blocks = sum(name.startswith("encoder_blocks") for name in p)
    condition = jnp.stack([jnp.log(beta), 0 * beta], axis=-1)

    def film(x, block):
        sigma, mu = (
            0.1 * linear(leaky(linear(condition, block[f"{n}_hidden"]), 0.2), block[n])[:, None, None]
            for n in ("sigma", "mu")
        )
        return (1 + sigma) * x + mu

    def same(x, params, stride=1):  # TensorFlow pads at the end first
        pads = ((0, 1), (0, 1)) if stride == 2 else ((1, 1), (1, 1))
        return jax.lax.conv_general_dilated(x, params["kernel"], (stride,) * 2, pads, dimension_numbers=NHWC)

    def enlarge(x, params):  # the transpose of a strided convolution, which has the kernel turned and its axes swapped
        kernel = params["kernel"][::-1, ::-1].swapaxes(2, 3)
        large = jnp.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2], kernel.shape[2]))
        return jax.vjp(lambda y: same(y, {"kernel": kernel}, 2), large)[1](x)[0]

    x = images
    for n in range(num_blocks):
        block = p[f"encoder_blocks_{n}"]
        x = leaky(x, 0.3) if n else x
        x = leaky(same(x, block["Conv_0"], 2) + block["Conv_0"]["bias"], 0.3)
        x = film(same(x, block["Conv_1"]) + block["Conv_1"]["bias"], block["FiLM_0"])
    x = linear(leaky(linear(x.reshape(len(x), -1), p["encoder_hidden"]), 0.2), p["encoder_output"])
    mean, std = x[:, :3], 1e-6 + jnp.log1p(jnp.exp(x[:, 3:]))
    x = leaky(linear(mean + std * noise, p["decoder_hidden"]), 0.2)
    x = linear(x, p["decoder_input"]).reshape(len(x), 4, 4, -1)
    for n in range(num_blocks):
        block = p[f"decoder_blocks_{n}"]
        first, last = block["ConvTranspose_0"], block["ConvTranspose_1"]
        x = leaky(same(x, first) + first["bias"], 0.3)
        x = leaky(film(enlarge(x, last) + last["bias"], block["FiLM_0"]), 0.3)
    x = same(x, p["decoder_output"]) + p["decoder_output"]["bias"]
    location, scale = x[..., :3], 1e-6 + jnp.log1p(jnp.exp(x[..., 3:]))
    density = -0.5 * ((images - location) / scale) ** 2 - jnp.log(scale) - 0.5 * np.log(2 * np.pi)
    kl = 0.5 * (mean**2 + std**2 - 2 * jnp.log(std) - 1).sum(1)
    return -density.sum((1, 2, 3)), kl
