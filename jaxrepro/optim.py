"""Optimizers from config, built on optax.

tx = make_optimizer(config.optim, total_steps=1000)
opt_state = tx.init(params)
"""

import optax

from jaxrepro.config import OptimConfig
from jaxrepro.errors import unknown

SCHEDULES = ("constant", "cosine")
OPTIMIZERS = ("adam", "sgd")


def make_schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """Returns step -> learning rate: constant or cosine to 0, halved at `halve_at`, after a linear warm-up."""
    if config.schedule == "constant":
        base = optax.constant_schedule(config.lr)
    elif config.schedule == "cosine":
        base = optax.cosine_decay_schedule(config.lr, max(1, total_steps - config.warmup_steps))
    else:
        raise unknown("config.optim.schedule", config.schedule, SCHEDULES)
    if config.warmup_steps:
        ramp = optax.linear_schedule(0.0, config.lr, config.warmup_steps)
        base = optax.join_schedules([ramp, base], [config.warmup_steps])
    if not config.halve_at:
        return base
    halving = optax.piecewise_constant_schedule(1.0, dict.fromkeys(config.halve_at, 0.5))
    return lambda step: base(step) * halving(step)


def make_optimizer(config: OptimConfig, total_steps: int) -> optax.GradientTransformation:
    """Returns the optimizer: clip by global norm, then Adam or SGD with momentum, then decoupled weight decay.

    Decay is theta <- theta - lr * (adam_update + weight_decay * theta), which to first order in lr is YOTO's
    theta <- theta * (1 - lr * weight_decay) after the step (they differ by lr^2 * weight_decay * update).

    Raises:
      UserError: unknown optimizer or schedule.
    """
    scale = {
        "adam": lambda: optax.scale_by_adam(config.b1, config.b2, config.eps),
        "sgd": lambda: optax.trace(config.momentum),
    }
    if config.name not in scale:
        raise unknown("config.optim.name", config.name, OPTIMIZERS)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        scale[config.name](),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(make_schedule(config, total_steps)),
    )
