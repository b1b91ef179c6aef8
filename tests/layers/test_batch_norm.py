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
