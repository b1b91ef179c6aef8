"""Generator and discriminator of DCGAN: the tutorial's nets, the authors', and the report's modifications of them.

    config = DCGANConfig(image_size=64, base_width=64)
    generator, discriminator = Generator(config), Discriminator(config)
    images, changes = generator.apply(variables, latents, labels, train=True, mutable=["batch_stats"])

One config describes both: the generator is the mirror image of the discriminator. Nothing is copied per variant; which
values give which published net stands in `configs/dcgan.py`, their parameter counts in the tests.

Sources: Radford, Metz & Chintala (arXiv 1511.06434); the authors' Theano code; the PyTorch tutorial that the report
followed.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.errors import check
from jaxrepro.layers import Conv, ConvTranspose, max_pool
from jaxrepro.layers.torch_init import torch_bias, torch_uniform

WEIGHT_STD = 0.02  # of all initial weights, and of the batch norms' initial scales about 1


class Ends(StrEnum):
    """The generator's first and the discriminator's last layer.

    CONVOLUTION: over the whole map, no bias (tutorial). DENSE: the same without weight sharing in the batch norm, which
    normalises every unit (authors). PLAIN_DENSE: with bias and PyTorch's initial weights (the report's modification).
    """

    CONVOLUTION = "convolution"
    DENSE = "dense"
    PLAIN_DENSE = "plain_dense"


class Downsampling(StrEnum):
    """How the discriminator halves a map. MAX_POOL: 3x3 convolution with stride 1, then 2x2 maxima."""

    STRIDES = "strides"
    MAX_POOL = "max_pool"


class Output(StrEnum):
    """The generator's last non-linearity."""

    TANH = "tanh"
    SIGMOID = "sigmoid"
    RELU = "relu"


class Pixels(StrEnum):
    """The range of the images: SIGNED [-1, 1], UNIT [0, 1]."""

    SIGNED = "signed"
    UNIT = "unit"


class LatentLaw(StrEnum):
    """NORMAL: N(0, 1). UNIFORM: U(-1, 1)."""

    NORMAL = "normal"
    UNIFORM = "uniform"


