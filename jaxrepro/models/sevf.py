"""SEVF: scale-equivariant vector fields. A layer answers with the strength of its best scale and an angle for which.

Marcos et al., "Scale equivariance in CNNs with vector fields" (arXiv 1807.11783), as reimplemented in the code released
with SESN. A vector field is a pair (u, v) of arrays [B, H, W, C].
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import conv2d
from jaxrepro.layers.maximum import largest
from jaxrepro.layers.resample import linear_matrix, resample
from jaxrepro.models.mnist_frame import CHANNELS, Head, network, torch_uniform, upsample

EXPONENTS = (-4, -3, -2, -1, 0, 1, 2, 3)
BASE = 1.26
ANGLE_RANGE = 2 * math.pi / 3
KERNEL = 7
VECTOR_CHANNELS = (23, 45, 68)
Field = tuple[jax.Array, jax.Array]


def angle_of(exponent: int) -> float:
    """Returns the angle in radians that stands for the scale BASE ** exponent."""
    return exponent * ANGLE_RANGE / (len(EXPONENTS) - 1)


def magnitude(u: jax.Array, v: jax.Array) -> jax.Array:
    """Returns sqrt(u² + v²), whose gradient is 0 where both are 0."""
    square = u * u + v * v
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def conv_at_scale(x: jax.Array, kernel: jax.Array, scale: float) -> jax.Array:
    """Convolves x [B, H, H, I], resized by `scale`, with a kernel [k, k, I, O]; resized back to [B, H, H, O].

    Resizing is bilinear between sizes H and round(scale H), pixel edges aligned, without antialias.
    """
    size = x.shape[1]
    scaled = round(size * scale)
    there, back = (linear_matrix(*pair, align_corners=False) for pair in ((size, scaled), (scaled, size)))
    return resample(conv2d(resample(x, there), kernel, padding=len(kernel) // 2), back)


def strongest(answers: Sequence[jax.Array]) -> Field:
    """Returns the field relu(max) * (cos, sin) of the angle of the exponent that answers most strongly.

    Args:
      answers: one array [B, H, W, C] per exponent.
    """
    best, angle = answers[0], jnp.full_like(answers[0], angle_of(EXPONENTS[0]))
    for exponent, answer in zip(EXPONENTS[1:], answers[1:], strict=True):
        better = answer > best
        best, angle = jnp.where(better, answer, best), jnp.where(better, angle_of(exponent), angle)
    strength = nn.relu(best)
    return strength * jnp.cos(angle), strength * jnp.sin(angle)


class ConvAtScales(nn.Module):
    """Convolves features [B, H, H, I] at every scale: a list of [B, H, H, features], one per exponent."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        kernel = self.param("kernel", torch_uniform, (KERNEL, KERNEL, x.shape[-1], self.features))
        return [conv_at_scale(x, kernel, BASE**e) for e in EXPONENTS]


class FieldToField(nn.Module):
    """Convolves a field with a field of kernels turned by the angle of each scale."""

    features: int

    @nn.compact
    def __call__(self, u: jax.Array, v: jax.Array) -> Field:
        shape = (KERNEL, KERNEL, u.shape[-1], self.features)
        kernel_u, kernel_v = self.param("kernel_u", torch_uniform, shape), self.param("kernel_v", torch_uniform, shape)
        both, answers = jnp.concatenate([u, v], axis=-1), []
        for e in EXPONENTS:
            cosine, sine = math.cos(angle_of(e)), math.sin(angle_of(e))
            turned = [cosine * kernel_u + sine * kernel_v, cosine * kernel_v - sine * kernel_u]
            answers.append(conv_at_scale(both, jnp.concatenate(turned, axis=2), BASE**e))
        return strongest(answers)


def pool_field(u: jax.Array, v: jax.Array, window: int, padding: int = 0) -> Field:
    """Takes the vector of largest magnitude from each window; padding is never taken, of equals the first is."""
    side = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    batch, height, width, channels = u.shape
    rows, columns = ((n + 2 * padding) // window for n in (height, width))

    def windows(x, fill):
        x = jnp.pad(x, side, constant_values=fill)[:, : rows * window, : columns * window]
        x = x.reshape(batch, rows, window, columns, window, channels).transpose(0, 1, 3, 5, 2, 4)
        return x.reshape(batch, rows, columns, channels, window * window)

    chosen = jnp.argmax(windows(magnitude(u, v), -jnp.inf), axis=-1, keepdims=True)
    return tuple(jnp.take_along_axis(windows(x, 0.0), chosen, axis=-1)[..., 0] for x in (u, v))


class FieldNorm(nn.Module):
    """Divides a field by the standard deviation of its magnitude over the batch and all pixels, per channel.

    The running variance, unbiased, moves half of the way at every step. Nothing is subtracted or trained; the released
    code counts one scale per channel that it never applies.
    """

    momentum: float = 0.5
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, u: jax.Array, v: jax.Array, train: bool) -> Field:
        running = self.variable("batch_stats", "var", jnp.ones, (u.shape[-1],))
        var = running.value
        if train:
            count = u.size // u.shape[-1]
            var = magnitude(u, v).astype(jnp.float32).var((0, 1, 2))
            if not self.is_initializing():
                unbiased = var * count / max(count - 1, 1)
                running.value = self.momentum * running.value + (1 - self.momentum) * unbiased
        factor = jax.lax.rsqrt(var + self.epsilon).astype(u.dtype)
        return u * factor, v * factor


class SEVFScalar(nn.Module):
    """Every layer lifts and keeps the magnitude, which is the strongest answer, rectified.

    Maps images float [B, 28, 28, 1] to logits [B, 10]; 494,425 parameters.
    """

    resolution: int = 28
    channels: tuple[int, ...] = CHANNELS
    hidden: int = 256
    dropout: float = 0.7

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return network(
            images,
            train,
            conv=lambda features: lambda x: largest(ConvAtScales(features)(x)),
            resolution=self.resolution,
            channels=self.channels,
            hidden=self.hidden,
            dropout=self.dropout,
            last_norm=False,
            head_bias=True,
        )


class SEVFVector(nn.Module):
    """Fields up to the head. Maps images [B, 28, 28, 1] to logits [B, 10]; 475,407 parameters, all of them trained."""

    resolution: int = 28
    channels: tuple[int, ...] = VECTOR_CHANNELS
    hidden: int = 256
    dropout: float = 0.7

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        first, second, third = self.channels
        field = pool_field(*strongest(ConvAtScales(first)(upsample(images, self.resolution))), 2)
        field = FieldNorm()(*field, train)
        field = FieldNorm()(*pool_field(*FieldToField(second)(*field), 2), train)
        field = pool_field(*FieldToField(third)(*field), self.resolution // 7, padding=2)
        return Head(self.hidden, self.dropout, use_bias=True)(magnitude(*field), train)
