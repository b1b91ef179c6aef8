"""Optimizers and schedules against formulas."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrepro.config import OptimConfig
from jaxrepro.errors import UserError
from jaxrepro.training.optim import make_optimizer, make_schedule


def test_the_learning_rate_is_halved_at_the_given_steps():
    schedule = make_schedule(OptimConfig(lr=1e-4, halve_at=(600, 780)), 1000)
    np.testing.assert_allclose(
        [schedule(s) for s in (0, 599, 600, 779, 780, 999)], np.array([4, 4, 2, 2, 1, 1]) * 2.5e-5
    )


def test_the_cosine_follows_a_linear_warm_up_and_ends_at_zero():
    schedule = make_schedule(OptimConfig(lr=1.0, schedule="cosine", warmup_steps=10), 110)
    np.testing.assert_allclose([schedule(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.5, 0], atol=1e-6)


def test_one_step_of_adam_with_decay_and_clipping_equals_the_formulas():
    config = OptimConfig(lr=0.1, weight_decay=0.01, clip_norm=1.0)
    params, grads = jnp.array([1.0, -2.0]), jnp.array([30.0, 40.0])
    tx = make_optimizer(config, 10)
    updates, _ = tx.update(grads, tx.init(params), params)
    clipped = np.array([0.6, 0.8])
    adam = clipped / (np.abs(clipped) + 1e-8)  # the first step: m / (1 - b1) = g and v / (1 - b2) = g^2
    np.testing.assert_allclose(optax.apply_updates(params, updates), params - 0.1 * (adam + 0.01 * params), rtol=1e-5)


def test_one_step_of_sgd_is_minus_lr_times_gradient():
    tx = make_optimizer(OptimConfig(name="sgd", lr=0.5), 10)
    updates, _ = tx.update(jnp.array([2.0]), tx.init(jnp.array([1.0])), jnp.array([1.0]))
    np.testing.assert_allclose(updates, [-1.0])


@pytest.mark.parametrize(("field", "value"), [("name", "adm"), ("schedule", "cosin")])
def test_an_unknown_name_gets_the_nearest(field, value):
    with pytest.raises(UserError, match="did you mean"):
        make_optimizer(OptimConfig(**{field: value}), 10)
