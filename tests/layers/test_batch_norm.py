"""Batch normalisation against its definition."""

import numpy as np
from slow_maps import KEY, quickly

from jaxrepro.layers.batch_norm import BatchNorm

RANDOM = np.random.default_rng(0)


def test_batch_norm_keeps_the_unbiased_variance_and_normalises_by_the_biased_one():
    x = RANDOM.normal(2.0, 3.0, (4, 3, 2, 5)).astype(np.float32)
    variables = quickly(lambda: BatchNorm().init(KEY, x, True))
    y, changed = quickly(lambda: BatchNorm().apply(variables, x, True, mutable=["batch_stats"]))
    axes = (0, 1, 2)
    np.testing.assert_allclose(y, (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5), atol=1e-4)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * x.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 0.1 * x.var(axes, ddof=1), rtol=1e-5)
    later = BatchNorm().apply({**variables, **changed}, x, False)
    mean, var = changed["batch_stats"]["mean"], changed["batch_stats"]["var"]
    np.testing.assert_allclose(later, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)


def test_maps_in_a_tuple_are_normalised_as_if_stacked():
    maps = tuple(RANDOM.normal(i, 1 + i, (4, 3, 2, 5)).astype(np.float32) for i in range(3))
    stacked = np.stack(maps, axis=3)
    variables = quickly(lambda: BatchNorm().init(KEY, maps, True))
    expected, wanted = quickly(lambda: BatchNorm().apply(variables, stacked, True, mutable=["batch_stats"]))
    found, changed = quickly(lambda: BatchNorm().apply(variables, maps, True, mutable=["batch_stats"]))
    np.testing.assert_allclose(np.stack(found, axis=3), expected, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(changed["batch_stats"][name], wanted["batch_stats"][name], rtol=1e-5)


def test_without_scale_and_shift_there_are_no_parameters():
    x = RANDOM.normal(2.0, 3.0, (8, 2)).astype(np.float32)
    norm = BatchNorm(use_affine=False)
    variables = quickly(lambda: norm.init(KEY, x, True))
    assert set(variables) == {"batch_stats"}
    y, _ = quickly(lambda: norm.apply(variables, x, True, mutable=["batch_stats"]))
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), atol=1e-4)
