"""Deep scale-spaces against SciPy's Bessel function and convolutions."""

import jax.numpy as jnp
import numpy as np
import scipy.signal
import scipy.special
from slow_maps import layer_and_params, quickly, slow_conv

from jaxrepro.layers.blurred_scales import (
    ScaleSpaceConv,
    blur_matrix,
    blur_to_scales,
    blurred,
    convolve_levels,
)

RANDOM = np.random.default_rng(0)


def test_dss_blurs_with_the_discrete_gaussian_and_dilates_the_kernel():
    matrix = blur_matrix(21, 0.1875)
    taps = scipy.special.ive(np.abs(np.arange(-4, 5)), 0.1875)
    np.testing.assert_allclose(matrix[10, 6:15], taps / taps.sum(), atol=1e-6)
    np.testing.assert_allclose(matrix[10, 10:12], [0.83633, 0.07806], atol=1e-5)
    assert matrix[10, 5] == 0
    x = RANDOM.normal(size=(1, 7, 7, 2)).astype(np.float32)
    lifted = np.asarray(quickly(lambda x: blur_to_scales(x, num_scales=2, zero_scale=0.25), x))
    np.testing.assert_array_equal(lifted[:1], x)
    planes = [scipy.signal.convolve2d(x[0, ..., c], np.outer(matrix[10], matrix[10]), mode="same") for c in range(2)]
    np.testing.assert_allclose(lifted[1], np.stack(planes, axis=-1), atol=1e-5)
    found, params = layer_and_params(ScaleSpaceConv(3, num_scales=2, kernel_size=7), jnp.asarray(lifted))
    dilated = np.zeros((13, 13, 2, 3))
    dilated[::2, ::2] = params["kernel"]
    np.testing.assert_allclose(found[0], slow_conv(x[0], params["kernel"], ((3, 3), (3, 3))), atol=1e-4)
    np.testing.assert_allclose(found[1], slow_conv(lifted[1], dilated, ((6, 6), (6, 6))), atol=1e-4)


def test_four_levels_have_the_published_variances():
    impulse = np.zeros((1, 97, 97, 1), np.float32)
    impulse[0, 48, 48] = 1
    distance = np.arange(97) - 48
    found = []
    for level in quickly(lambda x: blurred(x, num_scales=4, zero_scale=0.5), impulse):
        marginal = np.asarray(level)[0, ..., 0].sum(1)
        found.append((marginal * distance**2).sum())
    np.testing.assert_allclose(found, [0, 0.75, 3.75, 15.75], rtol=1e-2)


def test_taps_connect_a_level_with_the_next_and_strides_leave_out_windows():
    levels = [RANDOM.normal(size=(1, 8, 8, 2)).astype(np.float32) for _ in range(3)]
    kernels = [RANDOM.normal(size=(3, 3, 2, 3)).astype(np.float32) for _ in range(2)]
    found = quickly(lambda: convolve_levels(levels, kernels, strides=2))

    def dilated(x, kernel, dilation):
        wide = np.zeros((2 * dilation + 1,) * 2 + kernel.shape[2:])
        wide[::dilation, ::dilation] = kernel
        return slow_conv(x[0], wide, ((dilation, dilation),) * 2)[::2, ::2]

    for i, y in enumerate(found):
        terms = [dilated(levels[i + q], kernels[q], 2**i) for q in range(2) if i + q < 3]
        np.testing.assert_allclose(y[0], sum(terms), atol=1e-4)
