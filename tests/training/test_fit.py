"""A small network fitted in one scan."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.training.fit import fit


def line(num_rows=50):
    x = np.linspace(-1, 1, num_rows, dtype=np.float32)
    return x, 3 * x + 2


def run(**changes):
    options = {"num_steps": 400, "batch_size": 16, "lr": 0.1} | changes
    return fit(
        lambda key, row: {"w": jax.random.normal(key), "b": jnp.zeros(row[1].shape[1:])},
        lambda v, batch: jnp.mean((v["w"] * batch[0] + v["b"] - batch[1]) ** 2),
        line(),
        **options,
    )


def test_a_line_is_found_exactly_since_the_rate_falls_to_zero():
    found = run()
    np.testing.assert_allclose([found["w"], found["b"]], [3, 2], atol=1e-3)


def test_it_is_a_function_of_the_seed_alone():
    first, again, other = run(num_steps=5), run(num_steps=5), run(num_steps=5, seed=1)
    assert first == again
    assert first["w"] != other["w"]


def test_it_takes_the_steps_of_adam_on_the_drawn_rows():
    import optax

    optimizer, key = optax.adam(optax.cosine_decay_schedule(0.1, 3)), jax.random.key(0)
    (x, y), v = line(), {"w": jax.random.normal(key), "b": jnp.zeros(())}
    state = optimizer.init(v)
    for i in range(3):
        rows = np.asarray(jax.random.randint(jax.random.fold_in(key, i), (16,), 0, 50))
        error = v["w"] * x[rows] + v["b"] - y[rows]
        updates, state = optimizer.update({"w": 2 * (error * x[rows]).mean(), "b": 2 * error.mean()}, state)
        v = optax.apply_updates(v, updates)
    found = run(num_steps=3)
    np.testing.assert_allclose([found["w"], found["b"]], [v["w"], v["b"]], rtol=1e-5)
