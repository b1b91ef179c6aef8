"""One draw of a sampler: the random numbers of a sample, and its image."""

from collections.abc import Callable

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.symbols import Image


def generator(seed: int, i: int) -> np.random.Generator:
    """Returns the random numbers of sample i.

    They do not depend on the dataset: with equal seeds, sample i of two datasets is drawn from the same numbers, so
    that non-camou-bw and non-camou-shade show the same letters and can be compared pairwise. Datasets that must be
    independent, such as one to train on and another to test, need different seeds.
    """
    return np.random.Generator(np.random.Philox(key=[seed, i]))


def image_of(sampler: Callable, rng: np.random.Generator) -> Image:
    """Returns a draw of a sampler; UserError if it is no image."""
    image = sampler(rng)
    if not isinstance(image, Image):
        raise UserError(f"the sampler gave {image!r}; it must give an Image, as attribute_sampler(…)(rng) does")
    return image
