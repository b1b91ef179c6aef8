"""Labelled pictures as the STL-10 protocol takes them: a size, a fixed zoom, augmentation on the device, normalisation.

    tables = load_pictures("folder:pictures.zip", {"train": "train", "test": "test"}, config)
    batch = prepare(config, augment, images, key)        # inside jit; without a key for the test

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), section 6.2 and the released code: crop and flip
before normalisation, so that borders are black, cutout behind it, so that the square has the mean colour.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxrepro.data import augment as ops
from jaxrepro.data.classes import labelled_splits
from jaxrepro.data.dataset import Table
from jaxrepro.data.zoom import zoomed_at_random
from jaxrepro.errors import check


@dataclass(frozen=True)
class PicturesConfig:
    """What is predicted, from which images.

    Attributes:
      column: of the paper's table; it names the results.
      label: column of the data that is predicted.
      num_classes: the published number, for --mode=print; a run has as many outputs as its data has classes.
      image_size: images of another side are resized to it, bilinear.
      zoom: lowest and highest factor by which every image, of training and test, is zoomed once and for all; () = none.
      mean, std: of the channels of pixels in [0, 1], by which they are normalised; one number each for grey images.
    """

    column: str = "STL-10"
    label: str = "label"
    num_classes: int = 10
    image_size: int = 96
    zoom: tuple[float, ...] = ()
    mean: tuple[float, ...] = (0.4467, 0.4398, 0.4066)
    std: tuple[float, ...] = (0.2603, 0.2566, 0.2713)

    def __post_init__(self):
        check(self.image_size >= 8, f"image_size is {self.image_size}; it must be at least 8")
        usable = len(self.zoom) == 0 or (len(self.zoom) == 2 and 0 < self.zoom[0] <= self.zoom[1])
        check(usable, f"zoom is {self.zoom}; write () or (0.4,1.0)")
        same = len(self.mean) == len(self.std) and len(self.mean) in (1, 3)
        check(same, f"mean is {self.mean} and std {self.std}; give one number each, or three")
        check(all(s > 0 for s in self.std), f"std is {self.std}; every number must be positive")


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to training images, on the device, anew in every epoch.

    Attributes:
      padding: black pixels on every side before a random crop of the old size; 0 = no crop.
      flip: half of the images, left to right.
      cutout: side in pixels of the square that is set to the mean colour, cut off at the border; 0 = none.
    """

    padding: int = 12
    flip: bool = True
    cutout: int = 32

    def __post_init__(self):
        for name in ("padding", "cutout"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must be 0 or more")


def load_pictures(
    source: str, splits: Mapping[str, str], config: PicturesConfig, *, smoke_command: str = ""
) -> dict[str, Table]:
    """Returns name -> table with "image" uint8 [H, W, C] and the column that is predicted, not zoomed.

    Raises:
      UserError: the data lacks the column, or its images have other channels than the config's mean.
    """
    tables = labelled_splits(source, splits, config.label, smoke_command=smoke_command)
    known = len(config.mean)
    for table in tables.values():
        channels = table.columns["image"].shape[-1]
        check(channels == known, f"{table.name} has {channels} channels; config.task.mean and std have {known}")
    return tables


def at_random_scales(table: Table, config: PicturesConfig, split: str) -> Table:
    """Returns the table with every image zoomed as the config says; the table itself where it says nothing."""
    return zoomed_at_random(table, config.zoom, split) if config.zoom else table


def prepare(
    config: PicturesConfig, augment: AugmentConfig, images: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """Returns uint8 images [B, H, W, C] normalised to float32 [B, size, size, C]; with a key those of training."""
    pixels, size, training = images.astype(jnp.float32) / 255, config.image_size, key is not None
    if pixels.shape[1:3] != (size, size):
        pixels = ops.resize(pixels, size)
    crop_key, flip_key, cutout_key = jax.random.split(key, 3) if training else (None,) * 3
    if training and augment.padding:
        pixels = ops.random_crop(crop_key, pixels, size, augment.padding)
    if training and augment.flip:
        pixels = ops.random_flip(flip_key, pixels)
    pixels = (pixels - jnp.array(config.mean)) / jnp.array(config.std)
    return ops.random_cutout(cutout_key, pixels, augment.cutout) if training and augment.cutout else pixels
