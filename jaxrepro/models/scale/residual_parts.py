"""The parts that eight methods put into the residual network of the STL-10 table.

Every section names its paper; numbers are those of the code released with SESN (Sosnovik et al., ICLR 2020, section
6.2) and, for Harm WRN, of its own authors' code. Convolutions have no bias and He's initial values by fan-out unless a
method has its own.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers import BatchNorm, lift_to_maps, scale_conv_maps
from jaxrepro.layers.blurred_scales import blurred, convolve_levels
from jaxrepro.layers.harmonic import HarmonicConv, HarmonicStem, he_normal
from jaxrepro.layers.log_radial import LogRadial, SteeredConv
from jaxrepro.layers.maximum import largest
from jaxrepro.layers.resized_inputs import max_over_sizes
from jaxrepro.layers.resized_kernels import convolve_columns
from jaxrepro.layers.steerable_basis import SteerableBasis, geometric_scales, single_level_functions
from jaxrepro.models.scale.residual import (
    EachMap,
    Maps,
    OneMapStem,
    Parts,
    Place,
    Projection,
    SeparateNorms,
    conv_of,
    he_out,
)

KERNEL = 3  # side of every method's kernels in pixels, of its unscaled ones


# SiCNN, Xu et al. (arXiv 1411.6369): a column of layers per scale.


class Columns(nn.Module):
    """Convolves every map with its own size of one kernel: maps to maps."""

    features: int
    strides: int
    scales: tuple[float, ...]

    @nn.compact
    def __call__(self, maps: Maps) -> Maps:
        kernel = self.param("kernel", he_out, (KERNEL, KERNEL, maps[0].shape[-1], self.features))
        return convolve_columns(maps, kernel, self.scales, self.strides)


class ColumnStem(nn.Module):
    """The first layer of every column: images to one map per scale."""

    features: int
    strides: int
    scales: tuple[float, ...]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Maps:
        return Columns(self.features, self.strides, self.scales)((images,) * len(self.scales))


def sicnn(scales: tuple[float, ...] = (0.67, 1.0, 1.5)) -> Parts:
    return Parts(
        stem=lambda features, strides: ColumnStem(features, strides, scales),
        conv=lambda place: Columns(place.features, place.strides, scales),
        norm=SeparateNorms,
    )


# SI-ConvNet, Kanazawa et al. (arXiv 1412.5104): the strongest answer over sizes of the input.


class StrongestConv(nn.Module):
    """The strongest answer of a convolution to several sizes of its input: [B, H, H, I] to [B, h, h, features]."""

    features: int
    strides: int
    scales: tuple[float, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return max_over_sizes(conv_of(self.features, self.strides, KERNEL), x, self.scales)


def si_convnet(scales: tuple[float, ...] = (0.5, 1.0, 2.0)) -> Parts:
    return Parts(
        stem=lambda features, strides: OneMapStem(lambda: StrongestConv(features, strides, scales)),
        conv=lambda place: EachMap(lambda: StrongestConv(place.features, place.strides, scales)),
    )


# DSS, Worrall & Welling (NeurIPS 2019): blurred copies, dilated kernels.


def delta_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """First values of a kernel [k, k, I, O]: noise in ±0.01, and in the centre what repeats or averages channels."""
    k, _, num_in, num_out = shape
    shared = math.gcd(num_in, num_out)
    same = jnp.arange(num_in)[:, None] * shared // num_in == jnp.arange(num_out) * shared // num_out
    noise = jax.random.uniform(key, shape, dtype, -0.01, 0.01)
    return noise.at[k // 2, k // 2].set(jnp.where(same, shared / num_out, noise[k // 2, k // 2]))


class LevelConv(nn.Module):
    """Convolves levels with a dilated kernel: maps to maps, without the last one where it connects two scales."""

    features: int
    strides: int = 1
    num_taps: int = 1

    @nn.compact
    def __call__(self, maps: Maps) -> Maps:
        shape = (KERNEL, KERNEL, maps[0].shape[-1], self.features)
        kernels = [self.param(f"kernel_{q}", delta_init, shape) for q in range(self.num_taps)]
        levels = convolve_levels(maps, kernels, self.strides)
        return levels[: len(levels) + 1 - self.num_taps]


class LevelStem(nn.Module):
    """Blurs images to four levels and convolves them: images to one map per level."""

    features: int
    strides: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Maps:
        return LevelConv(self.features, self.strides)(blurred(images, num_scales=4, zero_scale=0.5))


def dss() -> Parts:
    return Parts(
        stem=LevelStem,
        conv=lambda place: LevelConv(place.features, place.strides, 2 if place.begins in (1, 2) else 1),
        shortcut=lambda features, strides: EachMap(lambda: conv_of(features, strides, 1, delta_init)),
        projection=Projection.BEFORE_POOL,
    )


# SS-CNN, Ghosh & Gupta (arXiv 1906.03861): steered log-radial filters.

LOG_RADIAL = LogRadial(orders=(1.0,), num_angles=9, angle_std=math.pi / 16, phase=-math.pi / 4, reference_size=3)
STEM_SIZES = (3, 5, 7)


def ss_cnn(sizes: tuple[int, ...] = (3,)) -> Parts:
    """Args: sizes: of the filters of the blocks.

    The released code does not hand its sizes down to the blocks. At the single size 3 nine real and nine imaginary
    filters span two dimensions, which very likely explains the published error of 25 %.
    """
    return Parts(
        stem=lambda features, strides: OneMapStem(lambda: SteeredConv(features, LOG_RADIAL, STEM_SIZES, strides)),
        conv=lambda place: EachMap(lambda: SteeredConv(place.features, LOG_RADIAL, sizes, place.strides)),
    )


# SESN, Sosnovik et al. (ICLR 2020): scale-equivariant steerable filters.


class SteerableConv(nn.Module):
    """A steerable convolution, maps to maps; parameter `kernel` [F, taps, I, features], without taps where it lifts.

    Attributes:
      lifts: whether the maximum over scales is taken first, and lifted again.
    """

    features: int
    basis: SteerableBasis
    strides: int = 1
    num_taps: int = 1
    lifts: bool = False

    @nn.compact
    def __call__(self, maps: Maps) -> Maps:
        taps = () if self.lifts else (self.num_taps,)
        shape = (self.basis.num_functions, *taps, maps[0].shape[-1], self.features)
        std = math.sqrt(2 / (self.features * self.num_taps * self.basis.num_functions))
        kernel = self.param("kernel", nn.initializers.normal(std), shape)
        if self.lifts:
            return lift_to_maps(largest(maps), kernel.astype(maps[0].dtype), self.basis, self.strides)
        return scale_conv_maps(maps, kernel.astype(maps[0].dtype), self.basis, self.strides)


class SteerableStem(nn.Module):
    """Lifts images to scale space: images to one map per scale."""

    features: int
    strides: int
    basis: SteerableBasis

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Maps:
        return SteerableConv(self.features, self.basis, self.strides, lifts=True)((images,))


def sesn(
    smallest: float = 0.9, num_scales: int = 3, projects: bool = False, num_taps: int = 1, kernel_size: int = 7
) -> Parts:
    """Args:
    smallest: filter width of the first scale, in pixels; every other is 1.41 times the one before.
    num_scales: 3; 1 for a network of the same smooth filters that cannot follow a scale.
    projects: whether groups 2 and 3 begin with a maximum over scales and another lift.
    num_taps: scales that the first convolution of group 1 connects.
    kernel_size: support of the largest filters, in pixels.
    """
    scales = geometric_scales(smallest, 1.41 ** (num_scales - 1), num_scales, decimals=None)
    basis = SteerableBasis(kernel_size, scales, single_level_functions(KERNEL))

    def conv(place: Place) -> nn.Module:
        lifts = projects and place.begins in (2, 3)
        return SteerableConv(place.features, basis, place.strides, num_taps if place.begins == 1 else 1, lifts)

    return Parts(
        stem=lambda features, strides: SteerableStem(features, strides, basis),
        conv=conv,
        projection=Projection.BEFORE_NORM,
    )


# Harm WRN, Ulicny et al. (BMVC 2019): combinations of cosines.


class HarmonicMapStem(nn.Module):
    """The stem of harmonic networks: images to one map."""

    features: int
    strides: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Maps:
        return (HarmonicStem(self.features, self.strides)(images, train),)


def uniform_scale_norm() -> nn.Module:
    return BatchNorm(scale_init=nn.initializers.uniform(1.0))


def harmonic(level: int = 0) -> Parts:
    """Args: level: filters with i + j < level are kept in the blocks; 0 = all nine."""
    return Parts(
        stem=HarmonicMapStem,
        conv=lambda place: EachMap(lambda: HarmonicConv(place.features, place.strides, KERNEL, level)),
        shortcut=lambda features, strides: EachMap(lambda: conv_of(features, strides, 1, he_normal)),
        norm=uniform_scale_norm,
    )