@dataclass(frozen=True)
class DCGANConfig:
    """Both networks. Stage n of the discriminator has base_width * 2**n channels and halves the map.

    Attributes:
      image_size: map_size * 2**stages, in pixels.
      image_channels: of the data.
      map_size: of the smallest map.
      base_width: channels of the first stage.
      layers_per_stage: convolutions; the last one halves the map.
      kernel: of every convolution but the ends.
      hidden: units of a dense layer at the ends, 0 = none.
      ends: the generator's first and the discriminator's last layer.
      downsampling: how the discriminator halves a map.
      slope: of the discriminator's leaky ReLU, 0 = ReLU.
      output: the generator's last non-linearity.
      pixels: range of the data, whatever the output's range.
      latent, latent_law: numbers of a latent, and their distribution.
      num_labels: classes of a conditional model, whose labels enter every layer; 0 = unconditional.
      batch_norm_affine: whether batch norms scale and shift.
      batch_norm_eps: added to the variance.
    """

    image_size: int = 64
    image_channels: int = 3
    map_size: int = 4
    base_width: int = 64
    layers_per_stage: int = 1
    kernel: int = 4
    hidden: int = 0
    ends: Ends = Ends.CONVOLUTION
    downsampling: Downsampling = Downsampling.STRIDES
    slope: float = 0.2
    output: Output = Output.TANH
    pixels: Pixels = Pixels.SIGNED
    latent: int = 100
    latent_law: LatentLaw = LatentLaw.NORMAL
    num_labels: int = 0
    batch_norm_affine: bool = True
    batch_norm_eps: float = 1e-5

    def __post_init__(self):
        for name in ("image_channels", "map_size", "base_width", "layers_per_stage", "latent", "batch_norm_eps"):
            check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("hidden", "num_labels", "slope"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must be 0 or more")
        check(
            self.num_stages > 0 and self.image_size == self.map_size * 2**self.num_stages,
            f"image_size is {self.image_size}; it must be map_size {self.map_size} times 2, 4, 8, …, "
            f"such as {self.map_size * 8}",
        )
        check(self.kernel in (3, 4, 5), f"kernel is {self.kernel}; it must be 3, 4 or 5")
        check(
            self.kernel != 4 or self.layers_per_stage == 1,
            "kernel is 4; layers that keep the size of the map (layers_per_stage above 1) need an odd one",
        )
        check(
            self.hidden == 0 or self.ends == Ends.DENSE,
            f"hidden is {self.hidden} and ends is {self.ends!s}; a hidden layer needs ends=dense",
        )

    @property
    def num_stages(self) -> int:
        return (self.image_size // self.map_size).bit_length() - 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, self.image_channels)

    @property
    def convolutions(self) -> tuple[tuple[int, int], ...]:
        """(channels, stride) of the discriminator's convolutions, without the last layer."""
        stages = [self.base_width * 2**n for n in range(self.num_stages)]
        return tuple((w, s) for w in stages for s in (*(1,) * (self.layers_per_stage - 1), 2))

    @property
    def transposed(self) -> tuple[tuple[int, int], ...]:
        """(channels, stride) of the generator's transposed convolutions, the output's included."""
        inputs = (self.image_channels, *(w for w, _ in self.convolutions[:-1]))
        return tuple((w, s) for w, (_, s) in zip(reversed(inputs), reversed(self.convolutions)))

    @property
    def widest(self) -> int:
        """Channels of the smallest map."""
        return self.convolutions[-1][0]


weights_init = nn.initializers.normal(WEIGHT_STD)


def scale_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    return 1 + WEIGHT_STD * jax.random.normal(key, shape, dtype)


def with_labels(x: jax.Array, labels: jax.Array | None, num_labels: int) -> jax.Array:
    """Returns x [B, ..., C] with the one-hot labels [B] as further channels; x itself without labels."""
    if not num_labels:
        return x
    one_hot = jax.nn.one_hot(labels, num_labels, dtype=x.dtype)
    maps = one_hot.reshape(len(x), *(1,) * (x.ndim - 2), num_labels)
    return jnp.concatenate([x, jnp.broadcast_to(maps, (*x.shape[:-1], num_labels))], axis=-1)


def batch_norm(config: DCGANConfig, momentum: float) -> nn.BatchNorm:
    """Over batch and map per channel, over the batch per unit after a dense layer; biased variance."""
    return nn.BatchNorm(
        momentum=momentum,
        epsilon=config.batch_norm_eps,
        use_scale=config.batch_norm_affine,
        use_bias=config.batch_norm_affine,
        scale_init=scale_init,
        use_fast_variance=False,  # the fast one cancels where a unit hardly varies, and eps may be 1e-8
    )


def transposed_padding(kernel: int, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the padding of the dilated input that multiplies a map's size by `stride`, PyTorch's p = (k - 1) // 2."""
    low = kernel - 1 - (kernel - 1) // 2
    return ((low, kernel + stride - 2 - low),) * 2


def dense_end(config: DCGANConfig, features: int, fan_in: int) -> nn.Dense:
    plain = config.ends == Ends.PLAIN_DENSE
    init = torch_uniform if plain else weights_init
    return nn.Dense(features, use_bias=plain, kernel_init=init, bias_init=torch_bias(fan_in))


class Generator(nn.Module):
    """Maps latents to images: dense or convolutional beginning, then transposed convolutions.

    Batch norm and ReLU follow every layer but the last. `momentum` is the share of the old running statistics that a
    training pass keeps: with 0 it leaves the statistics of its own batch.
    """

    config: DCGANConfig
    momentum: float = 0.9

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Returns float32 [B, H, W, C] in the output's range.

        Args:
          latents: float32 [B, latent].
          labels: int32 [B], for a conditional model.
          train: normalise by the batch, else by the running statistics.
        """
        c = self.config

        def normalised(x):
            return nn.relu(batch_norm(c, self.momentum)(x, use_running_average=not train))

        x = latents
        if c.hidden:
            dense = nn.Dense(c.hidden, use_bias=False, kernel_init=weights_init)
            x = normalised(dense(with_labels(x, labels, c.num_labels)))
        x = with_labels(x, labels, c.num_labels)
        map_shape = (len(x), c.map_size, c.map_size, c.widest)
        if c.ends == Ends.CONVOLUTION:
            pads = ((c.map_size - 1,) * 2,) * 2
            size = (c.map_size,) * 2
            first = ConvTranspose(c.widest, size, padding=pads, use_bias=False, kernel_init=weights_init)
            x = normalised(first(x[:, None, None]))
        else:
            x = dense_end(c, c.map_size**2 * c.widest, x.shape[-1])(x)
            x = normalised(x).reshape(map_shape) if c.ends == Ends.DENSE else normalised(x.reshape(map_shape))
        for i, (width, stride) in enumerate(c.transposed):
            layer = ConvTranspose(
                width,
                (c.kernel, c.kernel),
                stride,
                padding=transposed_padding(c.kernel, stride),
                use_bias=False,
                kernel_init=weights_init,
            )
            x = layer(with_labels(x, labels, c.num_labels))
            x = normalised(x) if i + 1 < len(c.transposed) else x
        output = {Output.TANH: jnp.tanh, Output.SIGMOID: nn.sigmoid, Output.RELU: nn.relu}[c.output]
        return output(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Maps images to logits of being real: strided convolutions, then one unit.

    Batch norm stands before every leaky ReLU but the first. `activation(x, slope)` may be another rectifier with the
    same values, for pictures of what the features see. `momentum` as in `Generator`.
    """

    config: DCGANConfig
    momentum: float = 0.9
    activation: Callable[[jax.Array, float], jax.Array] = nn.leaky_relu

    def setup(self):
        c = self.config
        pooled = c.downsampling == Downsampling.MAX_POOL
        kernel = 3 if pooled else c.kernel
        make = functools.partial(Conv, padding=(kernel - 1) // 2, use_bias=False, kernel_init=weights_init)
        self.convs = [make(w, (kernel, kernel), 1 if pooled else s) for w, s in c.convolutions]
        num_norms = len(c.convolutions) - 1 + (c.hidden > 0)
        self.norms = [batch_norm(c, self.momentum) for _ in range(num_norms)]
        if c.hidden:
            self.hidden = nn.Dense(c.hidden, use_bias=False, kernel_init=weights_init)
        if c.ends == Ends.CONVOLUTION:
            size = (c.map_size, c.map_size)
            self.last = Conv(1, size, padding="VALID", use_bias=False, kernel_init=weights_init)
        else:
            self.last = dense_end(c, 1, c.hidden or c.map_size**2 * c.widest)

    def features(self, images: jax.Array, labels: jax.Array | None = None, *, train: bool) -> tuple[jax.Array, ...]:
        """Returns the activations [B, H', W', C'] after every convolution; arguments as for a call."""
        c, x, found = self.config, images, []
        for i, (conv, (_, stride)) in enumerate(zip(self.convs, c.convolutions)):
            x = conv(with_labels(x, labels, c.num_labels))
            if c.downsampling == Downsampling.MAX_POOL and stride == 2:
                x = max_pool(x, (2, 2), (2, 2))
            x = self.norms[i - 1](x, use_running_average=not train) if i else x
            x = self.activation(x, c.slope)
            found.append(x)
        return tuple(found)

    def __call__(self, images: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Returns logits float32 [B]: the probability that an image is real is their sigmoid.

        Args:
          images: float32 [B, H, W, C] in the range of `config.pixels`.
          labels: int32 [B], for a conditional model.
          train: normalise by the batch, else by the running statistics.
        """
        c = self.config
        x = self.features(images, labels, train=train)[-1]
        if c.ends != Ends.CONVOLUTION:
            x = x.reshape(len(x), -1)
        if c.hidden:
            x = self.norms[-1](self.hidden(with_labels(x, labels, c.num_labels)), use_running_average=not train)
            x = self.activation(x, c.slope)
        x = self.last(with_labels(x, labels, c.num_labels))
        return x.reshape(len(x)).astype(jnp.float32)


def draw_latents(config: DCGANConfig, key: jax.Array, num: int) -> jax.Array:
    """Returns latents float32 [num, latent] from the prior."""
    shape = (num, config.latent)
    if config.latent_law == LatentLaw.UNIFORM:
        return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
    return jax.random.normal(key, shape)


def to_range(config: DCGANConfig, images: jax.Array) -> jax.Array:
    """Returns images [0, 255] as float32 in the data's range."""
    images = images.astype(jnp.float32)
    return images / 127.5 - 1 if config.pixels == Pixels.SIGNED else images / 255


def to_uint8(config: DCGANConfig, images: jax.Array) -> jax.Array:
    """Returns images in the data's range as uint8."""
    unit = (images + 1) / 2 if config.pixels == Pixels.SIGNED else images
    return jnp.round(jnp.clip(unit, 0, 1) * 255).astype(jnp.uint8)
