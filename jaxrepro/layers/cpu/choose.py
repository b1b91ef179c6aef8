"""Which strategy a convolution gets on CPU: the one that measured times promise to be the fastest.

    for_result(Geometry((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1))), 64, 128, 128, jnp.float32)     # Strategy.WINOGRAD

costs.csv holds milliseconds of every strategy on a set of shapes, measured on one machine;

    python benchmarks/conv_costs.py

measures them anew on another. Between measured shapes, the time per multiply-add is interpolated in the logarithms of
the number of taps, pixels, channels and images. A strategy whose intermediate results are estimated to be much larger
than the arrays of the convolution is not considered, unless it is the only one; nor is one that loses digits considered
for float64.
"""

import csv
import enum
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp

from jaxrepro.layers.cpu import patches, strided, winograd
from jaxrepro.layers.cpu.geometry import Geometry
from jaxrepro.layers.cpu.spectral import spectral_bytes

COSTS = Path(__file__).with_name("costs.csv")

# What a strategy may take on the way: this much, or this many times input, kernel and result.
FREE_BYTES = 256 << 20
MEMORY_FACTOR = 4

# What Winograd must save a call to be worth compiling its many sums (a few tenths of a second each, JAX_LOG_COMPILES=1
# shows them): a choice that repays itself after some thousand steps.
WINOGRAD_COMPILE_MS = 0.2

_NEIGHBOURS = 4  # measured shapes that an estimate rests on
_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 0.5)  # of the logarithms in the distance between shapes, see Case


class Strategy(enum.StrEnum):
    """How one map of a convolution is computed."""

    LAX = "lax"  # XLA's own forward convolution; of blocks of pixels for the input gradient of a strided one
    COLUMNS = "columns"  # matrix products of patches, or of patches transposed, a few images at a time
    WINOGRAD = "winograd"  # fewer multiplications, for two to four taps a side and stride
    SPECTRUM = "spectrum"  # products of Fourier coefficients, gradients included


class Task(enum.StrEnum):
    """What is computed: a correlation, the gradient of its input or kernel, or the correlation and both gradients.

    The gradient of the input is counted for strides alone; without any it is a correlation as well.
    """

    RESULT = "result"
    INPUT_GRADIENT = "input_gradient"
    KERNEL_GRADIENT = "kernel_gradient"
    TRAINING = "training"


class Case(NamedTuple):
    """What the time depends on: taps of the kernel, pixels of the result, channels and images; and the stride."""

    taps: int
    pixels: int
    num_in: int
    num_out: int
    batch: int
    strides: int

    @property
    def macs(self) -> int:
        return self.taps * self.pixels * self.num_in * self.num_out * self.batch


@functools.cache
def for_result(geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype) -> Strategy:
    """Returns how [B, H, W, num_in] is correlated to [B, H', W', num_out]."""
    if _is_product(geometry):
        return Strategy.COLUMNS
    return _fastest(Task.RESULT, geometry, batch, num_in, num_out, dtype)


@functools.cache
def for_input_gradient(geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype) -> Strategy:
    """Returns how the gradient of a strided correlation's input is computed."""
    if _is_product(geometry):
        return Strategy.COLUMNS
    return _fastest(Task.INPUT_GRADIENT, geometry, batch, num_in, num_out, dtype)


@functools.cache
def for_kernel_gradient(geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype) -> Strategy:
    """Returns how the gradient of the kernel is computed."""
    if _is_product(geometry):
        return Strategy.COLUMNS
    return _fastest(Task.KERNEL_GRADIENT, geometry, batch, num_in, num_out, dtype)


@functools.cache
def spectrum_pays(geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype) -> bool:
    """Whether products of spectra are expected to train faster than the fastest other maps, one by one."""
    shape = (batch, num_in, num_out)
    if Strategy.SPECTRUM not in allowed(Task.TRAINING, geometry, *shape, dtype):
        return False
    backward = _fastest_ms(Task.RESULT, geometry.mirrored, batch, num_out, num_in, dtype)
    others = sum(_fastest_ms(task, geometry, *shape, dtype) for task in (Task.RESULT, Task.KERNEL_GRADIENT)) + backward
    return expected_ms(Task.TRAINING, case_of(geometry, *shape)).get(Strategy.SPECTRUM, math.inf) < others


def expected_ms(task: Task, case: Case) -> dict[Strategy, float]:
    """Returns the expected time of every strategy that was measured for the task."""
    rows = [row for row in _costs(COSTS)[task] if _kind(row[0]) == _kind(case)]
    found = {}
    for strategy in Strategy:
        near = sorted((_distance(case, known), known.macs, ms[strategy]) for known, ms in rows if strategy in ms)
        near = near[:_NEIGHBOURS]
        if near:
            weights = [1 / (1e-3 + distance) for distance, _, _ in near]
            logs = [math.log(ms / macs) for _, macs, ms in near]
            mean = sum(w * value for w, value in zip(weights, logs)) / sum(weights)
            found[strategy] = case.macs * math.exp(mean)
    return found


