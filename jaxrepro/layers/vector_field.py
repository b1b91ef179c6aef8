"""Vector fields over scale: a layer answers with the strength of its best scale and an angle for which; those of SEVF.

    law = ScaleAngles(base=1.26, exponents=(-1, 0, 1), angle_range=2.1)
    u, v = strongest(ConvAtScales(32, law, kernel_size=7)(x), law)      # x [B, H, H, I]; u and v [B, H, H, 32]
    u, v = FieldToField(32, law, kernel_size=7)(u, v)

A field is a pair (u, v) of arrays [B, H, W, C]. Marcos et al., "Scale equivariance in CNNs with vector fields"
(arXiv 1807.11783), as reimplemented in the code released with SESN (Sosnovik et al., ICLR 2020).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.conv import conv2d
from jaxrepro.layers.resample import linear_matrix, resample
from jaxrepro.layers.torch_init import torch_uniform

Field = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class ScaleAngles:
    """Which scales a layer looks at, and the angle that stands for each.

    Attributes:
      base: scale number e is base ** e.
      exponents: integers, in increasing order.
      angle_range: radians between the first and the last scale; exponent 0 has the angle 0.
    """

    base: float
    exponents: tuple[int, ...]
    angle_range: float

    @property
    def scales(self) -> list[float]:
        return [self.base**e for e in self.exponents]

    @property
    def angles(self) -> list[float]:
        """Radians."""
        return [e * self.angle_range / (len(self.exponents) - 1) for e in self.exponents]


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


def strongest(answers: Sequence[jax.Array], law: ScaleAngles) -> Field:
    """Returns the field relu(max) * (cos, sin) of the angle of the scale that answers most strongly.

    Args:
      answers: one array [B, H, W, C] per scale.
    """
    first, *others = law.angles
    best, angle = answers[0], jnp.full_like(answers[0], first)
    for other, answer in zip(others, answers[1:], strict=True):
        better = answer > best
        best, angle = jnp.where(better, answer, best), jnp.where(better, other, angle)
    strength = nn.relu(best)
    return strength * jnp.cos(angle), strength * jnp.sin(angle)


class ConvAtScales(nn.Module):
    """Convolves features [B, H, H, I] at every scale: a list of [B, H, H, features], one per scale; without bias."""

    features: int
    law: ScaleAngles
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        k = self.kernel_size
        kernel = self.param("kernel", torch_uniform, (k, k, x.shape[-1], self.features))
        return [conv_at_scale(x, kernel, scale) for scale in self.law.scales]


class FieldToField(nn.Module):
    """Convolves a field with a field of kernels turned by the angle of each scale; without bias."""

    features: int
    law: ScaleAngles
    kernel_size: int

    @nn.compact
    def __call__(self, u: jax.Array, v: jax.Array) -> Field:
        shape = (self.kernel_size, self.kernel_size, u.shape[-1], self.features)
        kernel_u, kernel_v = self.param("kernel_u", torch_uniform, shape), self.param("kernel_v", torch_uniform, shape)
        both, answers = jnp.concatenate([u, v], axis=-1), []
        for scale, angle in zip(self.law.scales, self.law.angles, strict=True):
            cosine, sine = math.cos(angle), math.sin(angle)
            turned = [cosine * kernel_u + sine * kernel_v, cosine * kernel_v - sine * kernel_u]
            answers.append(conv_at_scale(both, jnp.concatenate(turned, axis=2), scale))
        return strongest(answers, self.law)


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
