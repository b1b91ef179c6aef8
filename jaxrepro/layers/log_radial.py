"""Filters in a log-radial basis, whose size is steered by turning their coefficients: the layer of SS-CNN.

    y = SteeredConv(30, LogRadial(orders=(0.5, 1.0), ...), sizes=(5, 7, 9))(x)      # [B, H, W, I] to [B, H, W, 30]

Ghosh & Gupta, "Scale Steerable Filters for Locally Scale-Invariant Convolutional Neural Networks" (arXiv 1906.03861),
as reimplemented in the code released with SESN (Sosnovik et al., ICLR 2020).
"""

import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers.conv import conv2d
from jaxrepro.layers.maximum import largest


@dataclass(frozen=True)
class LogRadial:
    """The basis of the filters.

    Attributes:
      orders: of the oscillation in the logarithm of the radius.
      num_angles: directions, evenly from 0 to pi, both included.
      angle_std: width of a filter about its direction, in radians.
      phase: of the oscillation, in radians.
      reference_size: pixels of the filter whose coefficients are the parameters.
    """

    orders: tuple[float, ...]
    num_angles: int
    angle_std: float
    phase: float
    reference_size: int

    def frequency(self, order: float, size: int) -> float:
        """Returns the frequency of an order in the logarithm of the radius, for filters of at most `size` pixels."""
        return 2 * math.pi * order / math.log(math.hypot(size // 2, size // 2))

    def filters(self, size: int) -> np.ndarray:
        """Returns the filters' real and imaginary parts: float32 [2, orders, angles, size, size], unit L2 norms.

        A filter is exp(-d² / 2 std²) / r * exp(i (K ln r + phase)) on a disc: d is the angular distance from the line
        through the centre at its angle, r the distance in pixels (1 at the centre), K `frequency(order, size)`.
        """
        down, right = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
        radius = np.hypot(down, right)
        disc = radius <= size // 2
        radius[size // 2, size // 2] = 1
        phi = np.arctan2(right, -down)
        angles = np.linspace(0, np.pi, self.num_angles)[:, None, None]
        distances = [np.abs(phi + turn - angles) for turn in (0, 2 * np.pi, -np.pi, np.pi)]
        envelope = disc * np.exp(-(np.min(distances, axis=0) ** 2) / (2 * self.angle_std**2)) / radius
        phases = [self.frequency(order, size) * np.log(radius) + self.phase for order in self.orders]
        phase = np.stack(phases)[:, None]
        parts = np.stack([envelope * np.cos(phase), envelope * np.sin(phase)])
        return (parts / np.linalg.norm(parts, axis=(-2, -1), keepdims=True)).astype(np.float32)

    def steered_kernel(self, real: jax.Array, imaginary: jax.Array, filters: np.ndarray, size: int) -> jax.Array:
        """Returns the kernel [size, size, I, O] of one size.

        Args:
          real, imaginary: coefficients [orders, angles, I, O].
          filters: of the largest size.
          size: of this kernel, odd; its scale relative to `reference_size` turns the coefficients of each order.
        """
        largest_size = filters.shape[-1]
        shift = math.log(size / self.reference_size)
        turn = np.array([self.frequency(order, largest_size) * shift for order in self.orders])[:, None, None, None]
        cosine, sine = jnp.asarray(np.cos(turn), real.dtype), jnp.asarray(np.sin(turn), real.dtype)
        cut = (largest_size - size) // 2
        cropped = filters[..., cut : cut + size, cut : cut + size]
        coefficients = jnp.stack([cosine * real + sine * imaginary, sine * real - cosine * imaginary])
        return jnp.einsum("pkfab,pkfio->abio", jnp.asarray(cropped, coefficients.dtype), coefficients)


class SteeredConv(nn.Module):
    """The maximum over the sizes of a steered kernel: [B, H, W, I] to [B, H / strides, …, features], without bias.

    Attributes:
      sizes: odd, in increasing order.
    """

    features: int
    basis: LogRadial
    sizes: tuple[int, ...]
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        basis = self.basis
        shape = (len(basis.orders), basis.num_angles, x.shape[-1], self.features)
        bound = math.sqrt(2 / (basis.num_angles * x.shape[-1] * self.features))

        def uniform(key, shape):
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        real, imaginary = self.param("real", uniform, shape), self.param("imaginary", uniform, shape)
        filters = basis.filters(self.sizes[-1])
        kernels = [basis.steered_kernel(real, imaginary, filters, size) for size in self.sizes]
        return largest([conv2d(x, kernel, self.strides, padding=len(kernel) // 2) for kernel in kernels])
