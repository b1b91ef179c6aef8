"""Blurred copies of an image as scales, each convolved with the kernel dilated: the layers of deep scale-spaces.

    x = blur_to_scales(x, num_scales=2, zero_scale=0.25)               # [B, H, H, I] to [2 * B, H, H, I]
    x = ScaleSpaceConv(32, num_scales=2, kernel_size=7)(x)             # to [2 * B, H, H, 32]
    x = max_over_blurred(x, num_scales=2)                              # to [B, H, H, 32]
    levels = convolve_levels(blurred(x, 4, 0.5), kernels)              # the same with one map per scale in a tuple

In the first form the scales stand one after the other on the batch axis, so that pooling and normalisation over (scale,
space) are the ordinary ones. Worrall & Welling, "Deep Scale-spaces: Equivariance Over Scale" (NeurIPS 2019), as
reimplemented in the code released with SESN (Sosnovik et al., ICLR 2020).
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers.conv import conv2d
from jaxrepro.layers.maximum import largest
from jaxrepro.layers.resample import resample


def blur_matrix(size: int, variance: float) -> np.ndarray:
    """Returns float32 [size, size], which convolves one axis with the discrete Gaussian, zeros outside.

    Its taps are exp(-t) I_x(t) for |x| <= 4 ceil(sqrt(t)), normalised to sum 1; I is the modified Bessel function.
    """
    radius = 4 * math.ceil(math.sqrt(variance))
    distance = np.arange(-radius, radius + 1)
    # I_x(t) = mean over the circle of exp(t cos a) cos(x a), an integral that this sum meets to rounding error.
    angle = 2 * np.pi * np.arange(256) / 256
    taps = np.mean(np.exp(variance * (np.cos(angle) - 1)) * np.cos(np.outer(distance, angle)), axis=1)
    taps /= taps.sum()
    return sum(tap * np.eye(size, k=int(d)) for tap, d in zip(taps, distance, strict=True)).astype(np.float32)


def blurred(x: jax.Array, num_scales: int, zero_scale: float) -> tuple[jax.Array, ...]:
    """Returns x [B, H, H, C] at every scale, S arrays: level l has variance zero_scale² (4^l - 1) added.

    Args:
      zero_scale: the blur that the pixels are taken to have, a standard deviation in pixels.
    """
    variances = [zero_scale**2 * (4**level - 1) for level in range(1, num_scales)]
    return (x, *(resample(x, blur_matrix(x.shape[1], t)) for t in variances))


def blur_to_scales(x: jax.Array, num_scales: int, zero_scale: float) -> jax.Array:
    """Returns what `blurred` does on the batch axis: [B, H, H, C] to [S * B, H, H, C]."""
    return jnp.concatenate(blurred(x, num_scales, zero_scale))


def max_over_blurred(x: jax.Array, num_scales: int) -> jax.Array:
    """Returns the maximum over the scales of [S * B, H, W, C]: [B, H, W, C]."""
    return largest(jnp.split(x, num_scales))


def dilated_conv(x: jax.Array, kernel: jax.Array, dilation: int, strides: int = 1) -> jax.Array:
    """Convolves x [B, H, W, I] with a dilated kernel, padded with zeros to keep its size: [B, H / strides, …].

    Pixels whose rows and columns agree modulo the dilation never meet the others: each such subimage is convolved
    with the undilated kernel, which takes the fast route on CPU. Strides must be 1 or divide the dilation, unless that
    is 1: then most subimages are never asked for.
    """
    if strides > 1 and dilation > 1:
        return dilated_conv(x[:, ::strides, ::strides], kernel, dilation // strides)
    if dilation == 1:
        return conv2d(x, kernel, strides, padding=len(kernel) // 2)
    batch, height, width, channels = x.shape
    pad_h, pad_w = -height % dilation, -width % dilation
    x = jnp.pad(x, ((0, 0), (0, pad_h), (0, pad_w), (0, 0)))
    rows, columns = (height + pad_h) // dilation, (width + pad_w) // dilation
    x = x.reshape(batch, rows, dilation, columns, dilation, channels).transpose(0, 2, 4, 1, 3, 5)
    y = conv2d(x.reshape(-1, rows, columns, channels), kernel, padding=len(kernel) // 2)
    y = y.reshape(batch, dilation, dilation, rows, columns, -1).transpose(0, 3, 1, 4, 2, 5)
    return y.reshape(batch, rows * dilation, columns * dilation, -1)[:, :height, :width]


def convolve_levels(
    levels: Sequence[jax.Array], kernels: Sequence[jax.Array], strides: int = 1
) -> tuple[jax.Array, ...]:
    """Returns y[l] = sum_q conv(x[l + q], kernels[q] dilated by 2^l), without the taps beyond the last level.

    Args:
      levels: [B, H, W, I] each.
      kernels: [k, k, I, O] each; one for every scale that the layer connects.
      strides: 1 or 2.
    """
    return tuple(
        sum(dilated_conv(x, kernel, 2**i, strides) for x, kernel in zip(levels[i:], kernels))
        for i in range(len(levels))
    )


class ScaleSpaceConv(nn.Module):
    """Convolves level l of [S * B, H, W, I] with the kernel dilated by 2^l: [S * B, H, W, features], without bias."""

    features: int
    num_scales: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k = self.kernel_size
        std = math.sqrt(2 / (k * k * x.shape[-1]))
        kernel = self.param("kernel", nn.initializers.normal(std), (k, k, x.shape[-1], self.features))
        return jnp.concatenate(convolve_levels(jnp.split(x, self.num_scales), [kernel]))
