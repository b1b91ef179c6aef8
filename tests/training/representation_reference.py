"""Synbols' autoencoders and Deep InfoMax once more, in plain jnp: from a tree of parameters to a loss.

Convolutions are XLA's own. Nothing of the package is used but the names of its parameters.
"""

import jax
import jax.numpy as jnp
from jax import lax


def conv(x, p, pad=0):
    dims = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, p["kernel"], (1, 1), [(pad, pad)] * 2, dimension_numbers=dims) + p.get("bias", 0)


def dense(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def normalise(x):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(axes) + 1e-5)


def bn(x, p):
    return normalise(x) * p["scale"] + p["bias"]


def relu(x, slope=0.0):
    return jnp.where(x > 0, x, slope * x)


def infomax_encoder(x, p):
    maps = None
    for i in range(4):
        x = conv(x, p[f"Conv_{i}"])
        x = relu(bn(x, p[f"BatchNorm_{i - 1}"]) if i else x)
        maps = x if i == 1 else maps
    return maps, dense(x.reshape(len(x), -1), p["Dense_0"])


def pool(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def residual_encoder(x, p, halves):
    """Without dropout. halves: of every block in turn, whether it ends a group's first block."""
    low, end_of_first = None, [*halves, True].index(True, 1)
    for i, half in enumerate(halves):
        b = p[f"DownBlock_{i}"]
        h = conv(relu(bn(x, b["BatchNorm_0"])), b["conv1"], 1)
        h = conv(relu(bn(h, b["BatchNorm_1"])), b["conv2"], 1)
        x = conv(x, b["shortcut"]) if "shortcut" in b else x
        h, x = (pool(h), pool(x)) if half else (h, x)
        x = h + x
        low = x if i + 1 == end_of_first else low
    x = relu(bn(x, p["BatchNorm_0"]), 0.2).reshape(len(x), -1)
    x = relu(bn(dense(x, p["Dense_0"]), p["BatchNorm_1"]), 0.2)
    return low, dense(x, p["Dense_1"])


def spectral(kernel, u):
    """Returns (kernel over its largest singular value by one power iteration from u [O], the next u)."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    v = matrix @ u
    v = v / jnp.linalg.norm(v)
    u = matrix.T @ v
    u = u / jnp.linalg.norm(u)
    u, v = lax.stop_gradient(u), lax.stop_gradient(v)
    return kernel / (v @ matrix @ u), u


def cbn(x, z, p):
    gamma, beta = jnp.split(dense(z, p["Dense_0"]), 2, -1)
    return normalise(x) * gamma[:, None, None] + beta[:, None, None]


def double(x):
    return jnp.kron(x, jnp.ones((1, 2, 2, 1)))


def up_block(x, z, p, stats):
    def sconv(x, name, pad):
        return conv(x, {"kernel": spectral(p[name]["kernel"], stats[name]["u"])[0]}, pad)

    h = sconv(double(relu(cbn(x, z, p["ConditionalBatchNorm_0"]))), "conv1", 1)
    h = sconv(relu(cbn(h, z, p["ConditionalBatchNorm_1"])), "conv2", 1)
    return h + (sconv(double(x), "shortcut", 0) if "shortcut" in p else double(x))


def decoder(top, low, p, stats, side):
    x = top
    for i in range(2):
        x = relu(bn(dense(x, p[f"Dense_{i}"]), p[f"BatchNorm_{i}"]), 0.2)
    x = dense(x, p["Dense_2"]).reshape(len(x), side, side, -1)
    for i in range(3):
        if low is not None and i == 2:
            extra = dense(low, p["Dense_3"]).reshape(*x.shape[:3], -1)
            x = jnp.concatenate([x, extra], -1)
        x = up_block(x, top, p[f"UpBlock_{i}"], stats[f"UpBlock_{i}"])
    return jnp.tanh(conv(relu(bn(x, p["BatchNorm_2"])), p["Conv_0"], 1))


def autoencoder(params, stats, images, noise, code, encoder):
    """Returns (means, log-variances, output) in training; noise [B, D] of the posterior, code: of the top level."""
    low, out = encoder(images, params["encoder"])
    mean, log_variance = out[:, :code], out[:, code:]
    two = "low_level" in params
    if two:
        low = relu(bn(low, params["low_norm"]), 0.2) if "low_norm" in params else low
        m, lv = jnp.split(dense(low.reshape(len(low), -1), params["low_level"]["Dense_0"]), 2, -1)
        mean, log_variance = jnp.concatenate([mean, m], -1), jnp.concatenate([log_variance, lv], -1)
    z = mean + jnp.exp(log_variance / 2) * noise
    low_z = z[:, code:] if two else None
    return mean, log_variance, decoder(z[:, :code], low_z, params["decoder"], stats["decoder"], images.shape[1] // 8)


def autoencoder_loss(params, stats, images, noise, code, encoder, beta):
    mean, log_variance, output = autoencoder(params, stats, images, noise, code, encoder)
    total = 0.0
    for n in range(len(images)):
        kl = 0.5 * (mean[n] ** 2 + jnp.exp(log_variance[n]) - 1 - log_variance[n]).sum()
        total += jnp.abs(images[n] - output[n]).sum() + beta * kl
    return total / len(images)


def score(x, p):
    h = relu(x @ p["kernel"] + p["bias"])
    return dense(relu(dense(h, p["Dense_0"])), p["Dense_1"])[..., 0]


def infomax_loss(params, images, uniform, alpha, beta, gamma):
    """As the released code writes it: maps are shifted along the batch, a sigmoid stands in the prior's logarithms."""
    maps, y = infomax_encoder(images, params["encoder"])
    shifted = jnp.concatenate([maps[1:], maps[:1]])

    def local(m):
        tiled = jnp.broadcast_to(y[:, None, None], (*m.shape[:3], y.shape[1]))
        return score(jnp.concatenate([m, tiled], -1), params["local_discriminator"])

    def whole(m):
        p = params["global_discriminator"]
        h = conv(relu(conv(m, p["Conv_0"])), p["Conv_1"]).reshape(len(m), -1)
        return score(jnp.concatenate([h, y], -1), p["PairScores_0"])

    def js(t):
        return jnp.log1p(jnp.exp(t(shifted))).mean() + jnp.log1p(jnp.exp(-t(maps))).mean()

    def prior(v):
        p = params["prior_discriminator"]
        return jax.nn.sigmoid(dense(relu(dense(relu(dense(v, p["Dense_0"])), p["Dense_1"])), p["Dense_2"]))

    term = -(jnp.log(prior(uniform)).mean() + jnp.log(1 - prior(y)).mean())
    return beta * js(local) + alpha * js(whole) + gamma * term
