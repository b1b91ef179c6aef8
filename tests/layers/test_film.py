"""FiLM against its formulas in NumPy."""

import jax
import numpy as np
import pytest

from jaxrepro.layers import FiLM, FiLMKind

KEY = jax.random.key(1)
RNG = np.random.default_rng(0)
X, CONDITION = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32), RNG.normal(size=(3, 2)).astype(np.float32)


def network(params, name, slope=0.2):
    hidden = CONDITION @ params[f"{name}_hidden"]["kernel"] + params[f"{name}_hidden"]["bias"]
    return np.where(hidden > 0, hidden, slope * hidden) @ params[name]["kernel"] + params[name]["bias"]


def test_affine_film_is_one_plus_m_raw_times_x_plus_m_raw():
    film = FiLM(hidden=7, scale=0.1)
    variables = film.init(KEY, X, CONDITION)
    params = jax.tree.map(np.asarray, variables["params"])
    sigma, mu = (0.1 * network(params, name)[:, None, None, :] for name in ("sigma", "mu"))
    np.testing.assert_allclose(film.apply(variables, X, CONDITION), (1 + sigma) * X + mu, rtol=1e-5, atol=1e-6)


def test_sigmoid_film_takes_both_from_one_network():
    film = FiLM(hidden=7, kind=FiLMKind.SIGMOID)
    variables = film.init(KEY, X, CONDITION)
    params = jax.tree.map(np.asarray, variables["params"])
    both = 1 / (1 + np.exp(-network(params, "both")))[:, None, None, :]
    np.testing.assert_allclose(
        film.apply(variables, X, CONDITION), both[..., :6] * X + both[..., 6:], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(3, 6), (3, 4, 5, 6)])
def test_zero_initialised_film_is_the_identity_exactly(shape):
    film = FiLM(hidden=7, zero_init=True)
    x = RNG.normal(size=shape).astype(np.float32)
    found, _ = film.init_with_output(KEY, x, CONDITION)
    np.testing.assert_array_equal(found, x)
