"""The static shape of a two-dimensional convolution."""

import math
from typing import NamedTuple

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


class Geometry(NamedTuple):
    """Sizes are (height, width), pads ((top, bottom), (left, right))."""

    size: Pair
    kernel: Pair
    strides: Pair
    pads: Pads

    @property
    def out(self) -> Pair:
        """Height and width of the result."""
        return tuple((n + sum(p) - k) // s + 1 for n, k, s, p in zip(self.size, self.kernel, self.strides, self.pads))

    @property
    def num_taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def mirrored(self) -> "Geometry":
        """With unit strides, of the correlation of a map of size `out` with the flipped kernel, back to `size`."""
        pads = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(self.kernel, self.pads))
        return self._replace(size=self.out, pads=pads)
