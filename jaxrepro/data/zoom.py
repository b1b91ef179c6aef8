"""Zooming about the centre by bicubic interpolation, as two small matrices per image: one code for host and device."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrepro.data.dataset import Column, Table
from jaxrepro.rng import generator

_CHUNK = 4096  # images at a time


def zoom_matrices(factors: Any, size: int, xp: Any = np) -> Any:
    """Returns what zooms one axis about its middle by bicubic interpolation: [N, size, size] for factors [N].

    An output pixel whose centre falls outside the image is 0; taps outside take the edge's value. Shrinking is not
    antialiased: always four taps, with the cubic of parameter -1 (as in the imaging library of the original code).

    Args:
      factors: above 1 enlarges.
      size: pixels of the axis.
      xp: numpy or jax.numpy.
    """
    pixel = xp.arange(size)
    position = (pixel + 0.5 - size / 2) / factors[:, None] + size / 2
    inside = (position >= 0) & (position < size)
    position = position - 0.5
    base = xp.floor(position)
    total = 0
    for tap in (-1, 0, 1, 2):
        source = xp.clip(base + tap, 0, size - 1)
        weight = inside * cubic(xp.abs(position - base - tap), xp)
        total = total + weight[..., None] * (source[..., None] == pixel)
    return total


def cubic(distance: Any, xp: Any, a: float = -1.0) -> Any:
    """Returns the weight of a tap at this distance in pixels, at least 0; `a` is the kernel's slope at distance 1."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return xp.where(distance <= 1, near, xp.where(distance < 2, far, 0))


def zoom_images(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns uint8 images [N, H, W, C] zoomed about their middle by factors [N], rounded and clipped."""
    zoomed = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows, columns = (zoom_matrices(factors[part].astype(np.float64), size) for size in images.shape[1:3])
        values = np.einsum("nih,nhwc->niwc", rows, images[part].astype(np.float64), optimize=True)
        values = np.einsum("njw,niwc->nijc", columns, values, optimize=True)
        zoomed[part] = np.clip(np.round(values), 0, 255)
    return zoomed


def zoomed_at_random(table: Table, bounds: Sequence[float], purpose: str) -> Table:
    """Returns a table whose images are zoomed once and for all, each by a factor uniform between two bounds.

    Factors are in the column "scale". They depend on the bounds, the purpose (such as the split) and the row alone.
    """
    factors = generator(0, f"zoom/{purpose}").uniform(*bounds, table.num_rows).astype(np.float32)

    def take(rows: np.ndarray) -> dict[str, np.ndarray]:
        found = table.take(rows)
        return {**found, "image": zoom_images(found["image"], factors[rows]), "scale": factors[rows]}

    columns = {**table.columns, "scale": Column((), np.dtype(np.float32))}
    name = f"{table.name} zoomed by {bounds[0]:g} to {bounds[1]:g}"
    return Table(name, table.num_rows, columns, take, table.classes, table.note)
