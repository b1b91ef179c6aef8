"""The convolution with a spectral norm of 1, against the singular values of NumPy and a convolution by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers.spectral_norm import SpectralConv

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
LAYER = SpectralConv(5, 3)
VARIABLES = LAYER.init(KEY, X, False)
KERNEL = VARIABLES["params"]["kernel"]
MATRIX = np.asarray(KERNEL, np.float64).reshape(-1, 5)


def plain(kernel):
    return jax.lax.conv_general_dilated(X, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.jit
def step(u):
    variables = {"params": VARIABLES["params"], "batch_stats": {"u": u}}
    y, changed = LAYER.apply(variables, X, True, mutable=["batch_stats"])
    return y, changed["batch_stats"]["u"]


def test_one_iteration_a_step_reaches_the_largest_singular_value():
    largest, u, errors = np.linalg.svd(MATRIX, compute_uv=False)[0], VARIABLES["batch_stats"]["u"], []
    for _ in range(100):
        y, u = step(u)
        errors.append(float(jnp.abs(y - plain(KERNEL / largest)).max()))
    assert errors[0] > 0.05
    assert errors[-1] < 1e-5


def test_a_step_is_that_of_the_algorithm_and_evaluation_leaves_the_vector():
    u = np.asarray(VARIABLES["batch_stats"]["u"], np.float64)
    v = MATRIX @ u / np.linalg.norm(MATRIX @ u)
    after = v @ MATRIX / np.linalg.norm(v @ MATRIX)
    y, found = step(VARIABLES["batch_stats"]["u"])
    np.testing.assert_allclose(found, after, rtol=1e-4)
    np.testing.assert_allclose(y, plain(KERNEL / np.float32(v @ MATRIX @ after)), rtol=1e-3, atol=1e-5)
    still, changed = LAYER.apply(VARIABLES, X, False, mutable=["batch_stats"])
    np.testing.assert_array_equal(changed["batch_stats"]["u"], VARIABLES["batch_stats"]["u"])
    np.testing.assert_allclose(still, plain(KERNEL / np.float32(v @ MATRIX @ u)), rtol=1e-3, atol=1e-5)


def test_gradients_pass_through_the_singular_value_but_not_through_its_vectors():
    """The derivative of W / (vᵀWu) at constant u and v: the part of a gradient along W is taken away."""
    weights = np.random.default_rng(1).normal(size=(2, 4, 4, 5)).astype(np.float32)

    def loss(kernel):
        variables = {"params": {"kernel": kernel}, "batch_stats": VARIABLES["batch_stats"]}
        return (weights * LAYER.apply(variables, X, False)).sum()

    u = np.asarray(VARIABLES["batch_stats"]["u"], np.float64)
    v = MATRIX @ u / np.linalg.norm(MATRIX @ u)
    sigma = v @ MATRIX @ u
    of_plain = np.asarray(jax.grad(lambda kernel: (weights * plain(kernel)).sum())(KERNEL), np.float64).reshape(-1, 5)
    expected = of_plain / sigma - (of_plain * MATRIX).sum() / sigma**2 * np.outer(v, u)
    np.testing.assert_allclose(jax.grad(loss)(KERNEL).reshape(-1, 5), expected, rtol=1e-3, atol=1e-3)


def test_the_initial_kernel_is_the_one_that_was_drawn():
    layer = SpectralConv(40, 3, jax.nn.initializers.normal(0.02))
    kernel = layer.init(KEY, jnp.zeros((1, 3, 3, 20)), False)["params"]["kernel"]
    assert abs(float(kernel.std()) - 0.02) < 1e-3
