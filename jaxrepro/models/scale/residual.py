"""What the nine networks of the STL-10 table share: a wide residual network (WRN-16) whose parts a method chooses.

    network = ResidualNet(Parts(conv=...), widths=(16, 128, 256, 512), num_classes=10)
    logits = network.apply(network.init(key, images, False), images, False)

Features are a tuple of maps [B, H, W, C], one per scale, or a single one: a method with scales never copies one of them
out of an array of all. A block is normalisation, ReLU, convolution, normalisation, ReLU, dropout, convolution, plus
its input; where channels change, the input comes from behind the first ReLU, through a 1×1 convolution. Three groups of
two blocks follow the stem, the second and third at half the resolution. Zagoruyko & Komodakis, "Wide Residual Networks"
(2016), as in the code released with SESN (Sosnovik et al., ICLR 2020).

What the backward pass keeps is `Remat`: at 96×96 it decides whether a batch of 128 fits a device.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxrepro.layers import BatchNorm, Conv
from jaxrepro.layers.maximum import largest
from jaxrepro.layers.torch_init import torch_uniform
from jaxrepro.models.scale.frame import Observed

Maps = tuple[jax.Array, ...]
he_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # N(0, 2 / (kernel area × features))
BLOCKS_PER_GROUP = 2
GROUPS = (1, 2, 3)


class Remat(enum.StrEnum):
    """What the backward pass computes again instead of keeping it; the result is the same."""

    NONE = "none"  # nothing
    NORM = "norm"  # normalisation, ReLU and dropout, from the inputs of blocks and the results of first convolutions
    BLOCK = "block"  # first convolutions too, from the inputs of blocks


class Projection(enum.StrEnum):
    """Where the maximum over scales is taken behind the last block."""

    BEFORE_NORM = "before_norm"
    BEFORE_POOL = "before_pool"  # behind normalisation and ReLU
    AFTER_POOL = "after_pool"


class Place(NamedTuple):
    """A 3×3 convolution of a block, or what stands for it.

    Attributes:
      group, block, conv: 1 to 3, 1 or 2, and 1 or 2.
      features, strides: of the convolution.
    """

    group: int
    block: int
    conv: int
    features: int
    strides: int

    @property
    def begins(self) -> int:
        """The group whose first convolution it is, 0 for none."""
        return self.group if (self.block, self.conv) == (1, 1) else 0


class EachMap(nn.Module):
    """Applies one layer to every map, with the same parameters: the layers of most methods.

    Attributes:
      make: () -> layer, [B, H, W, C] to [B, h, w, O].
    """

    make: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, maps: Maps) -> Maps:
        layer = self.make()
        return tuple(layer(x) for x in maps)


class SeparateNorms(nn.Module):
    """Normalises every map by its own statistics, with its own scale and shift."""

    @nn.compact
    def __call__(self, maps: Maps, train: bool) -> Maps:
        return tuple(BatchNorm()(x, train) for x in maps)


class OneMapStem(nn.Module):
    """Applies one layer to the image: [B, H, W, I] to one map.

    Attributes:
      make: () -> layer, [B, H, W, I] to [B, h, w, O].
    """

    make: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Maps:
        return (self.make()(images),)


def conv_of(features: int, strides: int, size: int, kernel_init: nn.initializers.Initializer = he_out) -> nn.Module:
    """Returns a plain convolution with an odd kernel of `size` pixels that keeps the size of a map, without bias."""
    window, padding = (size, size), size // 2
    return Conv(features, window, strides, padding=padding, use_bias=False, kernel_init=kernel_init, name="conv")


@dataclass(frozen=True)
class Parts:
    """What a method chooses; every callable returns a new layer and is called inside a compact method.

    Attributes:
      stem: (features, strides) -> layer of (images [B, H, W, I], train) to maps.
      conv: place -> layer of maps to maps; it may return fewer of them, the first ones.
      shortcut: (features, strides) -> layer of maps to maps.
      norm: () -> layer of (maps, train) to maps.
      projection: where scales meet.
    """

    stem: Callable[[int, int], nn.Module] = lambda features, strides: OneMapStem(lambda: conv_of(features, strides, 3))
    conv: Callable[[Place], nn.Module] = lambda place: EachMap(lambda: conv_of(place.features, place.strides, 3))
    shortcut: Callable[[int, int], nn.Module] = lambda features, strides: EachMap(lambda: conv_of(features, strides, 1))
    norm: Callable[[], nn.Module] = BatchNorm
    projection: Projection = Projection.AFTER_POOL


class Block(nn.Module):
    """One residual block: maps [B, H, W, I] to maps [B, H / strides, W / strides, features]."""

    parts: Parts
    group: int
    block: int
    features: int
    strides: int
    dropout: float

    @nn.compact
    def __call__(self, maps: Maps, train: bool) -> Maps:
        parts, place = self.parts, Place(self.group, self.block, 1, self.features, self.strides)
        x = _relu(parts.norm()(maps, train))
        y = tuple(checkpoint_name(m, "convolved") for m in parts.conv(place)(x))
        shortcut = maps[: len(y)]
        if maps[0].shape[-1] != self.features:
            shortcut = parts.shortcut(self.features, self.strides)(x[: len(y)])
        y = _relu(parts.norm()(y, train))
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = tuple(drop(m) for m in y)
        y = parts.conv(place._replace(conv=2, strides=1))(y)
        return tuple(a + b for a, b in zip(y, shortcut, strict=True))


class ResidualNet(nn.Module):
    """Maps images float [B, H, W, C] to logits float32 [B, num_classes].

    Attributes:
      parts: of the method.
      widths: channels of the stem and of the three groups.
      stem_strides: 1, or 2 to compute everything at half the resolution.
      dropout: probability that a number between the convolutions of a block is dropped in training.
      remat: what the backward pass computes again.
    """

    parts: Parts
    widths: tuple[int, int, int, int]
    num_classes: int = 10
    stem_strides: int = 1
    dropout: float = 0.3
    remat: Remat = Remat.NONE

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        make_block = rematerialised(self.remat)
        maps = self.parts.stem(self.widths[0], self.stem_strides)(images, train)
        for group, features in zip(GROUPS, self.widths[1:], strict=True):
            for block in range(1, BLOCKS_PER_GROUP + 1):
                strides = 2 if group > 1 and block == 1 else 1
                name = f"group_{group}_block_{block}"
                maps = make_block(self.parts, group, block, features, strides, self.dropout, name=name)(maps, train)
            Observed(name=f"stage_{group}")(largest(maps))
        x = pooled(maps, self.parts.projection, self.parts.norm(), train)
        return nn.Dense(self.num_classes, kernel_init=torch_uniform, dtype=jnp.float32)(x)


def pooled(maps: Maps, at: Projection, norm: nn.Module, train: bool) -> jax.Array:
    """Returns the features behind normalisation, ReLU, mean over space and maximum over scales: [B, C]."""
    if at is Projection.BEFORE_NORM:
        maps = (largest(maps),)
    maps = _relu(norm(maps, train))
    if at is Projection.BEFORE_POOL:
        maps = (largest(maps),)
    return largest([x.mean((1, 2)) for x in maps])


def _relu(maps: Maps) -> Maps:
    return tuple(nn.relu(x) for x in maps)


def rematerialised(remat: Remat) -> type[nn.Module]:
    """Returns `Block`, or what computes the same and keeps less for the backward pass."""
    if remat is Remat.NONE:
        return Block
    policies = jax.checkpoint_policies
    policy = policies.save_only_these_names("convolved") if remat is Remat.NORM else policies.nothing_saveable
    return nn.remat(Block, policy=policy, static_argnums=(2,))
