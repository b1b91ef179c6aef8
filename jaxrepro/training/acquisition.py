"""Which images to ask a label for: scores of the logits of several passes with dropout, natural logarithms.

    logits = monte_carlo_logits(network, variables, images, key, num_passes=20)    # [T, N, K]
    rows = jax.lax.top_k(bald(logits), 100)[1]                                      # of equals the first

BALD (Houlsby et al., 2011; Gal et al., 2017) is the information that the label gives about the weights; entropy asks
wherever the network is unsure, and so for images that nobody can read. Synbols (Lacoste et al., 2020), section 4.
"""

from enum import StrEnum
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.config import Precision
from jaxrepro.training.precision import apply_in


class Score(StrEnum):
    """What a method ranks the pool by."""

    BALD = "bald"
    ENTROPY = "entropy"
    RANDOM = "random"


class Averaged(StrEnum):
    """What entropy is that of: the mean probabilities (the paper), or softmax of the mean logits (released code)."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


def entropy(log_probabilities: jax.Array) -> jax.Array:
    """Returns the entropies in nats of distributions float [..., K], given as logarithms; -inf counts as 0."""
    terms = jnp.where(jnp.isneginf(log_probabilities), 0.0, log_probabilities * jnp.exp(log_probabilities))
    return -terms.sum(-1)


def mean_log_probabilities(logits: jax.Array, averaged: Averaged = Averaged.PROBABILITIES) -> jax.Array:
    """Returns the logarithm of the prediction that all passes agree on, float32 [N, K].

    Args:
      logits: float [T, N, K].
    """
    logits = logits.astype(jnp.float32)
    if averaged == Averaged.LOGITS:
        return jax.nn.log_softmax(logits.mean(0))
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def predictive_entropy(logits: jax.Array, averaged: Averaged = Averaged.PROBABILITIES) -> jax.Array:
    """Returns the entropy of the mean prediction of logits [T, N, K], float32 [N] in 0 … log K."""
    return entropy(mean_log_probabilities(logits, averaged))


def bald(logits: jax.Array) -> jax.Array:
    """Returns entropy of the mean prediction minus mean entropy, of logits [T, N, K], float32 [N] in 0 … log K."""
    return predictive_entropy(logits) - entropy(jax.nn.log_softmax(logits.astype(jnp.float32))).mean(0)


def score(kind: Score, logits: jax.Array, averaged: Averaged = Averaged.PROBABILITIES) -> jax.Array:
    """Returns float32 [N] of logits [T, N, K]; the highest is asked for. Scores that are not finite become 0.

    Raises:
      ValueError: RANDOM, which no logits decide.
    """
    if kind == Score.RANDOM:
        raise ValueError("a random order does not depend on logits; draw it from a key")
    found = bald(logits) if kind == Score.BALD else predictive_entropy(logits, averaged)
    return jnp.where(jnp.isfinite(found), found, 0.0)


def monte_carlo_logits(
    network: nn.Module,
    variables: Any,
    images: jax.Array,
    key: jax.Array,
    num_passes: int,
    precision: Precision = Precision.FLOAT32,
) -> jax.Array:
    """Returns logits float32 [T, B, K] of passes with dropout; the network in front of the first dropout runs once.

    Pass t drops what `network.apply(…, rngs={"dropout": fold_in(key, t)})` drops.

    Args:
      network: with the methods `hidden` and `classify` of `models.vgg.VGG16`.
      images: float32 [B, H, W, C].
    """
    hidden = apply_in(precision, network, variables, images, method="hidden")

    def one(t):
        rngs = {"dropout": jax.random.fold_in(key, t)}
        return apply_in(precision, network, variables, hidden, train=True, method="classify", rngs=rngs)

    return jax.lax.map(one, jnp.arange(num_passes)).astype(jnp.float32)
