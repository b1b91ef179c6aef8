"""The loss of FCN8-L, LCFCN: a blob in every image with points, one point in every blob, no blob without a point.

    losses, terms = lcfcn_loss(logits, points, SplitRule.BENCHMARK)          # float32 [B]; name -> float32 [B]

With S_p1 the probability that pixel p is of the counted letter and S_p0 = 1 - S_p1, the terms are sums of -log S_p1 and
-log S_p0 with weights that the host computes from the prediction, see `training.blobs`; they are not differentiated.

Source: Laradji et al. (ECCV 2018), equations 1 to 6, as executed: see `SplitRule`.
"""

import jax
import jax.numpy as jnp

from jaxrepro.training.blobs import SplitRule, batch_background_weights

NUM_OUTPUTS = {SplitRule.BENCHMARK: 2, SplitRule.PACKAGE: 1}  # a softmax, a sigmoid


def log_probabilities(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (log of the probability of background, of foreground) [B, H, W] of logits [B, H, W, 2 or 1]."""
    difference = foreground_logit(logits)
    return jax.nn.log_sigmoid(-difference), jax.nn.log_sigmoid(difference)


def foreground_logit(logits: jax.Array) -> jax.Array:
    """Returns float32 [B, H, W], positive where foreground is predicted; a tie is background."""
    logits = logits.astype(jnp.float32)
    return logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]


def lcfcn_loss(logits: jax.Array, points: jax.Array, rule: SplitRule) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the losses of images in nats, float32 [B], and their terms: image, point, split, false_positive.

    Args:
      logits: [B, H, W, 2 or 1].
      points: bool [B, H, W].
    """
    log0, log1 = log_probabilities(logits)
    foreground = foreground_logit(logits) > 0
    split, false = jnp.moveaxis(batch_background_weights(foreground, jnp.exp(log1), points, rule), 1, 0)
    terms = {
        "image": _image_term(log0, log1, points.any((1, 2)), rule),
        "point": _total(points, log1),
        "split": _total(split, log0),
        "false_positive": _total(false, log0),
    }
    return sum(terms.values()), terms


def _image_term(log0: jax.Array, log1: jax.Array, has_points: jax.Array, rule: SplitRule) -> jax.Array:
    """Background at its surest pixel; foreground at its surest, or, in an image without points, background there.

    The later package leaves the latter out. Of equal pixels the first one counts.
    """
    flat0, flat1 = (log.reshape(len(log), -1) for log in (log0, log1))

    def at(flat, place):
        return jnp.take_along_axis(flat, place[:, None], 1)[:, 0]

    surest = flat1.argmax(1)
    without = -at(flat0, surest) if rule == SplitRule.BENCHMARK else jnp.zeros(len(log0))
    return -at(flat0, flat0.argmax(1)) + jnp.where(has_points, -at(flat1, surest), without)


def _total(weights: jax.Array, log: jax.Array) -> jax.Array:
    return -(weights * log).sum((1, 2))
