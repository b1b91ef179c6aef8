"""XLA's own forward convolution on CPU."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxrepro.layers.cpu.geometry import DIMENSION_NUMBERS, Geometry


def correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the correlation [B, H', W', O] of x [B, H, W, I] with a kernel [h, w, I, O]."""
    return convolve(x, kernel, geometry.pads, strides=geometry.strides)


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the gradient of the kernel: images as channels, or the layout is many times slower in a loop."""
    pads = tuple((low, k - 1 + (m - 1) * s + 1 - n - low) for (low, _), k, m, s, n in zip(
        geometry.pads, geometry.kernel, geometry.out, geometry.strides, geometry.size))  # fmt: skip
    dw = convolve(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), pads, dilation=geometry.strides)
    return dw.transpose(1, 2, 0, 3)


def convolve(x: jax.Array, kernel: jax.Array, pads, strides=(1, 1), dilation=(1, 1)) -> jax.Array:
    """`lax.conv_general_dilated`, which on CPU yields wrong numbers where a negative pad exceeds the kernel."""
    cut = [(min(low, 0), min(high, 0), 0) for low, high in pads]
    if any(map(any, cut)):
        x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *cut, (0, 0, 0)))
        pads = [(max(low, 0), max(high, 0)) for low, high in pads]
    return lax.conv_general_dilated(
        x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=DIMENSION_NUMBERS
    )
