"""Optimizers and schedules against formulas, and loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.config import OptimConfig, PlateauConfig, parse
from jaxrepro.errors import UserError
from jaxrepro.training.optim import make_optimizer, make_schedule

TOTAL, PER_EPOCH = 100, 10


def sgd(**changes):
    return OptimConfig(**{"name": "sgd", "lr": 0.5, "momentum": 0.0} | changes)


def train(config, params, gradients, total=TOTAL):
    """Returns the parameters after one step per gradient, by the rate that would be logged."""
    optimizer = make_optimizer(config, total, PER_EPOCH)

    @jax.jit
    def step(params, opt_state, grads, i):
        return optimizer.descend(grads, opt_state, params, optimizer.rate(i))

    opt_state = optimizer.init(params)
    for i, grads in enumerate(gradients):
        params, opt_state = step(params, opt_state, grads, i)
    return params


# The rate


def ramp(rates, num):
    """Returns rates with the first `num` replaced by a linear warm-up to 0.5."""
    return np.where(np.arange(len(rates)) < num, 0.5 * np.arange(len(rates)) / num, rates)


STEPS = np.arange(TOTAL)
RATES = {
    "constant": (sgd(), np.full(TOTAL, 0.5)),
    "warm-up": (sgd(warmup_steps=8), ramp(np.full(TOTAL, 0.5), 8)),
    "cosine": (sgd(schedule="cosine"), 0.25 * (1 + np.cos(np.pi * STEPS / TOTAL))),
    "warm-up, cosine": (
        sgd(schedule="cosine", warmup_steps=20),
        ramp(0.25 * (1 + np.cos(np.pi * (STEPS - 20) / 80)), 20),
    ),
    "drops in epochs": (
        sgd(schedule="drops", drops=("2 epochs", "5 epochs")),
        0.5 * 0.1 ** np.digitize(STEPS, (20, 50)),
    ),
    "drops of every unit": (
        sgd(schedule="drops", drops=("15 steps", "3 epochs", "60%"), drop_factor=0.5),
        0.5 * 0.5 ** np.digitize(STEPS, (15, 30, 60)),
    ),
    "warm-up, drops": (
        sgd(schedule="drops", drops=("30 steps",), warmup_steps=10),
        ramp(0.5 * 0.1 ** np.digitize(STEPS, (30,)), 10),
    ),
    "linear tail": (sgd(schedule="linear_tail"), 0.5 * np.minimum(1, (TOTAL - STEPS) / 50)),
    "short linear tail": (
        sgd(schedule="linear_tail", linear_tail=0.2, warmup_steps=5),
        ramp(0.5 * np.minimum(1, (TOTAL - STEPS) / 20), 5),
    ),
    "linear all the way": (sgd(schedule="linear_tail", linear_tail=1.0), 0.5 * (TOTAL - STEPS) / TOTAL),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_the_logged_rate_is_the_step_of_plain_sgd_and_follows_the_schedule(name):
    config, expected = RATES[name]
    optimizer = make_optimizer(config, TOTAL, PER_EPOCH)
    opt_state = optimizer.init(jnp.zeros(()))

    def step(opt_state, i):
        rate = optimizer.rate(i)
        moved, opt_state = optimizer.descend(jnp.ones(()), opt_state, jnp.zeros(()), rate)
        return opt_state, (rate, moved)

    _, (rates, moved) = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(TOTAL)))(opt_state)
    assert rates.dtype == jnp.float32
    np.testing.assert_array_equal(moved, -rates)
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-6)


def test_the_rate_of_a_plateau_is_that_of_its_reductions_and_0_in_the_end():
    rule = PlateauConfig(factor=0.2, stop_at=0.01)
    optimizer = make_optimizer(sgd(schedule="plateau", plateau=rule, warmup_steps=4), TOTAL)
    assert optimizer.plateau_rates == pytest.approx((0.5, 0.1, 0.02))
    for step, share in ((0, 0.0), (1, 0.25), (4, 1.0), (99, 1.0)):
        for reductions, rate in enumerate((0.5, 0.1, 0.02, 0.0)):
            found = jax.jit(optimizer.rate)(step, jnp.int32(reductions))
            moved, _ = optimizer.descend(jnp.ones(()), optimizer.init(jnp.zeros(())), jnp.zeros(()), found)
            np.testing.assert_allclose(found, share * rate, rtol=1e-6)
            assert moved == -found


def test_the_learning_rate_is_halved_at_the_given_steps():
    drops = ("600 steps", "780 steps")
    schedule = make_schedule(OptimConfig(lr=1e-4, schedule="drops", drops=drops, drop_factor=0.5), 1000)
    np.testing.assert_allclose(
        [schedule(s) for s in (0, 599, 600, 779, 780, 999)], np.array([4, 4, 2, 2, 1, 1]) * 2.5e-5
    )


def test_the_cosine_follows_a_linear_warm_up_and_ends_at_zero():
    schedule = make_schedule(OptimConfig(lr=1.0, schedule="cosine", warmup_steps=10), 110)
    np.testing.assert_allclose([schedule(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.5, 0], atol=1e-6)


def test_drops_that_do_not_increase_in_steps_are_refused():
    config = OptimConfig(schedule="drops", drops=("2 epochs", "20%"))
    make_schedule(config, 200, PER_EPOCH)
    with pytest.raises(UserError, match=r"drops is \('2 epochs', '20%'\), steps \[20, 20\]; they must increase"):
        make_schedule(config, 100, PER_EPOCH)


# The direction


def gradients_like(params, num, seed=0):
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params) for _ in range(num)]


def test_one_step_of_adam_with_decay_and_clipping_equals_the_formulas():
    config = OptimConfig(lr=0.1, weight_decay=0.01, clip_norm=1.0)
    params, grads = jnp.array([1.0, -2.0]), jnp.array([30.0, 40.0])
    clipped = np.array([0.6, 0.8])
    adam = clipped / (np.abs(clipped) + 1e-8)  # the first step: m / (1 - b1) = g and v / (1 - b2) = g^2
    np.testing.assert_allclose(train(config, params, [grads]), params - 0.1 * (adam + 0.01 * params), rtol=1e-5)


def test_one_step_of_sgd_is_minus_lr_times_gradient():
    np.testing.assert_allclose(train(sgd(), jnp.array([1.0]), [jnp.array([2.0])]), [0.0])


@pytest.mark.parametrize("decay", ["l2", "weight_decay"])
def test_adam_equals_a_numpy_loop_with_coupled_or_decoupled_decay(decay):
    b1, b2, eps, lr, strength = 0.8, 0.95, 1e-3, 0.05, 0.3
    params = np.array([1.0, -2.0, 3.0], np.float32)
    gradients = gradients_like(params, 6)
    config = OptimConfig(lr=lr, b1=b1, b2=b2, eps=eps, schedule="linear_tail", **{decay: strength})
    found = train(config, jnp.asarray(params), gradients, total=10)
    p, m, v = params.astype(float), np.zeros(3), np.zeros(3)
    for i, g in enumerate(gradients):
        g = g + strength * p if decay == "l2" else g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        direction = m / (1 - b1 ** (i + 1)) / (np.sqrt(v / (1 - b2 ** (i + 1))) + eps)
        decoupled = strength * p if decay == "weight_decay" else 0
        p = p - lr * min(1, (10 - i) / 5) * (direction + decoupled)
    np.testing.assert_allclose(found, p, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", ["l2", "weight_decay"])
def test_momentum_equals_a_numpy_loop_with_coupled_or_decoupled_decay(decay, nesterov):
    params = np.array([1.0, -2.0, 3.0], np.float32)
    gradients = gradients_like(params, 6)
    config = sgd(lr=0.1, momentum=0.9, nesterov=nesterov, warmup_steps=3, **{decay: 0.2})
    found = train(config, jnp.asarray(params), gradients)
    p, velocity = params.astype(float), np.zeros(3)
    for i, g in enumerate(gradients):
        g = g + 0.2 * p if decay == "l2" else g
        velocity = 0.9 * velocity + g
        direction = g + 0.9 * velocity if nesterov else velocity
        decoupled = 0.2 * p if decay == "weight_decay" else 0
        p = p - 0.1 * min(1, i / 3) * (direction + decoupled)
    np.testing.assert_allclose(found, p, rtol=1e-5)


def test_l2_is_normalised_away_by_adam_and_decoupled_decay_is_not():
    params, grads = jnp.array([1e3]), jnp.ones(1)
    for decay, change in (({"l2": 1.0}, 0.1), ({"weight_decay": 1.0}, 0.1 * (1 + 1e3))):
        assert float(params[0] - train(OptimConfig(lr=0.1, **decay), params, [grads])[0]) == pytest.approx(
            change, rel=1e-3
        )


# Some of the parameters

PARAMS = {
    "Dense_0": {"kernel": jnp.array([[0.3, -0.7], [1.1, 0.2]]), "bias": jnp.array([0.1, -0.0])},
    "Dense_1": {"kernel": jnp.array([[1.5], [-0.4]])},
}


@pytest.mark.parametrize("decay", ["l2", "weight_decay"])
def test_parameters_of_no_decay_move_by_their_gradient_alone(decay):
    gradients = gradients_like(PARAMS, 4)
    plain = sgd(momentum=0.9)
    decayed = sgd(momentum=0.9, **{decay: 0.3})
    some = sgd(momentum=0.9, no_decay=(r".*/bias", r"Dense_1/.*"), **{decay: 0.3})
    without, everywhere, found = (train(c, PARAMS, gradients) for c in (plain, decayed, some))
    np.testing.assert_array_equal(found["Dense_0"]["bias"], without["Dense_0"]["bias"])
    np.testing.assert_array_equal(found["Dense_1"]["kernel"], without["Dense_1"]["kernel"])
    np.testing.assert_array_equal(found["Dense_0"]["kernel"], everywhere["Dense_0"]["kernel"])
    assert not np.allclose(everywhere["Dense_0"]["kernel"], without["Dense_0"]["kernel"])


@pytest.mark.parametrize(
    "config",
    [
        OptimConfig(lr=0.1, weight_decay=0.3, clip_norm=1.0),
        OptimConfig(lr=0.1, l2=0.3),
        sgd(momentum=0.9, nesterov=True, weight_decay=0.3),
        sgd(momentum=0.9, l2=0.3, clip_norm=1.0),
    ],
    ids=["adam decoupled", "adam l2", "nesterov", "momentum l2"],
)
def test_frozen_parameters_keep_their_bits_and_do_not_touch_the_others(config):
    gradients = gradients_like(PARAMS, 4)
    for grads in gradients:
        grads["Dense_0"]["bias"][:] = [1e6, np.nan]  # nothing of a frozen gradient reaches anything
    frozen = OptimConfig(**vars(config) | {"frozen": ("Dense_0/bias",)})
    found = train(frozen, PARAMS, gradients)
    np.testing.assert_array_equal(
        np.asarray(found["Dense_0"]["bias"]).view(np.uint32), np.asarray(PARAMS["Dense_0"]["bias"]).view(np.uint32)
    )
    for grads in gradients:
        grads["Dense_0"]["bias"][:] = 0  # so the norm that is clipped is that of the trained parameters
    expected = train(config, PARAMS, gradients)
    for path in (("Dense_0", "kernel"), ("Dense_1", "kernel")):
        np.testing.assert_array_equal(found[path[0]][path[1]], expected[path[0]][path[1]])
        assert not np.array_equal(found[path[0]][path[1]], PARAMS[path[0]][path[1]])


@pytest.mark.parametrize("changes", [{"frozen": ("Dense_0",)}, {"l2": 0.1, "no_decay": (".*/bias", "dense_1/.*")}])
def test_a_pattern_that_matches_no_whole_path_is_a_users_error(changes):
    with pytest.raises(UserError, match=r"'(Dense_0|dense_1/\.\*)' matches no parameter; there are Dense_0/bias, "):
        make_optimizer(sgd(**changes), TOTAL).init(PARAMS)


# What a config may say


@pytest.mark.parametrize(("field", "value"), [("name", "adm"), ("schedule", "cosin")])
def test_an_unknown_name_gets_the_nearest(field, value):
    with pytest.raises(UserError, match="did you mean"):
        parse(OptimConfig, {field: value})


RULE = PlateauConfig(patience=3)
COMBINATIONS = [
    ({"drops": ("20%",)}, "drops needs schedule='drops'; schedule is 'constant'"),
    ({"drops": ("20%",), "schedule": "cosine"}, "drops needs schedule='drops'; schedule is 'cosine'"),
    ({"drop_factor": 0.5}, "drop_factor needs schedule='drops'; schedule is 'constant': set drop_factor to 0.1"),
    ({"linear_tail": 0.3}, "linear_tail needs schedule='linear_tail'; schedule is 'constant'"),
    ({"linear_tail": 0.3, "schedule": "plateau"}, "linear_tail needs schedule='linear_tail'; schedule is 'plateau'"),
    ({"plateau": RULE}, "plateau needs schedule='plateau'; schedule is 'constant'"),
    (
        {"plateau": RULE, "schedule": "drops", "drops": ("20%",)},
        "plateau needs schedule='plateau'; schedule is 'drops'",
    ),
    ({"schedule": "drops"}, "schedule='drops' needs durations in it"),
    ({"momentum": 0.5}, "momentum has no meaning for name='adam'"),
    ({"nesterov": True}, "nesterov has no meaning for name='adam'"),
    ({"name": "sgd", "b1": 0.5}, "b1 has no meaning for name='sgd'"),
    ({"name": "sgd", "b2": 0.5}, "b2 has no meaning for name='sgd'"),
    ({"name": "sgd", "eps": 1e-3}, "eps has no meaning for name='sgd'"),
    ({"l2": 1e-4, "weight_decay": 1e-4}, "l2 and weight_decay are both set"),
    ({"no_decay": (".*/bias",)}, "no_decay is set, but neither l2 nor weight_decay"),
    ({"name": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov needs momentum > 0"),
]
VALUES = [
    ({"lr": 0.0}, "lr is 0.0; it must be positive"),
    ({"warmup_steps": -1}, "warmup_steps is -1"),
    ({"l2": -1.0}, "l2 is -1.0; it must be 0 or more"),
    ({"weight_decay": -1.0}, "weight_decay is -1.0"),
    ({"clip_norm": -1.0}, "clip_norm is -1.0"),
    ({"b1": 1.0}, r"b1 is 1.0; it must lie in \[0, 1\)"),
    ({"name": "sgd", "momentum": -0.1}, "momentum is -0.1"),
    ({"schedule": "drops", "drops": ("20 epochs", "20")}, r"drops\[1\] is '20'"),
    ({"drop_factor": 0.0}, "drop_factor is 0.0"),
    ({"schedule": "linear_tail", "linear_tail": 2.0}, "linear_tail is 2.0"),
    ({"schedule": "linear_tail", "linear_tail": 0.0}, "linear_tail is 0.0"),
    ({"frozen": ("(",)}, r"frozen has '\(', which is not a regular expression"),
    ({"l2": 0.1, "no_decay": ("[",)}, r"no_decay has '\[', which is not a regular expression"),
    ({"schedule": "plateau", "plateau": {"factor": 1.0}}, r"plateau\.factor is 1\.0"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), COMBINATIONS + VALUES)
def test_an_impossible_value_or_combination_names_the_field(fields, message):
    as_values = {k: vars(v) if isinstance(v, PlateauConfig) else v for k, v in fields.items()}
    with pytest.raises(UserError, match=rf"^config\..*{message}"):
        parse(OptimConfig, as_values)
