"""Vector fields over scale against SciPy and loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
from slow_maps import KEY, layer_and_params, quickly, slow_conv, slow_resize

from jaxrepro.layers import vector_field
from jaxrepro.models.scale.sevf import LAW

RANDOM = np.random.default_rng(0)


def slow_field(answers):
    best = np.argmax(answers, axis=0)
    strength = np.maximum(np.max(answers, axis=0), 0)
    angle = np.deg2rad(np.array([-480, -360, -240, -120, 0, 120, 240, 360]) / 7)[best]
    return strength * np.cos(angle), strength * np.sin(angle)


def slow_at_scale(x, kernel, exponent):
    scaled = slow_resize(x, round(len(x) * 1.26**exponent), align_corners=False)
    return slow_resize(slow_conv(scaled, kernel, ((3, 3), (3, 3))), len(x), align_corners=False)


def test_sevf_answers_with_the_strongest_scale_and_its_angle():
    x = RANDOM.normal(size=(1, 11, 11, 2)).astype(np.float32)
    answers, params = layer_and_params(vector_field.ConvAtScales(2, LAW, kernel_size=7), x)
    expected = slow_field([slow_at_scale(x[0], params["kernel"], e) for e in range(-4, 4)])
    for found, wanted in zip(quickly(lambda a: vector_field.strongest(a, LAW), answers), expected, strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=1e-4)


def test_sevf_turns_the_kernels_of_a_field_by_the_angle_of_each_scale():
    u, v = RANDOM.normal(size=(2, 1, 11, 11, 2)).astype(np.float32)
    found, params = layer_and_params(vector_field.FieldToField(2, LAW, kernel_size=7), u, v)
    answers = []
    for exponent in range(-4, 4):
        angle = np.deg2rad(120 * exponent / 7)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        kernels = np.einsum("ab,bhwio->ahwio", turn, np.stack([params["kernel_u"], params["kernel_v"]]))
        answers.append(sum(slow_at_scale(x[0], k, exponent) for x, k in zip((u, v), kernels, strict=True)))
    for got, wanted in zip(found, slow_field(answers), strict=True):
        np.testing.assert_allclose(got[0], wanted, atol=1e-4)


def test_sevf_pools_the_longest_vector_and_normalises_by_the_spread_of_lengths():
    u, v = RANDOM.normal(size=(2, 2, 7, 7, 3)).astype(np.float32)
    length = np.hypot(u, v)
    pooled = quickly(lambda: vector_field.pool_field(u, v, 4, padding=2))
    assert pooled[0].shape == (2, 2, 2, 3)
    for b, r, s, c in np.ndindex(2, 2, 2, 3):
        rows, columns = (slice(max(4 * i - 2, 0), 4 * i + 2) for i in (r, s))
        i, j = np.unravel_index(np.argmax(length[b, rows, columns, c]), length[b, rows, columns, c].shape)
        assert pooled[0][b, r, s, c] == u[b, rows, columns, c][i, j]
        assert pooled[1][b, r, s, c] == v[b, rows, columns, c][i, j]
    variables = vector_field.FieldNorm().init(KEY, u, v, False)
    (found, _), changed = quickly(
        lambda: vector_field.FieldNorm().apply(variables, u, v, True, mutable=["batch_stats"])
    )
    np.testing.assert_allclose(found, u / np.sqrt(length.var((0, 1, 2)) + 1e-5), rtol=1e-4)
    expected = 0.5 + 0.5 * length.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(changed["batch_stats"]["var"], expected, rtol=1e-4)


def test_the_gradient_of_a_vanishing_vectors_length_is_zero():
    gradient = jax.grad(lambda u, v: vector_field.magnitude(u, v).sum(), argnums=(0, 1))(
        jnp.zeros(2), jnp.array([0.0, 3.0])
    )
    np.testing.assert_allclose(gradient, [[0, 0], [0, 1]])
