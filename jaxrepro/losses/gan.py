"""The losses of a GAN on logits, real = 1 and fake = 0, in nats, as means over the batch.

Source: Goodfellow et al. (2014), with the non-saturating loss for the generator; no smoothing, no noise.
"""

import jax
import jax.numpy as jnp

LIMIT = 100.0  # PyTorch's binary cross entropy clamps the logarithm at -100


def cross_entropy(logits: jax.Array, real: bool, limit: float = jnp.inf) -> jax.Array:
    """Returns -log P(label), at most `limit`, averaged over logits [B]; the label is `real` for all of them."""
    return jnp.minimum(jax.nn.softplus(-logits if real else logits), limit).mean()


def discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array, limit: float = jnp.inf) -> jax.Array:
    """Returns the sum (not the mean) of the two cross entropies: 2 ln 2 for an undecided discriminator.

    limit: of the loss of one example; `LIMIT` gives what the PyTorch tutorial prints.
    """
    return cross_entropy(real_logits, True, limit) + cross_entropy(fake_logits, False, limit)


def generator_loss(fake_logits: jax.Array, limit: float = jnp.inf) -> jax.Array:
    """Returns -log P(real) of the fakes: ln 2 for an undecided discriminator. limit: as above."""
    return cross_entropy(fake_logits, True, limit)
