"""Convolutions of images inside a wide constant border, at little more than the price of the images.

    x = bordered(images, 99)                          # stands for the images with 99 zeros on all sides
    if x.fits(len(weights)):
        x = x.conv_block(weights)                     # 3×3 convolutions with ReLU, then pooling, as `conv_block` does
    y = x.assembled()                                 # [B, N, N, C], equal to the same done with the whole map

Behind a wide border a map is constant but for a window, which the image reaches, and a frame, which the zeros reach
that every convolution sees beyond the map's edge. The window is computed inside a margin of the constant. Frame and
constant are the same for all images: they are those of a map of a few pixels, from whose middle the constant rows and
columns are taken out, and which is computed once a batch. Both parts are differentiable, and nothing is approximated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.conv import conv2d
from jaxrepro.layers.pooling import max_pool

Weights = Sequence[tuple[jax.Array, jax.Array]]  # kernel [3, 3, I, O] and bias [O] of each convolution


def conv_block(x: jax.Array, weights: Weights) -> jax.Array:
    """Maps [B, H, W, I] to [B, ceil(H / 2), ceil(W / 2), O]: 3×3 convolutions with ReLU, then 2×2 maximum pooling."""
    for kernel, bias in weights:
        x = nn.relu(conv2d(x, kernel, padding=1) + bias)
    return _pool(x)


@dataclass(frozen=True)
class Bordered:
    """A square map [B, size, size, C] that is constant but for a window and a frame.

    Attributes:
      window: [B, M, M, C], the map's rows and columns from `start`.
      frame: [1, low + 1 + high, low + 1 + high, C]: the map without a window, of whose constant rows and columns one
        each is left, number `low`.
      size, start, low, high: pixels.
    """

    window: jax.Array
    frame: jax.Array
    size: int
    start: int
    low: int = 0
    high: int = 0

    @property
    def stop(self) -> int:
        return self.start + self.window.shape[1]

    def fits(self, num_convolutions: int) -> bool:
        """Returns whether window and frame stay apart in a block of so many convolutions."""
        reach = 2 * num_convolutions + 1  # one pixel each of the window, its margin and the frame; one of pooling
        return self.start - reach >= self.low and self.stop + reach <= self.size - self.high

    def conv_block(self, weights: Weights) -> "Bordered":
        """Returns the map after `conv_block`."""
        number = len(weights)
        constant_rows = 2 * number + 3
        constant_rows += (self.low + constant_rows + self.high - self.size) % 2  # pooled like the whole map
        frame, window = _spread(self.frame, self.low, constant_rows), self.window
        for i, (kernel, bias) in enumerate(weights):
            constant = frame[0, self.low + i, self.low + i]
            window = nn.relu(conv2d(_surround(window, constant, 2, 2), kernel, padding="VALID") + bias)
            frame = nn.relu(conv2d(frame, kernel, padding=1) + bias)
        start, stop = self.start - number, self.stop + number
        window = _surround(window, frame[0, self.low + number, self.low + number], start % 2, stop % 2)
        low, high = -(-(self.low + number) // 2), -(-self.size // 2) - (self.size - self.high - number) // 2
        frame = _pool(frame)
        middle = [*range(low + 1), *range(frame.shape[1] - high, frame.shape[1])]
        frame = frame[:, jnp.array(middle)][:, :, jnp.array(middle)]
        return Bordered(_pool(window), frame, -(-self.size // 2), start // 2, low, high)

    def assembled(self) -> jax.Array:
        """Returns the map, [B, size, size, C]."""
        whole = _spread(self.frame, self.low, self.size - self.low - self.high)
        whole = jnp.broadcast_to(whole, (len(self.window), *whole.shape[1:]))
        return whole.at[:, self.start : self.stop, self.start : self.stop].set(self.window)


def bordered(x: jax.Array, border: int) -> Bordered:
    """Returns maps [B, N, N, C] with so many zeros on all sides."""
    return Bordered(x, jnp.zeros((1, 1, 1, x.shape[-1]), x.dtype), x.shape[1] + 2 * border, border)


def _pool(x: jax.Array) -> jax.Array:
    return max_pool(x, (2, 2), (2, 2), [(0, size % 2) for size in x.shape[1:3]])


def _spread(frame: jax.Array, low: int, constant_rows: int) -> jax.Array:
    """Returns [1, N, N, C] with row and column number `low` so many times."""
    for axis in (1, 2):
        before, constant, after = jnp.split(frame, (low, low + 1), axis)
        frame = jnp.concatenate([before, jnp.repeat(constant, constant_rows, axis), after], axis)
    return frame


def _surround(x: jax.Array, constant: jax.Array, low: int, high: int) -> jax.Array:
    """Returns [B, M, M, C] with rows and columns of a constant [C] before and after."""
    batch, size, _, channels = x.shape
    whole = jnp.broadcast_to(constant, (batch, size + low + high, size + low + high, channels))
    return whole.at[:, low : low + size, low : low + size].set(x)
