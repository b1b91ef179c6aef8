"""Loss weights: those that a conditional model is trained on and evaluated at, and those that rise in cycles.

beta = sample_beta(BetaConfig(low=0.125, high=512.0), key, num=128)
beta = cyclical_beta(CyclicalConfig(), epoch, num_epochs=200)

Source: Dosovitskiy & Djolonga, "You Only Train Once" (ICLR 2020), section 3 and appendix; for cycles Fu et al.,
"Cyclical annealing schedule" (NAACL 2019), as in the released code of Synbols (Lacoste et al., 2020).
"""

from dataclasses import dataclass
from enum import StrEnum

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.errors import check
from jaxrepro.losses import vae as losses


class Per(StrEnum):
    """What draws a beta of its own: every EXAMPLE (the paper), or every BATCH (the reproduction report)."""

    EXAMPLE = "example"
    BATCH = "batch"


class Reduction(StrEnum):
    """Over latents: SUM, as the bound wants it; MEAN, as the reproduction report has it."""

    SUM = "sum"
    MEAN = "mean"


@dataclass(frozen=True)
class KLConfig:
    """The KL term.

    Attributes:
      reduction: over latents; a mean over 256 makes the effective weight beta / 256.
      squared_head: the head that sampling takes for log(std^2) is squared where the variance belongs, as the report's
        code does; see `losses.vae.squared_head_kl`.
    """

    reduction: Reduction = Reduction.SUM
    squared_head: bool = False


def kl_of(config: KLConfig, mean: jax.Array, std: jax.Array, head: jax.Array) -> jax.Array:
    """Returns the KL term of posteriors N(mean, std^2) from N(0, 1), nats [B] from [B, latent].

    head: what the network gave for std, see `KLConfig.squared_head`.
    """
    kl = losses.squared_head_kl(mean, head) if config.squared_head else losses.gaussian_kl(mean, std)
    return kl / mean.shape[-1] if config.reduction == Reduction.MEAN else kl


@dataclass(frozen=True)
class BetaConfig:
    """The loss weight of the KL term.

    Attributes:
      low, high: beta is log-uniform in [low, high].
      per: what draws one.
      fixed: 0, or the beta of a fixed-weight model in place of the conditional one.
      baselines: betas of fixed-weight models trained beside it.
      grid: where the conditional model is evaluated.
      pictured: betas of the reconstructions and samples.
    """

    low: float = 0.125
    high: float = 512.0
    per: Per = Per.EXAMPLE
    fixed: float = 0.0
    baselines: tuple[float, ...] = ()
    grid: tuple[float, ...] = tuple(2.0**n for n in range(-3, 10))
    pictured: tuple[float, ...] = (1.0, 128.0, 512.0)

    def __post_init__(self):
        check(0 < self.low <= self.high, f"low is {self.low} and high {self.high}; it must be 0 < low <= high")
        check(self.fixed >= 0, f"fixed is {self.fixed}; it must be 0 (conditional) or a positive beta")
        for name in ("baselines", "grid", "pictured"):
            check(all(b > 0 for b in getattr(self, name)), f"{name} is {getattr(self, name)}; each must be positive")
        check(len(self.grid) > 0, "grid is empty; give at least one beta")


def sample_beta(config: BetaConfig, key: jax.Array, num: int) -> jax.Array:
    """Returns float32 [num], log-uniform in [low, high]: a draw per example, or the same for all of them."""
    low, high = np.log(config.low), np.log(config.high)
    drawn = jnp.exp(jax.random.uniform(key, (num if config.per == Per.EXAMPLE else 1,), minval=low, maxval=high))
    return jnp.broadcast_to(drawn, (num,))


@dataclass(frozen=True)
class CyclicalConfig:
    """The weight of the KL term over training.

    Attributes:
      beta: the highest weight.
      cycles: in a run; each has num_epochs // cycles epochs, and what is left over begins another.
      floor: share of the highest weight in the first epoch of a cycle.
    """

    beta: float = 0.01
    cycles: int = 4
    floor: float = 1e-4

    def __post_init__(self):
        check(self.beta >= 0, f"beta is {self.beta}; it must be 0 or more")
        check(self.cycles >= 1, f"cycles is {self.cycles}; it must be 1 or more")
        check(0 <= self.floor <= 1, f"floor is {self.floor}; it must lie in [0, 1]")


def cyclical_beta(config: CyclicalConfig, epoch: jax.Array | int, num_epochs: int) -> jax.Array:
    """Returns the weight in an epoch, float32: it rises linearly over half of a cycle and stays for the other half."""
    length = max(num_epochs // config.cycles, 1)
    share = (epoch % length) / (length / 2)
    return jnp.float32(config.beta) * jnp.clip(share, config.floor, 1.0)
