"""The layer of SI-ConvNet against inputs resized by SciPy."""

import numpy as np
from slow_maps import layer_and_params, slow_conv, slow_fit, slow_resize

from jaxrepro.layers.resized_inputs import MaxOverSizes

RANDOM = np.random.default_rng(0)


def test_si_convnet_takes_the_maximum_over_resized_copies_of_the_input():
    size, scales = 14, (0.3, 0.67, 1.0, 2.23)
    x = RANDOM.normal(size=(1, size, size, 2)).astype(np.float32)
    found, params = layer_and_params(MaxOverSizes(3, scales, kernel_size=7), x)
    conv = params["TorchConv_0"]["conv"]
    answers = []
    for scale in scales:
        there = x[0] if scale == 1 else slow_fit(slow_resize(x[0], int(size * scale), align_corners=True), size)
        y = slow_conv(there, conv["kernel"], ((3, 3), (3, 3))) + conv["bias"]
        answers.append(y if scale == 1 else slow_fit(slow_resize(y, int(size / scale), align_corners=True), size))
    np.testing.assert_allclose(found[0], np.max(answers, axis=0), atol=1e-4)
