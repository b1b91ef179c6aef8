"""Calibration of a trained classifier by a linear layer on its logits, and how well calibrated it is.

    layer = fit_calibration(draw_train, labels, draw_valid, valid_labels, key, CalibrationConfig())
    logits = layer(logits)                                              # any shape [..., K]
    error = expected_calibration_error(confidence, correct)

The layer of the released code: softmax(W z + b) of the logits z of the frozen network, from W = I, b = 0. With
`dirichlet` z is the logarithm of the probabilities instead (Kull et al., "Beyond temperature scaling", 2019), without
that paper's off-diagonal penalty. Synbols (Lacoste et al., 2020), section 4, "BALD Calibrated", "Entropy Calibrated".
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from jaxrepro.data import padded_batches
from jaxrepro.errors import check
from jaxrepro.training import selection

NUM_BINS = 15


@dataclass(frozen=True)
class CalibrationConfig:
    """Attributes:
    rates: learning rates of the phases; each begins with a fresh Adam at the best layer so far.
    epochs: of every phase.
    batch_size: of training.
    weight_penalty, bias_penalty: times the Euclidean norms (not their squares) of W and b.
    dirichlet: whether the layer sees log-probabilities instead of logits.
    """

    rates: tuple[float, ...] = (1e-3, 1e-4)
    epochs: int = 10
    batch_size: int = 16
    weight_penalty: float = 1e-4
    bias_penalty: float = 1e-3
    dirichlet: bool = False

    def __post_init__(self):
        check(len(self.rates) > 0 and min(self.rates) > 0, f"rates is {self.rates}; give positive ones, (1e-3,1e-4)")
        check(self.epochs > 0, f"epochs is {self.epochs}; it must be positive")
        check(self.batch_size > 0, f"batch_size is {self.batch_size}; it must be positive")
        penalties = (self.weight_penalty, self.bias_penalty)
        check(min(penalties) >= 0, f"weight_penalty, bias_penalty are {penalties}; they must be 0 or more")


@struct.dataclass
class Calibration:
    """weight: float32 [K, K], applied as z @ weight. bias: float32 [K]. dirichlet: see the config."""

    weight: jax.Array
    bias: jax.Array
    dirichlet: bool = struct.field(pytree_node=False, default=False)

    def __call__(self, logits: jax.Array) -> jax.Array:
        """Returns calibrated logits float32 [..., K]."""
        logits = jax.nn.log_softmax(logits) if self.dirichlet else logits
        return logits @ self.weight + self.bias


def identity(num_classes: int, dirichlet: bool = False) -> Calibration:
    """Returns the layer that changes nothing (no probability, in Dirichlet form)."""
    return Calibration(jnp.eye(num_classes), jnp.zeros(num_classes), dirichlet)


def objective(layer: Calibration, logits: jax.Array, labels: jax.Array, mask: jax.Array, config: CalibrationConfig):
    """Returns cross-entropy over rows with mask 1, plus the penalties; float scalar."""
    losses = optax.softmax_cross_entropy_with_integer_labels(layer(logits), labels)
    norms = (optax.safe_norm(layer.weight, 0.0), optax.safe_norm(layer.bias, 0.0))  # no NaN in the gradient at b = 0
    return (losses * mask).sum() / mask.sum() + config.weight_penalty * norms[0] + config.bias_penalty * norms[1]


def fit_calibration(
    draw_train: Callable[[jax.Array], jax.Array],
    labels: jax.Array,
    draw_valid: Callable[[jax.Array], jax.Array],
    valid_labels: jax.Array,
    key: jax.Array,
    config: CalibrationConfig,
) -> Calibration:
    """Returns the layer of the epoch with the lowest validation cross-entropy, for use inside jit.

    Args:
      draw_train: key -> logits [N, K] of one pass with dropout, drawn anew in every epoch.
      labels: int32 [N].
      draw_valid, valid_labels: the same of the validation set.
    """
    labels, valid_labels = jnp.asarray(labels), jnp.asarray(valid_labels)
    num_classes = jax.eval_shape(draw_train, key).shape[-1]
    positions, mask = padded_batches(len(labels), min(config.batch_size, len(labels)))
    best = selection.start(identity(num_classes, config.dirichlet))
    for phase, rate in enumerate(config.rates):
        adam = optax.adam(rate)

        def epoch(carry, i, adam=adam, phase=phase):
            layer, opt_state, best = carry
            keys = jax.random.split(jax.random.fold_in(key, phase * config.epochs + i), 3)
            logits = draw_train(keys[0])
            order = jax.random.permutation(keys[1], len(labels))

            def step(carry, batch):
                layer, opt_state = carry
                rows, mask = order[batch[0]], batch[1]
                grads = jax.grad(objective)(layer, logits[rows], labels[rows], mask, config)
                updates, opt_state = adam.update(grads, opt_state)
                return (optax.apply_updates(layer, updates), opt_state), None

            (layer, opt_state), _ = jax.lax.scan(step, (layer, opt_state), (jnp.asarray(positions), jnp.asarray(mask)))
            losses = optax.softmax_cross_entropy_with_integer_labels(layer(draw_valid(keys[2])), valid_labels)
            return (layer, opt_state, selection.keep_lowest(best, layer, losses.mean())), None

        carry = (best.kept, adam.init(best.kept), best)
        (_, _, best), _ = jax.lax.scan(epoch, carry, jnp.arange(config.epochs))
    return best.kept


def reliability(confidence: jax.Array, correct: jax.Array, num_bins: int = NUM_BINS) -> dict[str, jax.Array]:
    """Returns "count", "confidence" and "accuracy" float32 [num_bins], sums of rows over equal bins of confidence.

    Args:
      confidence: float [N], the probability of the prediction, in 0 … 1; a bin holds its upper end.
      correct: bool [N].
    """
    bins = jnp.clip(jnp.ceil(confidence * num_bins).astype(jnp.int32) - 1, 0, num_bins - 1)
    add = lambda values: jnp.zeros(num_bins).at[bins].add(values)  # noqa: E731
    return {"count": add(1.0), "confidence": add(confidence), "accuracy": add(correct.astype(jnp.float32))}


def expected_calibration_error(confidence: jax.Array, correct: jax.Array, num_bins: int = NUM_BINS) -> jax.Array:
    """Returns sum over bins of their share times |accuracy - confidence|, float32 in 0 … 1 (Guo et al., 2017)."""
    found = reliability(confidence, correct, num_bins)
    return jnp.abs(found["accuracy"] - found["confidence"]).sum() / np.float32(len(confidence))