def _fastest(task: Task, geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype) -> Strategy:
    ms = _expected_ms(task, geometry, batch, num_in, num_out, dtype)
    return min(ms, key=ms.get)


def _fastest_ms(task: Task, geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype) -> float:
    return min(_expected_ms(task, geometry, batch, num_in, num_out, dtype).values())


def _expected_ms(
    task: Task, geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype
) -> dict[Strategy, float]:
    """The expected time of every strategy that is allowed."""
    ms = expected_ms(task, case_of(geometry, batch, num_in, num_out))
    if Strategy.WINOGRAD in ms and winograd.applies(dense := _dense(geometry)):
        waste = winograd.waste(dense)  # the measured shapes have none
        ms[Strategy.WINOGRAD] = ms[Strategy.WINOGRAD] * waste + WINOGRAD_COMPILE_MS
    return {s: ms.get(s, math.inf) for s in allowed(task, geometry, batch, num_in, num_out, dtype)}


def allowed(task: Task, geometry: Geometry, batch: int, num_in: int, num_out: int, dtype: jnp.dtype) -> list[Strategy]:
    """The strategies that can do it, keep the precision of the dtype and stay within their memory."""
    unit, exact, dense = geometry.strides == (1, 1), not is_narrow(dtype), _dense(geometry)
    arrays = batch * (math.prod(geometry.size) * num_in + math.prod(geometry.out) * num_out)
    limit = max(FREE_BYTES, MEMORY_FACTOR * 4 * (arrays + geometry.num_taps * num_in * num_out))
    if task == Task.INPUT_GRADIENT:
        return [Strategy.LAX, Strategy.COLUMNS] if not unit else []  # patches come within patches.MOST_BYTES
    swapped = task == Task.KERNEL_GRADIENT and unit and num_out < num_in
    patches_of = (geometry.mirrored, num_out) if swapped else (geometry, num_in)
    sizes = {Strategy.LAX: 0, Strategy.COLUMNS: patches.extra_bytes(batch, *patches_of, jnp.dtype(dtype).itemsize)}
    if winograd.applies(dense) and not exact:
        block = num_in * math.prod(geometry.strides)
        sizes[Strategy.WINOGRAD] = winograd.extra_bytes(batch, dense, block, num_out) + 4 * arrays * (not unit)
    # Up to 3×3 taps the forms in space need no more multiplications than a spectrum with all its transforms.
    # A map of one pixel is a matrix product.
    large = geometry.num_taps > 9 and min(*geometry.size, *geometry.out) > 1 and batch * num_in * num_out > 0
    if unit and not exact and task != Task.KERNEL_GRADIENT and large:
        sizes[Strategy.SPECTRUM] = spectral_bytes(batch, geometry.size, max(geometry.kernel), num_in, num_out)
    if task == Task.KERNEL_GRADIENT and not unit:
        del sizes[Strategy.LAX]  # a dilated convolution, which XLA's fast CPU path cannot take
    simplest = next(iter(sizes))  # has to do where nothing else may
    return [strategy for strategy, size in sizes.items() if size <= limit or strategy == simplest]


def is_narrow(dtype: jnp.dtype) -> bool:
    """Returns whether float32 holds every number of a dtype; it does not hold complex ones."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize <= 4


def _is_product(geometry: Geometry) -> bool:
    """Whether patches are nothing but one matrix product: of a kernel, or a map, of one pixel."""
    return geometry.kernel == (1, 1) or geometry.size == (1, 1)


def _dense(geometry: Geometry) -> Geometry:
    return geometry if geometry.strides == (1, 1) else strided.blocks_of(geometry)


def case_of(geometry: Geometry, batch: int, num_in: int, num_out: int) -> Case:
    return Case(
        geometry.num_taps, max(math.prod(geometry.out), 1), num_in, num_out, max(batch, 1), max(geometry.strides)
    )


def _kind(case: Case) -> tuple[bool, bool]:
    """Shapes are compared with others of their kind: strided ones, dense 4×4 ones (of F(3×3, 4×4)), and all others."""
    return case.strides > 1, case.strides == 1 and case.taps == 16


def _distance(a: Case, b: Case) -> float:
    return sum((w * math.log2(max(x, 1) / max(y, 1))) ** 2 for w, x, y in zip(_WEIGHTS, a, b))


@functools.cache
def _costs(path: Path) -> Mapping[Task, list[tuple[Case, dict[Strategy, float]]]]:
    """The measured table: for every task, shapes and the milliseconds of the strategies that apply to them."""
    table = {task: [] for task in Task}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            case = Case(**{name: int(row[name]) for name in Case._fields})
            table[Task(row["task"])].append((case, {s: float(row[s]) for s in Strategy if row[s]}))
    return table
