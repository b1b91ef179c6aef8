"""The losses of Deep InfoMax on raw scores, one value per image, in nats.

Source: Hjelm et al., "Learning deep representations by mutual information estimation and maximization" (ICLR 2019),
section 3, as in the released code of Synbols (Lacoste et al., 2020). Logarithms of a sigmoid are written as softplus:
the code takes them of the sigmoid itself, which gives -inf once it saturates.
"""

import jax


def jensen_shannon(matched: jax.Array, mismatched: jax.Array) -> jax.Array:
    """Returns softplus(-T) of matched pairs plus softplus(T) of mismatched ones, means over positions: [B].

    Args:
      matched: scores T(y_i, M_i), float32 [B, ...].
      mismatched: scores T(y_i, M_i+1), of the same shape. Both 0: 2 ln 2.
    """
    losses = jax.nn.softplus(-matched) + jax.nn.softplus(mismatched)
    return losses.mean(axis=tuple(range(1, losses.ndim))) if losses.ndim > 1 else losses


def prior_matching(uniform: jax.Array, codes: jax.Array) -> jax.Array:
    """Returns -log D(u) - log(1 - D(y)) of the prior's discriminator from its logits [B] of both: [B].

    The released code lets the encoder minimise this too, so it helps the discriminator to tell y from u.
    """
    return jax.nn.softplus(-uniform) + jax.nn.softplus(codes)


def fooling(codes: jax.Array) -> jax.Array:
    """Returns -log D(y) from the logits [B] of codes: what an encoder minimises that should match the prior."""
    return jax.nn.softplus(-codes)
