"""The two terms of the beta-VAE's loss, one value per example, in nats where they are likelihoods.

Source: YOTO (Dosovitskiy & Djolonga, ICLR 2020) section 4.1; Kingma & Welling (2014), appendix B.
"""

import jax
import jax.numpy as jnp


def gaussian_kl(mean: jax.Array, std: jax.Array) -> jax.Array:
    """Returns KL(N(mean, std^2) || N(0, 1)) summed over the last axis: [B] from [B, latent]."""
    return 0.5 * jnp.sum(mean**2 + std**2 - 2 * jnp.log(std) - 1, axis=-1)


def squared_head_kl(mean: jax.Array, head: jax.Array) -> jax.Array:
    """Returns the reproduction report's divergence, which takes the square of its head for the variance: [B].

    1/2 sum(mean^2 + s^2 - log s^2 - 1) with s the head that its sampling takes for log(std^2): no divergence of the
    distribution that is sampled from, 0 at s = 1 or -1. Source: the report's public code.
    """
    return 0.5 * jnp.sum(mean**2 + head**2 - jnp.log(head**2) - 1, axis=-1)


def gaussian_nll(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Returns -log N(images; mean, std^2) summed over pixels and channels: [B] from [B, H, W, C]."""
    nll = 0.5 * ((images - mean) / std) ** 2 + jnp.log(std) + 0.5 * jnp.log(2 * jnp.pi)
    return nll.sum(axis=(1, 2, 3))


def bernoulli_nll(images: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns -log Bernoulli(images; sigmoid(logits)) summed over pixels and channels, images in [0, 1]: [B]."""
    return (jnp.logaddexp(0.0, logits) - images * logits).sum(axis=(1, 2, 3))


def absolute_error(images: jax.Array, output: jax.Array) -> jax.Array:
    """Returns |images - output| summed over pixels and channels: [B] from [B, H, W, C]."""
    return jnp.abs(images - output).sum(axis=(1, 2, 3))


def squared_error(images: jax.Array, output: jax.Array) -> jax.Array:
    """Returns (images - output)^2 summed over pixels and channels: [B] from [B, H, W, C]."""
    return jnp.square(images - output).sum(axis=(1, 2, 3))


def kl_per_dimension(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Returns KL(N(mean, exp(log_variance)) || N(0, 1)) of every number by itself, in the shape of both."""
    return 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance)
