"""Two-dimensional convolutions that are fast on XLA's CPU backend, at top level and inside loops.

XLA derives the gradients of a convolution itself, and on CPU the layout it picks for them can cost a factor
of forty (inside `lax.scan`) or turn a large kernel into a scalar loop. Here the three bilinear maps are written by
hand, each the gradient of the others, so derivatives of every order stay fast, and each is computed in the way that
`choose.py` expects to be the fastest for its shape:

    correlate(x, kernel, geometry)       y  = x * kernel
    correlate_adjoint(g, kernel, ...)    dx = the same map, transposed in x
    kernel_gradient(x, g, geometry)      dw = the same map, transposed in kernel

`jaxrepro.layers.conv` is the public face. Arrays are NHWC, kernels HWIO. Forward-mode differentiation
(`jax.jvp`) is not supported, as for every `jax.custom_vjp`. Narrow floats are computed in float32; float64 only
in ways that keep its precision.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxrepro.layers import xla
from jaxrepro.layers.cpu import choose, patches, strided, winograd
from jaxrepro.layers.cpu.choose import Strategy
from jaxrepro.layers.cpu.geometry import Geometry
from jaxrepro.layers.cpu.spectral import correlate_by_spectrum

Map = Callable[[jax.Array, jax.Array, Geometry], jax.Array]


def correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolution as in neural networks (no flip): [B, H, W, I] with [h, w, I, O] to [B, H', W', O]."""
    if choose.spectrum_pays(geometry, x.shape[0], *kernel.shape[2:], x.dtype):
        # Its gradients are fast as they stand, and share the spectra with each other and with the result.
        return correlate_by_spectrum(x, kernel, geometry.pads)
    return _correlate_in_space(x, kernel, geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate_in_space(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return _in_float32(_correlate, geometry, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def correlate_adjoint(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Transpose of `correlate` in x: [B, H', W', O] with [h, w, I, O] to [B, H, W, I]."""
    return _in_float32(_correlate_adjoint, geometry, g, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Transpose of `correlate` in kernel: [B, H, W, I] with [B, H', W', O] to [h, w, I, O]."""
    return _in_float32(_kernel_gradient, geometry, x, g)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    """(correlate_adjoint(g, kernel), kernel_gradient(x, g)), computed together where they share work."""
    if geometry.strides == (1, 1) and x.size and g.size:
        backward = choose.for_result(geometry.mirrored, g.shape[0], g.shape[3], x.shape[3], g.dtype)
        if {backward, _kernel_strategy(x, g, geometry)} == {Strategy.WINOGRAD}:
            return _in_float32(winograd.gradients, geometry, x, kernel, g)
    return correlate_adjoint(g, kernel, geometry), kernel_gradient(x, g, geometry)


_correlate_in_space.defvjp(
    lambda x, kernel, geometry: (_correlate_in_space(x, kernel, geometry), (x, kernel)),
    lambda geometry, saved, g: _gradients(*saved, g, geometry),
)
correlate_adjoint.defvjp(
    lambda g, kernel, geometry: (correlate_adjoint(g, kernel, geometry), (g, kernel)),
    lambda geometry, saved, x: (correlate(x, saved[1], geometry), kernel_gradient(x, saved[0], geometry)),
)
kernel_gradient.defvjp(
    lambda x, g, geometry: (kernel_gradient(x, g, geometry), (x, g)),
    lambda geometry, saved, kernel: (
        correlate_adjoint(saved[1], kernel, geometry),
        correlate(saved[0], kernel, geometry),
    ),
)


def _gradients_of_gradients(geometry: Geometry, saved, cotangents):
    (x, kernel, g), (dx, dw) = saved, cotangents
    return (
        correlate_adjoint(g, dw, geometry),
        kernel_gradient(dx, g, geometry),
        correlate(dx, kernel, geometry) + correlate(x, dw, geometry),
    )


_gradients.defvjp(lambda x, kernel, g, geometry: (_gradients(x, kernel, g, geometry), (x, kernel, g)),
                  _gradients_of_gradients)  # fmt: skip


def _in_float32(function, geometry: Geometry, *arrays: jax.Array):
    narrow = arrays[0].dtype
    wide = jnp.promote_types(narrow, jnp.float32)
    results = function(*(a.astype(wide) for a in arrays), geometry)
    return jax.tree.map(lambda result: result.astype(narrow), results)


def _correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    if not (x.size and kernel.size):
        return jnp.zeros((x.shape[0], *geometry.out, kernel.shape[3]), x.dtype)
    return RESULTS[choose.for_result(geometry, x.shape[0], *kernel.shape[2:], x.dtype)](x, kernel, geometry)


def _correlate_adjoint(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    if not (g.size and kernel.size):
        return jnp.zeros((g.shape[0], *geometry.size, kernel.shape[2]), g.dtype)
    if geometry.strides == (1, 1):
        return _correlate(g, kernel[::-1, ::-1].swapaxes(2, 3), geometry.mirrored)
    strategy = choose.for_input_gradient(geometry, g.shape[0], *kernel.shape[2:], g.dtype)
    return INPUT_GRADIENTS[strategy](g, kernel, geometry)


def _kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    if not (x.size and g.size):
        return jnp.zeros((*geometry.kernel, x.shape[3], g.shape[3]), x.dtype)
    return KERNEL_GRADIENTS[_kernel_strategy(x, g, geometry)](x, g, geometry)


def _kernel_strategy(x: jax.Array, g: jax.Array, geometry: Geometry) -> Strategy:
    return choose.for_kernel_gradient(geometry, x.shape[0], x.shape[3], g.shape[3], x.dtype)


def _xla_correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return xla.convolve(x, kernel, geometry.pads, geometry.strides)


def _xla_kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """With images as channels: the layout that XLA's autodiff picks is many times slower in a loop."""
    pads = [(low, k - n + (m - 1) * s - low) for (low, _), k, m, s, n in zip(
        geometry.pads, geometry.kernel, geometry.out, geometry.strides, geometry.size)]  # fmt: skip
    dw = xla.convolve(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), pads, dilation=geometry.strides)
    return dw.transpose(1, 2, 0, 3)


def _winograd_correlate(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    if geometry.strides == (1, 1):
        return winograd.correlate(x, kernel, geometry)
    blocks = strided.pixels_to_blocks(x, geometry), strided.kernel_to_blocks(kernel, geometry)
    return winograd.correlate(*blocks, strided.blocks_of(geometry))


def _winograd_kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    if geometry.strides == (1, 1):
        return winograd.kernel_gradient(x, g, geometry)
    dw = winograd.kernel_gradient(strided.pixels_to_blocks(x, geometry), g, strided.blocks_of(geometry))
    return strided.blocks_to_kernel(dw, geometry)


RESULTS: Mapping[Strategy, Map] = {
    Strategy.LAX: _xla_correlate,
    Strategy.COLUMNS: patches.correlate,
    Strategy.WINOGRAD: _winograd_correlate,
    Strategy.SPECTRUM: lambda x, kernel, geometry: correlate_by_spectrum(x, kernel, geometry.pads),
}
INPUT_GRADIENTS: Mapping[Strategy, Map] = {  # of strided ones
    Strategy.LAX: strided.correlate_adjoint,
    Strategy.COLUMNS: patches.correlate_adjoint,
}
KERNEL_GRADIENTS: Mapping[Strategy, Map] = {
    Strategy.LAX: _xla_kernel_gradient,
    Strategy.COLUMNS: patches.kernel_gradient,
    Strategy.WINOGRAD: _winograd_kernel_gradient,
}
