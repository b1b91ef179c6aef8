"""Where colours come from: nothing, one colour, gradients, camouflage, photographs.

    Gradient(seed=3)
    Gradient(types=("linear",), random_color=Uniform(0.5, 1, size=3))     # no seed: a sampler draws one per use
    Camouflage(stroke_angle=0.0, stroke_width=0.1, stroke_length=0.6, stroke_noise=0.0)

A pattern is an immutable description. `source(resolution)` turns it into a cairo source in pixel coordinates, or into
None where it has no colour; the same pattern always gives the same source. Positions are drawn in a unit square
that is stretched over the image. Source: Synbols, section 3, and its code.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols.checks import number, whole
from jaxrepro.synbols.distributions import Uniform
from jaxrepro.synbols.rng import fast_bits
from jaxrepro.synbols.strokes import parallel_strokes

Color = tuple[float, float, float]
ColorSampler = Callable[[np.random.Generator], Color]  # a distribution of three numbers in [0, 1], or a function
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif")


class Pattern(Protocol):
    """A source of colour; the classes below are the patterns there are."""

    def source(self, resolution: tuple[int, int]) -> Any:
        """Returns a cairo pattern in pixel coordinates, or None: nothing is painted."""


uniform_color = Uniform(0.0, 1.0, size=3)


def color_sampler(brightness_range: tuple[float, float] = (0.0, 1.0)) -> Uniform:
    """Returns a sampler of colours whose three channels are uniform in the range."""
    low, high = brightness_range
    if not 0 <= low <= high <= 1:
        raise UserError(f"brightness_range is {brightness_range}; it must be two rising numbers in [0, 1]")
    return Uniform(low, high, size=3)


def checked_pattern(name: str, pattern: Any) -> Any:
    """Returns a pattern; anything else is a UserError, which calls it `name`."""
    if not callable(getattr(pattern, "source", None)) or isinstance(pattern, type):
        shown = pattern.__name__ if isinstance(pattern, type) else repr(pattern)
        raise UserError(f"{name} is {shown}, which is no pattern; it must be one, such as SolidColor((1, 0, 0))")
    return pattern


@dataclass(frozen=True)
class NoPattern:
    """No colour: a black background; a symbol that is left out."""

    def source(self, resolution: tuple[int, int]) -> None:
        return None


@dataclass(frozen=True)
class SolidColor:
    """One colour (red, green, blue), each 0 … 1."""

    color: Color = (1.0, 1.0, 1.0)

    def __post_init__(self):
        try:
            color = tuple(float(v) for v in self.color)
        except (TypeError, ValueError):
            color = ()
        if len(color) != 3 or not all(0 <= v <= 1 for v in color):
            raise UserError(f"color is {self.color!r}; it must be three numbers in [0, 1]")
        self.__dict__["color"] = color

    def source(self, resolution: tuple[int, int]) -> Any:
        import cairo

        return cairo.SolidPattern(*self.color)


@dataclass(frozen=True)
class Gradient:
    """A linear or radial gradient through three random colours.

    linear: from a uniform point into a uniform direction over a length N(1, 0.2), which may be tiny: a hard edge.
    radial: from a circle of radius 2 to one of radius 0.1, around two uniform points.

    Attributes:
      alpha: opacity of all three colours.
      types: drawn from with equal chances.
      seed: None: to be drawn by a sampler; such a pattern cannot be rendered.
    """

    seed: int | None = None
    alpha: float = 1.0
    types: tuple[str, ...] = ("radial", "linear")
    random_color: ColorSampler = uniform_color

    def __post_init__(self):
        _check_gradient(self.alpha, self.types)

    def source(self, resolution: tuple[int, int]) -> Any:
        return _gradient(seeded(self), self.alpha, self.types, self.random_color, resolution)


@dataclass(frozen=True)
class MultiGradient:
    """Several translucent gradients over each other. As a foreground too, which the original refuses."""

    seed: int | None = None
    alpha: float = 0.5
    n_gradients: int = 2
    types: tuple[str, ...] = ("radial", "linear")
    random_color: ColorSampler = uniform_color

    def __post_init__(self):
        _check_gradient(self.alpha, self.types)
        whole("n_gradients", self.n_gradients, 1)

    def source(self, resolution: tuple[int, int]) -> Any:
        import cairo

        rng = seeded(self)
        surface = cairo.ImageSurface(cairo.FORMAT_ARGB32, *resolution)
        context = cairo.Context(surface)
        for _ in range(self.n_gradients):
            context.set_source(_gradient(rng, self.alpha, self.types, self.random_color, resolution))
            context.paint()
        return cairo.SurfacePattern(surface)


@dataclass(frozen=True)
class Camouflage:
    """Many overlapping strokes of one direction, each of a random colour at opacity 0.8.

    Lengths are shares of the image's shorter side, the angle is in radians, clockwise on the screen.
    """

    seed: int | None = None
    stroke_length: float = 0.4
    stroke_width: float = 0.05
    stroke_angle: float = math.pi / 4
    stroke_noise: float = 0.02
    n_stroke: int = 500

    def __post_init__(self):
        for name in ("stroke_length", "stroke_width", "stroke_angle", "stroke_noise"):
            number(name, getattr(self, name), *((0.0,) if name != "stroke_angle" else ()))
        whole("n_stroke", self.n_stroke, 1)
        if not self.stroke_length or not self.stroke_width:
            raise UserError(f"{self}: stroke_length and stroke_width must be positive")

    def source(self, resolution: tuple[int, int]) -> Any:
        rng, unit, opacity = seeded(self), min(resolution), 0.8
        vector = self.stroke_length * np.array([math.cos(self.stroke_angle), math.sin(self.stroke_angle)])
        canvas = np.array(resolution) / unit
        start = (1.6 * rng.random((self.n_stroke, 2)) - 0.3) * (canvas - vector)
        stop = start + vector
        if self.stroke_noise:
            stop += self.stroke_noise * rng.standard_normal((self.n_stroke, 2))
        colors = rng.random((self.n_stroke, 3))
        return parallel_strokes(unit * start, unit * stop, unit * self.stroke_width, colors, opacity, resolution)


@dataclass(frozen=True)
class ImagePattern:
    """A random part of a random picture.

    Attributes:
      root: folder that is searched with all its subfolders; None: the two photographs that scikit-learn ships.
      rotation: radians; the picture is turned by `rotation` U(-1, 1). (The original's are degrees.)
      translation: and moved by this share of its size times U(-1, 1), per axis.
      crop: a random rectangle is cut out before resizing; its sides are min_crop_size of the picture's or more.
    """

    seed: int | None = None
    root: str | None = None
    rotation: float = 0.0
    translation: float = 0.0
    crop: bool = True
    min_crop_size: float = 0.2

    def __post_init__(self):
        number("rotation", self.rotation)
        number("translation", self.translation)
        if not 0 < number("min_crop_size", self.min_crop_size, 0.0, 1.0) < 1:
            raise UserError(f"min_crop_size is {self.min_crop_size:g}; it must be between 0 and 1")

    def source(self, resolution: tuple[int, int]) -> Any:
        import cairo
        from PIL import Image

        rng = seeded(self)
        files = picture_files(self.root)
        path = files[int(rng.random() * len(files))]
        picture = _picture(path)
        if self.rotation or self.translation:
            turn, move_x, move_y = rng.uniform(-1, 1, 3).tolist()
            move = (self.translation * picture.width * move_x, self.translation * picture.height * move_y)
            picture = picture.rotate(math.degrees(self.rotation * turn), translate=move)
        box = None
        if self.crop:
            least = [self._smallest(side) + 2 for side in picture.size]
            if least[0] > picture.width or least[1] > picture.height:
                raise UserError(
                    f"{path!r} is {picture.width}×{picture.height} pixels, too small to cut a part of "
                    f"min_crop_size={self.min_crop_size:g} out of it; remove it from the folder, or use crop=False"
                )
            (left, right), (top, bottom) = (self._interval(rng, side) for side in picture.size)
            box = (left, top, right, bottom)
        pixels = np.empty((resolution[1], resolution[0], 4), np.uint8)
        pixels[..., 2::-1] = np.asarray(picture.resize(resolution, Image.Resampling.BICUBIC, box))
        return cairo.SurfacePattern(cairo.ImageSurface.create_for_data(pixels, cairo.FORMAT_RGB24, *resolution))

    def _interval(self, rng: np.random.Generator, side: int) -> tuple[int, int]:
        smallest = self._smallest(side)
        end = int(rng.integers(smallest + 1, side))
        return int(rng.integers(0, end - smallest)), end

    def _smallest(self, side: int) -> int:
        return max(1, int(self.min_crop_size * side))


def seeded(pattern: Any) -> np.random.Generator:
    """Returns the pattern's own generator, always at its beginning; a pattern without seed is a UserError."""
    if pattern.seed is None:
        raise UserError(f"{type(pattern).__name__} has no seed; give it one, or let attribute_sampler draw it")
    if not isinstance(pattern.seed, int | np.integer) or not 0 <= pattern.seed < 2**64:
        raise UserError(
            f"{type(pattern).__name__} has the seed {pattern.seed!r}; it must be a whole number, 0 to 2**64 - 1"
        )
    return np.random.Generator(fast_bits(pattern.seed))


@functools.cache
def picture_files(root: str | None) -> tuple[str, ...]:
    """Returns the paths of all pictures under a folder, sorted; None: those that come with scikit-learn.

    Raises:
      UserError: no such folder, or no picture in it.
    """
    if root is None:
        import importlib.util

        spec = importlib.util.find_spec("sklearn")
        if spec is None or spec.origin is None:
            raise UserError(
                "ImagePattern needs pictures: give a folder (root=… or --pictures=…), or pip install scikit-learn"
            )
        root = str(Path(spec.origin).parent / "datasets" / "images")
    found = sorted(p for p in Path(root).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"no pictures ({' '.join(IMAGE_SUFFIXES)}) under {root!r}; ImagePattern needs one or more")
    return tuple(str(p) for p in found)


@functools.lru_cache(maxsize=64)
def _picture(path: str) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode == "F":
                raise UserError(f"{path!r} holds floating-point numbers; save it with 8 or 16 bits")
            if picture.mode.startswith("I"):  # 16 bits; Pillow would cut off what exceeds 255
                return _of_16_bits(np.asarray(picture), path)
            return picture.convert("RGB")
    except OSError as error:
        raise UserError(f"{path!r} is no readable picture ({error}); remove it from the folder") from error


def _of_16_bits(levels: np.ndarray, path: str) -> Any:
    """Returns gray levels 0 … 65535 as a picture of 8 bits: 65535 is 255."""
    from PIL import Image

    if levels.min() < 0 or levels.max() > 65535:
        raise UserError(f"{path!r} holds numbers outside 0 … 65535; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8)).convert("RGB")


def forget_pictures() -> None:
    """Forgets which pictures there are and what they show, as they may have been replaced since they were read."""
    picture_files.cache_clear()
    _picture.cache_clear()


def _check_gradient(alpha: float, types: tuple[str, ...]) -> None:
    if not isinstance(types, tuple | list):
        raise UserError(f'types is {types!r}; it must be a tuple of "radial" and "linear", such as ("linear",)')
    for kind in types or ("",):
        if kind not in ("radial", "linear"):
            raise unknown("type of gradient", kind, ("radial", "linear"))
    number("alpha", alpha, 0.0, 1.0)


def _gradient(rng: np.random.Generator, alpha: float, types, random_color: ColorSampler, resolution) -> Any:
    """Draws type, geometry, then the colours at 1, 0.5 and 0, in the original's order."""
    import cairo

    kind, x1, y1, u, v = rng.random(5).tolist()
    if types[int(kind * len(types))] == "radial":
        gradient = cairo.RadialGradient(x1, y1, 2.0, u, v, 0.1)
    else:
        angle, length = 2 * math.pi * u, 1 + 0.2 * rng.standard_normal()
        gradient = cairo.LinearGradient(x1, y1, x1 + length * math.cos(angle), y1 + length * math.sin(angle))
    for offset in (1.0, 0.5, 0.0):
        gradient.add_color_stop_rgba(offset, *random_color(rng), alpha)
    gradient.set_extend(cairo.EXTEND_PAD)
    gradient.set_matrix(cairo.Matrix(1 / resolution[0], 0, 0, 1 / resolution[1]))
    return gradient
