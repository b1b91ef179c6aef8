"""Harmonic layers against SciPy's cosine transform."""

import numpy as np
import pytest
import scipy.fft
from slow_maps import KEY, layer_and_params, quickly, slow_conv

from jaxrepro.errors import UserError
from jaxrepro.layers.harmonic import HarmonicConv, HarmonicStem, cosine_filters

RANDOM = np.random.default_rng(0)


def scipy_filters(size):
    """Every filter is what the inverse transform makes of one coefficient, up to its norm."""
    found = []
    for i in range(size):
        for j in range(size):
            coefficients = np.zeros((size, size))
            coefficients[i, j] = 1
            filter_ = scipy.fft.idctn(coefficients)
            found.append(filter_ / np.abs(filter_).sum())
    return np.stack(found)


@pytest.mark.parametrize("size", [3, 4])
def test_the_bank_is_that_of_scipy(size):
    np.testing.assert_allclose(cosine_filters(size), scipy_filters(size), atol=1e-7)


def test_a_level_keeps_the_slowest_waves():
    np.testing.assert_array_equal(cosine_filters(3, level=2), cosine_filters(3)[[0, 1, 3]])
    assert len(cosine_filters(3, level=3)) == 6
    with pytest.raises(UserError, match="level is 6"):
        cosine_filters(3, level=6)


def test_the_layer_convolves_with_combinations_of_the_bank():
    x = RANDOM.normal(size=(1, 7, 7, 2)).astype(np.float32)
    found, params = layer_and_params(HarmonicConv(3, strides=2), x)
    kernel = np.einsum("fab,fio->abio", scipy_filters(3), params["kernel"])
    np.testing.assert_allclose(found[0], slow_conv(x[0], kernel, ((1, 1), (1, 1)))[::2, ::2], atol=1e-5)


def test_the_stem_normalises_responses_channel_by_channel():
    x = RANDOM.normal(size=(2, 6, 6, 2)).astype(np.float32)
    stem = HarmonicStem(3, strides=2)
    variables = quickly(lambda: stem.init(KEY, x, True))
    found, _ = quickly(lambda: stem.apply(variables, x, True, mutable=["batch_stats"]))
    kernel = np.zeros((3, 3, 2, 18))
    for channel in range(2):
        kernel[:, :, channel, 9 * channel : 9 * channel + 9] = scipy_filters(3).transpose(1, 2, 0)
    responses = np.stack([slow_conv(image, kernel, ((1, 1), (1, 1)))[::2, ::2] for image in x])
    responses = (responses - responses.mean((0, 1, 2))) / np.sqrt(responses.var((0, 1, 2)) + 1e-5)
    weights = np.asarray(variables["params"]["Conv_0"]["kernel"])[0, 0]
    assert "BatchNorm_0" not in variables["params"]
    np.testing.assert_allclose(found, responses @ weights, atol=1e-4)
