"""The optimizer of a config, and the only place of learning rates.

    optimizer = make_optimizer(config.optim, total_steps, steps_per_epoch)
    opt_state = optimizer.init(params)
    rate = optimizer.rate(context.step)                              # float32: log this one
    params, opt_state = optimizer.descend(grads, opt_state, params, rate)

The rate is a function of the step (and of the reductions of a plateau, `training.plateau`), not a counter in the state:
what is logged is what was used.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrepro.config import OptimConfig, OptimizerName, Schedule
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError
from jaxrepro.mesh import leaf_path
from jaxrepro.training.plateau import learning_rates


@dataclass(frozen=True)
class Optimizer:
    """Made by `make_optimizer`.

    Attributes:
      direction: gradients -> what the rate multiplies: clip, coupled L2, Adam or momentum, decoupled weight decay.
      schedule: step -> rate; for a plateau that of its first phase.
      plateau_rates: the rates of a plateau in turn, () for other schedules.
    """

    direction: optax.GradientTransformation
    schedule: optax.Schedule
    plateau_rates: tuple[float, ...] = ()

    def init(self, params: Any) -> Any:
        return self.direction.init(params)

    def rate(self, step: jax.Array | int, num_reductions: jax.Array | int = 0) -> jax.Array:
        """Returns the learning rate of a step, float32.

        Args:
          step: updates done before this one.
          num_reductions: of the plateau; its rate is 0 once there were as many as it has rates.
        """
        rate = jnp.asarray(self.schedule(step), jnp.float32)
        if not self.plateau_rates:
            return rate
        shares = jnp.asarray([*self.plateau_rates, 0.0]) / self.plateau_rates[0]
        return rate * shares[num_reductions]

    def descend(self, grads: Any, opt_state: Any, params: Any, rate: jax.Array) -> tuple[Any, Any]:
        """Returns (params, opt_state) after one step against the gradients, of length `rate`."""
        updates, opt_state = self.direction.update(grads, opt_state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates)), opt_state


def make_optimizer(config: OptimConfig, total_steps: int, steps_per_epoch: float = 1.0) -> Optimizer:
    """Returns the optimizer: clip by global norm, L2 in the gradient, Adam or SGD, decoupled weight decay.

    Decay is theta <- theta - rate * (direction + weight_decay * theta), which to first order in the rate is YOTO's
    theta <- theta * (1 - rate * weight_decay) after the step (they differ by rate^2 * weight_decay * direction).

    Args:
      total_steps: of the run, where cosine and linear tail reach 0 and percentages are taken of.
      steps_per_epoch: for drops in epochs.
    """
    if config.name == OptimizerName.ADAM:
        scale = optax.scale_by_adam(config.b1, config.b2, config.eps)
    else:
        scale = optax.trace(config.momentum, nesterov=config.nesterov)
    stages = [
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else None,
        optax.add_decayed_weights(config.l2, mask_of(config.no_decay, keep=False)) if config.l2 else None,
        scale,
        optax.add_decayed_weights(config.weight_decay, mask_of(config.no_decay, keep=False))
        if config.weight_decay
        else None,
    ]
    direction = optax.chain(*(stage for stage in stages if stage))
    if config.frozen:
        frozen = mask_of(config.frozen, keep=True)
        direction = optax.chain(
            optax.masked(optax.set_to_zero(), frozen), direction, optax.masked(optax.set_to_zero(), frozen)
        )
    rates = ()
    if config.schedule == Schedule.PLATEAU:
        rule = config.plateau
        rates = tuple(learning_rates(config.lr, factor=rule.factor, stop_at=rule.stop_at))
    return Optimizer(direction, make_schedule(config, total_steps, steps_per_epoch), rates)


def make_schedule(config: OptimConfig, total_steps: int, steps_per_epoch: float = 1.0) -> optax.Schedule:
    """Returns step -> learning rate: linear warm-up from 0, then the config's schedule.

    Cosine falls to 0 at the last step; drops multiply the rate by `drop_factor` after each duration; a linear tail
    falls to 0 over the last share of the run. A plateau's own factor is in `Optimizer.rate`.
    """
    if config.schedule == Schedule.COSINE:
        base = optax.cosine_decay_schedule(config.lr, max(1, total_steps - config.warmup_steps))
    elif config.schedule == Schedule.DROPS:
        steps = [num_steps(d, steps_per_epoch=steps_per_epoch, total=total_steps) for d in config.drops]
        if any(a >= b for a, b in itertools.pairwise(steps)):
            raise UserError(f"config.optim.drops is {config.drops}, steps {steps}; they must increase")
        base = optax.piecewise_constant_schedule(config.lr, dict.fromkeys(steps, config.drop_factor))
    elif config.schedule == Schedule.LINEAR_TAIL:
        length = config.linear_tail * total_steps

        def base(step):
            return config.lr * jnp.minimum(1.0, (total_steps - step) / length)
    else:
        base = optax.constant_schedule(config.lr)
    if not config.warmup_steps:
        return base
    ramp = optax.linear_schedule(0.0, config.lr, config.warmup_steps)
    if config.schedule == Schedule.COSINE:  # the half-wave begins where the ramp ends
        return optax.join_schedules([ramp, base], [config.warmup_steps])
    return lambda step: jnp.where(step < config.warmup_steps, ramp(step), base(step))


def mask_of(patterns: Sequence[str], *, keep: bool):
    """Returns params -> mask: `keep` where a pattern matches a parameter's whole path ("Dense_0/bias"), else the other.

    Raises:
      UserError: a pattern matches no parameter.
    """

    def mask(params: Any) -> Any:
        paths = [leaf_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for pattern in patterns:
            if not any(re.fullmatch(pattern, path) for path in paths):
                raise UserError(f"config.optim: {pattern!r} matches no parameter; there are {', '.join(paths[:8])}, …")
        return jax.tree_util.tree_map_with_path(
            lambda path, _: any(re.fullmatch(p, leaf_path(path)) for p in patterns) == keep, params
        )

    return mask if patterns or keep else None
