"""XLA's own convolution, without what it gets wrong."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    pads: Sequence[tuple[int, int]],
    strides: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Returns `lax.conv_general_dilated` [B, H', W', O] of x [B, H, W, I] and a kernel [h, w, I / groups, O].

    On CPU XLA yields wrong numbers, or gradients, for some negative pads: axes that have one are padded beforehand.
    """
    pads = [tuple(ends) for ends in pads]
    first = [ends if min(ends) < 0 else (0, 0) for ends in pads]
    if any(map(any, first)):
        x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*ends, 0) for ends in first), (0, 0, 0)))
        pads = [(0, 0) if min(ends) < 0 else ends for ends in pads]
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=DIMENSION_NUMBERS,
        feature_group_count=groups,
    )
