"""SS-CNN: filters whose size is steered by rotating their coefficients in a log-radial basis.

Ghosh & Gupta, "Scale Steerable Filters for Locally Scale-Invariant Convolutional Neural Networks" (arXiv 1906.03861),
with the constants of the version that was released with SESN.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.layers import conv2d
from jaxrepro.layers.maximum import largest
from jaxrepro.models.mnist_frame import network

SS_CHANNELS = (30, 60, 90)
ORDERS = (0.5, 1.0, 2.0)
NUM_ANGLES = 9
ANGLE_STD = math.pi / 16
PHASE = -math.pi / 4
REFERENCE_SIZE = 11
SIZES = {28: (5, 7, 9, 11, 13), 56: (7, 9, 11, 13, 15, 17)}  # by resolution


def frequency(order: float, size: int) -> float:
    """Returns the frequency of an order in the logarithm of the radius, for filters of at most `size` pixels."""
    return 2 * math.pi * order / math.log(math.hypot(size // 2, size // 2))


def log_radial_basis(size: int) -> np.ndarray:
    """Returns the real and imaginary parts of the filters: float32 [2, orders, angles, size, size], unit L2 norms.

    A filter is exp(-d² / 2 std²) / r * exp(i (K ln r + phase)) on a disc: d is the angular distance from the line
    through the centre at its angle, r the distance in pixels (1 at the centre), K `frequency(order, size)`.
    """
    down, right = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
    radius = np.hypot(down, right)
    disc = radius <= size // 2
    radius[size // 2, size // 2] = 1
    phi = np.arctan2(right, -down)
    angles = np.linspace(0, np.pi, NUM_ANGLES)[:, None, None]
    distances = [np.abs(phi + turn - angles) for turn in (0, 2 * np.pi, -np.pi, np.pi)]
    envelope = disc * np.exp(-(np.min(distances, axis=0) ** 2) / (2 * ANGLE_STD**2)) / radius
    phase = np.stack([frequency(order, size) * np.log(radius) + PHASE for order in ORDERS])[:, None]
    parts = np.stack([envelope * np.cos(phase), envelope * np.sin(phase)])
    return (parts / np.linalg.norm(parts, axis=(-2, -1), keepdims=True)).astype(np.float32)


def steered_kernel(real: jax.Array, imaginary: jax.Array, basis: np.ndarray, size: int) -> jax.Array:
    """Returns the kernel [size, size, I, O] of one size.

    Args:
      real, imaginary: coefficients [orders, angles, I, O].
      basis: `log_radial_basis` of the largest size.
      size: of this kernel, odd; its scale relative to REFERENCE_SIZE turns the coefficients of each order.
    """
    largest = basis.shape[-1]
    shift = math.log(size / REFERENCE_SIZE)
    turn = np.array([frequency(order, largest) * shift for order in ORDERS])[:, None, None, None]
    cosine, sine = jnp.asarray(np.cos(turn), real.dtype), jnp.asarray(np.sin(turn), real.dtype)
    cut = (largest - size) // 2
    cropped = basis[..., cut : cut + size, cut : cut + size]
    coefficients = jnp.stack([cosine * real + sine * imaginary, sine * real - cosine * imaginary])
    return jnp.einsum("pkfab,pkfio->abio", jnp.asarray(cropped, coefficients.dtype), coefficients)


class SteeredConv(nn.Module):
    """The maximum over the sizes of a steered kernel: [B, H, W, I] to [B, H, W, features], without bias."""

    features: int
    sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (len(ORDERS), NUM_ANGLES, x.shape[-1], self.features)
        bound = math.sqrt(2 / (NUM_ANGLES * x.shape[-1] * self.features))

        def uniform(key, shape):
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        real, imaginary = self.param("real", uniform, shape), self.param("imaginary", uniform, shape)
        basis = log_radial_basis(self.sizes[-1])
        kernels = [steered_kernel(real, imaginary, basis, size) for size in self.sizes]
        return largest([conv2d(x, kernel, padding=len(kernel) // 2) for kernel in kernels])


class SSCNN(nn.Module):
    """Maps images float [B, 28, 28, 1] to logits [B, 10]; 486,278 parameters, all of them trained.

    The released code counts 493,688: 7,230 constants and a normalisation of 180 that it never uses are among them.
    """

    resolution: int = 28
    channels: tuple[int, ...] = SS_CHANNELS
    hidden: int = 256
    dropout: float = 0.7

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return network(
            images,
            train,
            conv=lambda features: SteeredConv(features, SIZES[self.resolution]),
            resolution=self.resolution,
            channels=self.channels,
            hidden=self.hidden,
            dropout=self.dropout,
            head_bias=True,
        )
