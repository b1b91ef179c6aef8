"""The layer of SiCNN against kernels resized by SciPy."""

import numpy as np
from slow_maps import layer_and_params, slow_conv, slow_fit, slow_resize

from jaxrepro.layers.resized_kernels import SiConv

RANDOM = np.random.default_rng(0)


def test_sicnn_convolves_every_group_with_a_resized_kernel_of_the_same_l1_norm():
    scales, size = (0.3, 0.67, 1.0, 1.49, 3.33), 23
    x = RANDOM.normal(size=(1, 9, 9, len(scales) * 2)).astype(np.float32)
    found, params = layer_and_params(SiConv(3, scales, kernel_size=7), x)
    canvas = np.pad(params["kernel"], ((8, 8), (8, 8), (0, 0), (0, 0)))
    for i, scale in enumerate(scales):
        resized_size = int(size * scale)
        flat = canvas.reshape(size, size, -1)
        if scale > 1:
            source = (np.arange(resized_size) / scale).astype(int)
            resized = flat[source][:, source]
        else:
            resized = flat if scale == 1 else slow_resize(flat, resized_size, align_corners=True)
        resized = slow_fit(resized, size).reshape(size, size, 2, 3)
        resized = resized * np.abs(canvas).sum((0, 1)) / np.abs(resized).sum((0, 1))
        expected = slow_conv(x[0, ..., 2 * i : 2 * i + 2], resized, ((11, 11), (11, 11)))
        np.testing.assert_allclose(found[0, ..., 3 * i : 3 * i + 3], expected, atol=1e-4)
