"""The five networks of Synbols' table 4, by the names of its rows.

network = make_network(RepresentationConfig("HVAE (2 level) ResNet"), image_shape=(32, 32, 3))
"""

from dataclasses import dataclass
from enum import StrEnum

import flax.linen as nn

from jaxrepro.errors import check
from jaxrepro.models import hvae, infomax, residual_encoder
from jaxrepro.models.dcgan import scale_init, weights_init
from jaxrepro.models.hvae import HVAE, Decoder
from jaxrepro.models.infomax import DeepInfoMax, InfoMaxEncoder
from jaxrepro.models.residual_encoder import ResidualEncoder

CODE = 64


class Representation(StrEnum):
    """The rows of the table."""

    DEEP_INFOMAX = "Deep InfoMax"
    VAE = "VAE"
    HVAE = "HVAE (2 level)"
    VAE_RESNET = "VAE ResNet"
    HVAE_RESNET = "HVAE (2 level) ResNet"


@dataclass(frozen=True)
class RepresentationConfig:
    """One network.

    Attributes:
      name: a row of the table.
      width: of all layers but the codes, 1 as published.
      codes: numbers of the code, and of the lower level where there is one; the paper's text has (32, 32).
      encoder_blocks: blocks of the residual encoder's groups; the paper's text has (1, 1, 1).
    """

    name: Representation = Representation.VAE
    width: float = 1.0
    codes: tuple[int, ...] = (CODE, CODE)
    encoder_blocks: tuple[int, ...] = residual_encoder.BLOCKS

    def __post_init__(self):
        check(0 < self.width <= 4, f"width is {self.width}; it must be positive and at most 4, 1 as published")
        check(
            len(self.codes) == 2 and min(self.codes) > 0, f"codes is {self.codes}; write (64,64), the top level first"
        )
        check(
            len(self.encoder_blocks) == 3 and min(self.encoder_blocks) > 0,
            f"encoder_blocks is {self.encoder_blocks}; write a number for each of three groups, such as (2,1,2)",
        )

    @property
    def is_autoencoder(self) -> bool:
        return self.name != Representation.DEEP_INFOMAX

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of the code of every level."""
        two = self.name in (Representation.HVAE, Representation.HVAE_RESNET)
        return self.codes if two else self.codes[:1]

    @property
    def network(self) -> str:
        """In words, for the facts of a record: "published" or what differs."""
        found = [f"of {self.width:g} times the width"] if self.width != 1 else []
        found += [f"with codes of {self.levels}"] if self.levels != (CODE,) * len(self.levels) else []
        residual = self.name in (Representation.VAE_RESNET, Representation.HVAE_RESNET)
        if residual and self.encoder_blocks != residual_encoder.BLOCKS:
            found.append(f"with {self.encoder_blocks} blocks")
        return ", ".join(found) or "published"


def check_images(config: RepresentationConfig, image_shape: tuple[int, ...]) -> None:
    """Raises UserError for images that the networks cannot take."""
    side, width = image_shape[:2]
    residual = config.name in (Representation.VAE_RESNET, Representation.HVAE_RESNET)
    least = 8 if residual else 16
    check(
        side == width and side >= least and side % 8 == 0,
        f"images are {side}×{width} pixels; {config.name} needs squares of a multiple of 8, at least {least}",
    )


def make_network(config: RepresentationConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    """Returns the network for square images, (height, width, channels)."""

    def scaled(widths):
        return tuple(max(1, round(config.width * w)) for w in widths)

    channels = scaled(infomax.CHANNELS)
    if not config.is_autoencoder:
        return DeepInfoMax(
            InfoMaxEncoder(config.codes[0], channels), *scaled((512,)), scaled((64, 32)), scaled((1000, 200))
        )
    if config.name in (Representation.VAE, Representation.HVAE):
        encoder = InfoMaxEncoder(2 * config.codes[0], channels, weights_init, scale_init)
    else:
        channels = scaled(residual_encoder.WIDTHS)
        hidden = scaled((residual_encoder.HIDDEN,))
        encoder = ResidualEncoder(2 * config.codes[0], channels, config.encoder_blocks, *hidden)
    low_width = scaled((hvae.LOW_WIDTH,))
    decoder = Decoder(channels[-1], scaled(hvae.WIDTHS), *low_width, image_shape[0], image_shape[2])
    return HVAE(encoder, decoder, config.levels, isinstance(encoder, ResidualEncoder))
