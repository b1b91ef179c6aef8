"""Input gradients of strided convolutions, without zeros between the pixels, which XLA's fast CPU path cannot take."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrepro.layers.cpu.geometry import Geometry

Correlate = Callable[[jax.Array, jax.Array, Geometry], jax.Array]


def correlate_adjoint(g: jax.Array, kernel: jax.Array, geometry: Geometry, correlate: Correlate) -> jax.Array:
    """The transpose of a correlation in its input: [B, H', W', O] with [h, w, I, O] to [B, H, W, I].

    One dense correlation of g, by `correlate`, yields per position the strides[0] × strides[1] block of x it owns.
    Along one axis, with p the low pad: dx[s m + r - p] = sum_a g[m - a] kernel[s a + r].
    """
    h, w, num_in, num_out = kernel.shape
    (sh, sw), strides = geometry.strides, geometry.strides
    taps = (-(-h // sh), -(-w // sw))
    kernel = jnp.pad(kernel, ((0, taps[0] * sh - h), (0, taps[1] * sw - w), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps[0], sh, taps[1], sw, num_in, num_out)
    kernel = kernel.transpose(0, 2, 5, 1, 3, 4)[::-1, ::-1].reshape(*taps, num_out, sh * sw * num_in)
    first = [pads[0] // s for pads, s in zip(geometry.pads, strides)]
    last = [(pads[0] + n - 1) // s for pads, s, n in zip(geometry.pads, strides, geometry.size)]
    pads = tuple((t - 1 - a, b - n + 1) for t, a, b, n in zip(taps, first, last, g.shape[1:3]))
    blocks = Geometry(g.shape[1:3], taps, (1, 1), pads)
    y = correlate(g, kernel, blocks)
    if strides == (1, 1):
        return y
    rows, columns = blocks.out
    y = y.reshape(-1, rows, columns, sh, sw, num_in).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(-1, rows * sh, columns * sw, num_in)
    top, left = (pads[0] - a * s for pads, a, s in zip(geometry.pads, first, strides))
    return y[:, top : top + geometry.size[0], left : left + geometry.size[1]]
