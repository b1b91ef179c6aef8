"""Filters that scale exactly: products of Hermite polynomials and Gaussians, analytic in their width.

    basis = SteerableBasis(15, geometric_scales(1.7, 3.0, 4), multi_level_functions(49, 1.5))
    filters(basis)      # one constant [49, k, k] per scale, k = 5, 7, 11, 15

With a for rows and b for columns, counted from the centre, a function of width sigma and orders (n, m) is

    psi(a, b) = g(a) He_n(a / sigma) g(b) He_m(b / sigma),    g(a) = exp(-a^2 / (2 sigma^2)) / sigma

with the probabilists' Hermite polynomials He (Sosnovik et al. 2020, section 5; released code for the rest).
Since psi_{s sigma}(x) = psi_sigma(x / s) / s^2, a filter combined from these functions with weights that do
not depend on sigma is enlarged by enlarging sigma, and nothing is ever resampled. What is exact ends at the
sampling grid and at the support: the Gaussian is cut off at `supports`, which is what limits equivariance.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxrepro.errors import check


class HermiteFunction(NamedTuple):
    """One function of a basis at every scale: its width is the scale over `divisor`, its orders are (row, column)."""

    divisor: float
    row: int
    column: int


@dataclass(frozen=True)
class SteerableBasis:
    """What determines the filters of a scale-equivariant layer; small and hashable.

    kernel_size: odd size of the largest filter, in pixels; one side of every filter after zero padding.
    scales: widths sigma in pixels, ascending; one scale channel each.
    functions: what is evaluated at every scale, in the order of the trained weights.

    Raises:
      UserError: kernel_size is even, scales are not positive and ascending, there are no functions, or the smallest
        scale's filters have a single pixel, on which functions of odd order vanish.
    """

    kernel_size: int
    scales: tuple[float, ...]
    functions: tuple[HermiteFunction, ...]

    def __post_init__(self):
        for name in ("scales", "functions"):  # lists and arrays are welcome, but do not hash
            object.__setattr__(self, name, tuple(getattr(self, name)))
        usable = self.kernel_size > 0 and self.kernel_size % 2 == 1
        check(usable, f"kernel_size is {self.kernel_size}; it must be odd and positive")
        check(bool(self.functions), "functions is (); take some, such as single_level_functions(3)")
        rising = all(low < high for low, high in zip((0, *self.scales), self.scales))
        check(bool(self.scales) and rising, f"scales are {self.scales}; they must be positive and ascending")
        odd = any(f.row % 2 or f.column % 2 for f in self.functions)
        needed = math.ceil(2 * self.scales[-1] / self.scales[0]) | 1
        check(
            self.supports[0] > 1 or not odd,
            f"kernel_size is {self.kernel_size}, which leaves one pixel for the smallest of the scales {self.scales}; "
            f"it must be at least {needed} for them",
        )

    @property
    def num_scales(self) -> int:
        return len(self.scales)

    @property
    def num_functions(self) -> int:
        return len(self.functions)

    @property
    def supports(self) -> tuple[int, ...]:
        """The odd size at which the filters of each scale are cut off."""
        largest = self.scales[-1]
        return tuple(2 * (int(self.kernel_size * sigma / largest) // 2) + 1 for sigma in self.scales)


def geometric_scales(smallest: float, factor: float, num_scales: int, decimals: int | None = 2) -> tuple[float, ...]:
    """Widths from `smallest` to `smallest * factor`, each the same multiple of the one before.

    The released MNIST networks round them to two decimals, the STL-10 networks (decimals=None) do not.
    """
    scales = [smallest * factor ** (j / max(num_scales - 1, 1)) for j in range(num_scales)]
    return tuple(scales if decimals is None else [round(s, decimals) for s in scales])


def single_level_functions(effective_size: int) -> tuple[HermiteFunction, ...]:
    """Family A: every pair of orders below `effective_size`, row orders fastest."""
    orders = range(effective_size)
    return tuple(HermiteFunction(1.0, row, column) for column in orders for row in orders)


def multi_level_functions(num_functions: int, divisor: float, max_order: int = 4) -> tuple[HermiteFunction, ...]:
    """Family B: total order at most `max_order`, repeated at widths sigma, sigma / divisor, sigma / divisor^2, ...

    The last level keeps only what is left of `num_functions`. For small supports the functions are linearly
    dependent (49 of them have rank 25 on 5x5 pixels); the weights are then redundant, not wrong.
    """
    orders = [(row, column) for column in range(max_order + 1) for row in range(max_order + 1 - column)]
    levels = -(-num_functions // len(orders))
    every = [HermiteFunction(divisor**level, row, column) for level in range(levels) for row, column in orders]
    return tuple(every[:num_functions])


@functools.cache
def filters(basis: SteerableBasis) -> tuple[np.ndarray, ...]:
    """Evaluates a basis, divided by the norm that each function has at the smallest scale.

    Returns:
      For each scale float64 [num_functions, k, k] with k its support: unit norms at the first scale, and at the
      others whatever keeps psi_{s sigma}(x) = psi_sigma(x / s) / s^2. Read-only.

    Raises:
      UserError: widths so small that a function is zero on the whole grid.
    """
    raw = []
    for sigma, support in zip(basis.scales, basis.supports):
        radius = support // 2
        rows = [_hermite(f.row, sigma / f.divisor, radius) for f in basis.functions]
        columns = [_hermite(f.column, sigma / f.divisor, radius) for f in basis.functions]
        raw.append(np.einsum("ia,ib->iab", rows, columns))
    norms = np.sqrt(np.sum(raw[0] ** 2, axis=(1, 2), keepdims=True))
    check(
        bool(norms.all()),
        f"scales are {basis.scales}, in pixels; a function of the smallest one is zero at every pixel: take larger",
    )
    result = tuple(values / norms for values in raw)
    for values in result:
        values.setflags(write=False)
    return result


def padded_filters(basis: SteerableBasis) -> np.ndarray:
    """All of `filters` with zeros around them: float64 [num_functions, num_scales, kernel_size, kernel_size]."""
    margins = [(basis.kernel_size - k) // 2 for k in basis.supports]
    padded = [np.pad(values, ((0, 0), (m, m), (m, m))) for values, m in zip(filters(basis), margins)]
    return np.stack(padded, axis=1)


def _hermite(order: int, sigma: float, radius: int) -> np.ndarray:
    """g(a) He_order(a / sigma) at a = -radius..radius."""
    a = np.arange(-radius, radius + 1) / sigma
    polynomial = np.polynomial.hermite_e.hermeval(a, [0] * order + [1])
    return np.exp(-(a**2) / 2) / sigma * polynomial
