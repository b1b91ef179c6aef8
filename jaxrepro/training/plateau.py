"""Learning rates that fall when a loss stops falling, and the end of training that follows from them.

    rates = learning_rates(4e-4, factor=0.1, stop_at=1e-3)        # [4e-4, 4e-5, 4e-6, 4e-7]
    plateau = start()
    plateau = after_epoch(plateau, loss, patience=10, threshold=1e-4, num_rates=len(rates))
    rates[plateau.num_reductions], plateau.stopped(len(rates))

The state is three numbers, so a resumed run continues exactly. The rule is that of PyTorch's ReduceLROnPlateau with a
relative threshold and no cooldown. optax.contrib.reduce_on_plateau multiplies a float32 factor, with which the end of
training as it was executed (see `learning_rates`) cannot be expressed.
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxrepro.training.selection import LARGEST


@struct.dataclass
class Plateau:
    """best: float32, the lowest loss yet; num_bad: int32, epochs since then; num_reductions: int32, of the rate."""

    best: jax.Array
    num_bad: jax.Array
    num_reductions: jax.Array

    def stopped(self, num_rates: int) -> jax.Array:
        """Returns whether the rate was reduced as often as there are rates: training is over."""
        return self.num_reductions >= num_rates


def start() -> Plateau:
    """Returns the state before the first epoch."""
    return Plateau(jnp.float32(LARGEST), jnp.int32(0), jnp.int32(0))


def after_epoch(plateau: Plateau, loss: jax.Array, *, patience: int, threshold: float, num_rates: int) -> Plateau:
    """Returns the state after an epoch that ended with this loss; one that has stopped stays as it is.

    Args:
      loss: float32 scalar, at least 0; NaN counts as no improvement.
      patience: so many epochs in turn may bring nothing; one more reduces the rate.
      threshold: an improvement is a loss below (1 - threshold) times the lowest.
      num_rates: of `learning_rates`.
    """
    better = loss < plateau.best * (1 - threshold)
    num_bad = jnp.where(better, 0, plateau.num_bad + 1)
    reduce = num_bad > patience
    new = Plateau(
        best=jnp.where(better, loss, plateau.best),
        num_bad=jnp.where(reduce, 0, num_bad),
        num_reductions=plateau.num_reductions + reduce,
    )
    return jax.tree.map(lambda old, new: jnp.where(plateau.stopped(num_rates), old, new), plateau, new)


def learning_rates(first: float, *, factor: float, stop_at: float) -> list[float]:
    """Returns the rates in turn, in double precision, down to the last above the one that ends training.

    Training ends when the rate is at most `stop_at * first`, as Python compares them. With a factor of 0.1 and a
    thousandth that is not the third reduction: 4e-4 * 0.1 * 0.1 * 0.1 is one rounding error above 1e-3 * 4e-4, and so
    is 1e-4. The released Synbols code therefore ran on to the fourth; give 1.001e-3 for the third, which was meant.

    Args:
      factor: of a reduction, between 0 and 1.
      stop_at: share of the first rate.
    """
    rates, rate = [], first
    while rate > stop_at * first:
        rates.append(rate)
        rate *= factor
    return rates
