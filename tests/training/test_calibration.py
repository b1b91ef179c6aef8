"""The calibration layer against a fit of the same objective by SciPy, and the calibration error by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from jaxrepro.errors import UserError
from jaxrepro.training.calibration import (
    CalibrationConfig,
    expected_calibration_error,
    fit_calibration,
    identity,
    objective,
    reliability,
)

K = 3


def overconfident(num_rows=240):
    """Logits three times as large as those that the labels were drawn from, and off by a bias."""
    random = np.random.default_rng(0)
    honest = random.normal(scale=1.2, size=(num_rows, K))
    p = np.exp(log_softmax(honest, axis=1))
    labels = np.array([random.choice(K, p=row) for row in p])
    return (3 * honest + [0.8, 0.0, -0.5]).astype(np.float32), labels.astype(np.int32)


def scipy_fit(inputs, labels, config):
    def loss(x):
        weight, bias = x[: K * K].reshape(K, K), x[K * K :]
        log_p = log_softmax(inputs @ weight + bias, axis=1)
        penalty = config.weight_penalty * np.linalg.norm(weight) + config.bias_penalty * np.linalg.norm(bias)
        return -log_p[np.arange(len(labels)), labels].mean() + penalty

    return minimize(loss, np.concatenate([np.eye(K).ravel(), np.full(K, 0.01)]), method="BFGS")


@pytest.mark.parametrize("dirichlet", [False, True])
def test_the_fit_reaches_the_minimum_of_its_convex_objective(dirichlet):
    logits, labels = overconfident()
    config = CalibrationConfig(rates=(3e-2, 3e-3), epochs=40, batch_size=60, dirichlet=dirichlet)
    draw = lambda key: jnp.asarray(logits)  # noqa: E731
    fit = jax.jit(lambda key: fit_calibration(draw, labels, draw, labels, key, config))
    layer = fit(jax.random.key(0))
    inputs = log_softmax(logits.astype(np.float64), axis=1) if dirichlet else logits.astype(np.float64)
    best = scipy_fit(inputs, labels, config)
    everything = jnp.ones(len(labels))
    before = float(objective(identity(K, dirichlet), logits, labels, everything, config))
    after = float(objective(layer, logits, labels, everything, config))
    assert best.fun < after + 1e-6
    assert after - best.fun < 0.01 * (before - best.fun)
    weight, bias = best.x[: K * K].reshape(K, K), best.x[K * K :]
    wanted = np.exp(log_softmax(inputs @ weight + bias, axis=1))
    assert np.abs(jax.nn.softmax(layer(logits)) - wanted).max() < 0.03


def test_the_layer_of_the_best_epoch_is_kept():
    """A rate that ruins the layer leaves the first epoch's, or the beginning of the second phase."""
    logits, labels = overconfident()
    draw = lambda key: jnp.asarray(logits)  # noqa: E731

    def cross_entropy(layer):
        return -float(jax.nn.log_softmax(layer(logits))[np.arange(len(labels)), labels].mean())

    wild = CalibrationConfig(rates=(1e-2, 30.0), epochs=3, batch_size=16)
    found = fit_calibration(draw, labels, draw, labels, jax.random.key(0), wild)
    gentle = CalibrationConfig(rates=(1e-2,), epochs=3, batch_size=16)
    first_phase = fit_calibration(draw, labels, draw, labels, jax.random.key(0), gentle)
    assert cross_entropy(found) <= cross_entropy(first_phase) < cross_entropy(identity(K))


def test_the_gradient_of_the_penalties_is_finite_where_the_bias_is_zero():
    grads = jax.grad(objective)(
        identity(K), jnp.zeros((2, K)), jnp.zeros(2, jnp.int32), jnp.ones(2), CalibrationConfig()
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_identity_changes_no_probability():
    logits = overconfident()[0]
    for dirichlet in (False, True):
        np.testing.assert_allclose(
            jax.nn.softmax(identity(K, dirichlet)(logits)), jax.nn.softmax(logits), rtol=1e-5, atol=1e-7
        )


def test_calibration_error_by_hand():
    confidence = jnp.array([0.55, 0.6, 0.95, 1.0, 0.0])
    correct = jnp.array([True, False, True, True, False])
    # Bins of a tenth: 0.5-0.6 holds two rows, 0.9-1 holds two, the first bin the row of no confidence.
    wanted = (abs(1 - 1.15) + abs(2 - 1.95) + 0) / 5
    assert float(expected_calibration_error(confidence, correct, 10)) == pytest.approx(wanted, abs=1e-6)
    assert reliability(confidence, correct, 10)["count"].tolist() == [1, 0, 0, 0, 0, 2, 0, 0, 0, 2]


def test_a_calibration_without_rates_is_refused():
    with pytest.raises(UserError, match="rates is"):
        CalibrationConfig(rates=())
