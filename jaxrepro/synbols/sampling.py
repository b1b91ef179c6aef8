"""One draw of a sampler: the random numbers of a sample, and its image."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.symbols import Image

_LARGEST_SEED = 2**63 - 1


def generator(seed: int, i: int) -> np.random.Generator:
    """Returns the random numbers of sample i.

    They do not depend on the dataset: with equal seeds, sample i of two datasets is drawn from the same numbers, so
    that non-camou-bw and non-camou-shade show the same letters and can be compared pairwise. Datasets that must be
    independent, such as one to train on and another to test, need different seeds.
    """
    return np.random.Generator(np.random.Philox(key=[seed, i]))


def checked_seed(seed: Any) -> int:
    """Returns a seed as Python's integer; UserError if it is none."""
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed <= _LARGEST_SEED:
        return int(seed)
    raise UserError(f"seed={seed!r}; it must be 0 to 2**63 - 1, a whole number")


def image_of(sampler: Callable, rng: np.random.Generator) -> Image:
    """Returns a draw of a sampler; UserError if it is no image."""
    if not callable(sampler):
        raise UserError(f"sampler is {sampler!r}; it must be one, such as attribute_sampler(…)")
    image = sampler(rng)
    if not isinstance(image, Image):
        raise UserError(f"the sampler gave {image!r}; it must give an Image, as attribute_sampler(…)(rng) does")
    return image
