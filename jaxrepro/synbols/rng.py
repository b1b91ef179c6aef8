"""Random bits for what a single integer seeds, made in a microsecond.

An image needs a generator for each pattern and for its noise. NumPy's `SeedSequence` would take a tenth of the time
of a small image to spread each seed; a multiplication and the twelve rounds that SFC64 runs first do as well here.
"""

import numpy as np
from numpy.random.bit_generator import ISeedSequence

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: neighbouring seeds land far apart


class _Spread(ISeedSequence):
    def __init__(self, seed: int):
        self.seed = seed

    def generate_state(self, n_words, dtype=np.uint32):
        return np.array((self.seed * _GOLDEN & 0xFFFFFFFFFFFFFFFF, self.seed, 1), np.uint64)


def fast_bits(seed: int) -> np.random.SFC64:
    """Returns the bit generator of a seed, 0 … 2**64 - 1."""
    return np.random.SFC64(_Spread(seed))
