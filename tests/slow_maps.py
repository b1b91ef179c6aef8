"""Convolution and resizing of one image, channel by channel with SciPy, for comparison; and quickly compiled calls."""

import jax
import numpy as np
import scipy.ndimage
import scipy.signal

from jaxrepro.compiling import QUICK_COMPILE

KEY = jax.random.key(0)


def slow_conv(x, kernel, pads):
    """Correlates x [H, W, I] with [h, w, I, O] after padding ((top, bottom), (left, right)), channel by channel."""
    x = np.pad(x, (*pads, (0, 0)))
    planes = [
        sum(scipy.signal.correlate2d(x[..., i], kernel[..., i, o], mode="valid") for i in range(kernel.shape[2]))
        for o in range(kernel.shape[3])
    ]
    return np.stack(planes, axis=-1)


def slow_resize(x, size, align_corners):
    """Resizes x [H, H, C] bilinearly to [size, size, C]."""
    num = len(x)
    if align_corners:
        position = np.arange(size) * (num - 1) / (size - 1)
    else:
        position = (np.arange(size) + 0.5) * num / size - 0.5
    grid = np.meshgrid(position, position, indexing="ij")
    planes = [scipy.ndimage.map_coordinates(x[..., c], grid, order=1, mode="nearest") for c in range(x.shape[-1])]
    return np.stack(planes, axis=-1)


def slow_fit(x, size):
    """Pads or cuts both spatial axes of x [n, n, C] to `size`, as `pad(before, after)` with negative numbers would."""
    before = (size - len(x)) // 2
    out = np.zeros((size, size, *x.shape[2:]))
    for i in range(size):
        for j in range(size):
            if 0 <= i - before < len(x) and 0 <= j - before < len(x):
                out[i, j] = x[i - before, j - before]
    return out


def quickly(function, *arguments):
    """Calls a function of arrays as one program that is compiled for its compile time."""
    return jax.jit(function, compiler_options=QUICK_COMPILE)(*arguments)


def layer_and_params(module, *inputs):
    variables = quickly(module.init, KEY, *inputs)
    return quickly(module.apply, variables, *inputs), jax.tree.map(np.asarray, variables["params"])
