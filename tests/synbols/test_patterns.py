"""Colours against formulas evaluated in NumPy, and what a pattern refuses."""

import dataclasses
import json
import math

import cairo
import numpy as np
import pytest
from PIL import Image as Picture
from rasteriser import gradient

from jaxrepro.errors import UserError
from jaxrepro.synbols.patterns import (
    Camouflage,
    Gradient,
    ImagePattern,
    MultiGradient,
    NoPattern,
    SolidColor,
    color_sampler,
)
from jaxrepro.synbols.strokes import _drawn, parallel_strokes
from jaxrepro.synbols.symbols import pattern_attributes


def painted(source, resolution=(32, 32)) -> np.ndarray:
    """Returns what a source paints on nothing: float [H, W, 4], premultiplied red, green, blue, alpha in 0 … 255."""
    surface = cairo.ImageSurface(cairo.FORMAT_ARGB32, *resolution)
    context = cairo.Context(surface)
    context.set_source(source)
    context.paint()
    surface.flush()
    return np.ndarray((resolution[1], resolution[0], 4), np.uint8, surface.get_data())[..., [2, 1, 0, 3]].astype(float)


@pytest.mark.parametrize("resolution", [(32, 32), (48, 20)])
@pytest.mark.parametrize("kind", ["linear", "radial"])
def test_gradients_follow_the_formulas(kind, resolution):
    sharpest = []
    for seed in range(40):
        source = Gradient(seed, types=(kind,)).source(resolution)
        error = np.abs(painted(source, resolution) - 255 * gradient(source, resolution)).max(axis=(0, 1, 2))
        sharpest.append(error)
    assert np.median(sharpest) < 1.1
    assert np.mean(np.array(sharpest) > 2) < 0.1  # a hard edge may fall on pixel centres


def test_gradients_have_the_distribution_of_the_release():
    sources = [Gradient(seed).source((1, 1)) for seed in range(2000)]
    linear = np.array([s.get_linear_points() for s in sources if isinstance(s, cairo.LinearGradient)])
    radial = np.array([s.get_radial_circles() for s in sources if isinstance(s, cairo.RadialGradient)])
    assert len(linear) == pytest.approx(1000, abs=80)
    length = np.hypot(*(linear[:, 2:] - linear[:, :2]).T)
    assert length.mean() == pytest.approx(1, abs=0.03)
    assert length.std() == pytest.approx(0.2, abs=0.02)
    angle = np.arctan2(*(linear[:, 2:] - linear[:, :2]).T)
    assert abs(np.exp(1j * angle).mean()) < 0.08
    assert (radial[:, 2] == 2).all()
    assert radial[:, 5] == pytest.approx(0.1)
    uniform = np.concatenate([linear[:, :2].ravel(), radial[:, [0, 1, 3, 4]].ravel()])
    colors = np.array([s.get_color_stops_rgba() for s in sources])
    for values in (uniform, colors[..., 1:4]):
        assert np.quantile(values, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.03)
    assert (np.sort(colors[..., 0]) == [0, 0.5, 1]).all()
    assert (colors[..., 4] == 1).all()


def test_multi_gradient_is_gradients_over_each_other():
    pattern = MultiGradient(3, alpha=0.5)
    first, second = (painted(_nth_gradient(pattern, n)) for n in (0, 1))
    # a c2 + (1 - a) a c1; what is painted is premultiplied already
    assert painted(pattern.source((32, 32))) == pytest.approx(second + 0.5 * first, abs=1.6)
    assert painted(pattern.source((32, 32)))[..., 3] == pytest.approx(255 * 0.75, abs=1.1)


def _nth_gradient(pattern, n):
    from jaxrepro.synbols import patterns

    rng = patterns.seeded(pattern)
    for _ in range(n + 1):
        source = patterns._gradient(rng, pattern.alpha, pattern.types, pattern.random_color, (32, 32))
    return source


def test_color_sampler_keeps_to_its_range():
    rng = np.random.default_rng(0)
    colors = np.array([color_sampler((0.2, 0.4))(rng) for _ in range(300)])
    assert colors.shape == (300, 3)
    assert colors.min() == pytest.approx(0.2, abs=0.01)
    assert colors.max() == pytest.approx(0.4, abs=0.01)
    stops = np.array(Gradient(0, random_color=color_sampler((0.2, 0.4))).source((8, 8)).get_color_stops_rgba())
    assert ((stops[:, 1:4] >= 0.2) & (stops[:, 1:4] <= 0.4)).all()


def test_solid_color_and_no_pattern():
    assert (painted(SolidColor((1, 0, 0.2)).source((4, 4))) == [255, 0, 51, 255]).all()
    assert NoPattern().source((4, 4)) is None


@pytest.mark.parametrize("pattern", [Gradient(5), MultiGradient(5), Camouflage(5), ImagePattern(5)])
def test_a_seed_is_a_picture(pattern):
    one, again = (painted(pattern.source((16, 24)), (16, 24)) for _ in range(2))
    other = painted(dataclasses.replace(pattern, seed=6).source((16, 24)), (16, 24))
    assert (one == again).all()
    assert (one != other).any()


def strokes_by_hand(start, stop, width, colors, opacity, resolution) -> np.ndarray:
    """Returns premultiplied [H, W, 4] of axis-parallel strokes, one after another, exact areas, no rounding."""
    columns, rows = np.arange(resolution[0]), np.arange(resolution[1])
    out = np.zeros((resolution[1], resolution[0], 4))
    for (x1, y1), (x2, y2), color in zip(start, stop, colors):
        grow = width / 2 * np.array([y1 != y2, x1 != x2])
        low, high = np.minimum([x1, y1], [x2, y2]) - grow, np.maximum([x1, y1], [x2, y2]) + grow
        overlap = [
            np.clip(np.minimum(p + 1, b) - np.maximum(p, a), 0, 1) for p, a, b in zip((columns, rows), low, high)
        ]
        alpha = opacity * np.outer(overlap[1], overlap[0])[..., None]
        out = out * (1 - alpha) + alpha * np.append(color, 1)
    return 255 * out


@pytest.mark.parametrize(
    ("resolution", "vector"), [((32, 32), (19.2, 0)), ((24, 50), (0, 14)), ((50, 70), (-9.5, 0)), ((40, 30), (0, -0.4))]
)
def test_strokes_along_an_axis_are_exact_and_as_cairo_draws_them(resolution, vector):
    rng = np.random.default_rng(0)
    start = rng.uniform(-10, 60, (300, 2))
    arguments = (start, start + vector, 3.3, rng.random((300, 3)), 0.8, resolution)
    ours = painted(parallel_strokes(*arguments), resolution)
    assert ours == pytest.approx(strokes_by_hand(*arguments), abs=0.75)
    by_cairo = painted(cairo.SurfacePattern(_drawn(*arguments)), resolution)
    assert np.abs(ours - by_cairo).max() <= 3
    assert np.abs((ours - by_cairo).mean()) < 0.3


def test_strokes_are_summed_without_rounding_so_that_the_order_does_not_matter(monkeypatch):
    product, calls = np.matmul, []

    def checked(a, b):
        calls.append(a.dtype)
        assert (product(a, b) == product(a.astype(np.float64), b.astype(np.float64))).all()
        return product(a, b)

    monkeypatch.setattr(np, "matmul", checked)
    rng = np.random.default_rng(1)
    start = rng.uniform(-10, 40, (400, 2))
    parallel_strokes(start, start + np.array([15.3, 0]), 3.3, rng.random((400, 3)), 0.8, (32, 32))
    assert calls == [np.float32]


def test_strokes_that_miss_the_image_leave_it_empty():
    nowhere = np.array([[-50.0, -50.0]])
    source = parallel_strokes(nowhere, nowhere + np.array([20, 0]), 3.0, np.ones((1, 3)), 0.8, (16, 16))
    assert not painted(source, (16, 16)).any()


def roughness(pixels: np.ndarray, angle: float) -> float:
    """Returns the mean change of a step of 3 pixels in a direction."""
    x, y = round(3 * math.cos(angle)), round(3 * math.sin(angle))
    return np.abs(pixels[max(y, 0) :, max(x, 0) :] - pixels[: 64 - max(y, 0), : 64 - max(x, 0)]).mean()


@pytest.mark.parametrize("angle", [0.0, math.pi / 4, math.pi / 2])
def test_camouflage_runs_along_its_angle(angle):
    pattern = Camouflage(1, stroke_angle=angle, stroke_length=0.6, stroke_width=0.1, stroke_noise=0)
    pixels = painted(pattern.source((64, 64)), (64, 64))[..., :3]
    others = [a for a in (0.0, math.pi / 4, math.pi / 2) if a != angle]
    assert all(roughness(pixels, angle) < 0.7 * roughness(pixels, other) for other in others)


def test_camouflage_covers_the_image_with_uniform_colours():
    pattern = Camouflage(stroke_angle=0.0, stroke_width=0.1, stroke_length=0.6, stroke_noise=0.0)
    pixels = np.stack([painted(dataclasses.replace(pattern, seed=s).source((32, 32))) for s in range(30)])
    assert pixels[:, 4:-4, 4:-4, 3].min() >= 250
    assert pixels[..., :3].mean() == pytest.approx(127, abs=4)


def test_camouflage_noise_bends_the_strokes():
    straight = Camouflage(1, stroke_angle=0.0, stroke_noise=0.0)
    bent = dataclasses.replace(straight, stroke_noise=0.1)
    a, b = (painted(p.source((64, 64)), (64, 64)) for p in (straight, bent))
    assert roughness(b, 0.0) > 1.2 * roughness(a, 0.0)


def test_pictures_come_from_a_folder_with_their_colours(tmp_path):
    (tmp_path / "deep").mkdir()
    ramp = np.zeros((40, 60, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = 200, np.linspace(0, 255, 60)
    Picture.fromarray(ramp).save(tmp_path / "deep" / "ramp.PNG")
    whole = painted(ImagePattern(0, root=str(tmp_path), crop=False).source((60, 40)), (60, 40))
    assert (whole[..., :3] == ramp).all()
    spans, lefts = [], []
    for seed in range(200):
        part = painted(ImagePattern(seed, root=str(tmp_path), min_crop_size=0.5).source((60, 40)), (60, 40))
        assert (part[..., 0] == 200).all()
        spans.append(np.ptp(part[20, :, 1]) / 255)
        lefts.append(part[20, 0, 1] / 255)
    assert min(spans) > 0.48  # at least half of the width
    assert max(spans) > 0.9
    assert max(lefts) > 0.3


def test_pictures_are_turned_and_moved(tmp_path):
    Picture.fromarray(np.full((40, 40, 3), 255, np.uint8)).save(tmp_path / "white.png")
    still, moved = (
        painted(ImagePattern(1, root=str(tmp_path), crop=False, **change).source((40, 40)), (40, 40))[..., 0]
        for change in ({}, {"translation": 0.5, "rotation": 0.8})
    )
    assert (still == 255).all()
    assert (moved == 0).mean() > 0.1


def test_pictures_are_turned_by_radians(tmp_path):
    ramp = np.zeros((60, 60, 3), np.uint8)
    ramp[..., 0] = np.arange(60)[None] * 4
    Picture.fromarray(ramp).save(tmp_path / "ramp.png")
    angles = []
    for seed in range(60):
        turned = ImagePattern(seed, root=str(tmp_path), crop=False, rotation=math.pi / 2).source((60, 60))
        red = painted(turned, (60, 60))[20:40, 20:40, 0].astype(float)  # within the picture however it is turned
        dy, dx = np.gradient(red)
        angles.append(math.atan2(dy.mean(), dx.mean()))
    assert np.abs(angles).max() == pytest.approx(math.pi / 2, abs=0.1)
    assert np.quantile(np.abs(angles), 0.5) == pytest.approx(math.pi / 4, abs=0.25)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Gradient().source((8, 8)), "Gradient has no seed"),
        (lambda: Gradient("x").source((8, 8)), "Gradient has the seed 'x'"),
        (lambda: Gradient(0, types="linear"), "types is 'linear'; it must be a tuple"),
        (lambda: Gradient(0, alpha="half"), "alpha is 'half'; it must be between 0 and 1"),
        (lambda: SolidColor("red"), "color is 'red'; it must be three numbers"),
        (lambda: SolidColor(1), "color is 1; it must be three numbers"),
        (lambda: Camouflage(0, n_stroke=2.5), "n_stroke is 2.5; it must be a whole number"),
        (lambda: Camouflage(0, stroke_angle=None), "stroke_angle is None; it must be a finite number"),
        (lambda: Camouflage().source((8, 8)), "Camouflage has no seed"),
        (lambda: Gradient(0, types=("lineer",)), "did you mean 'linear'"),
        (lambda: Gradient(0, types=()), "type of gradient"),
        (lambda: MultiGradient(0, alpha=1.5), "alpha is 1.5"),
        (lambda: MultiGradient(0, n_gradients=0), "n_gradients is 0"),
        (lambda: SolidColor((0, 0, 2)), "three numbers in"),
        (lambda: SolidColor((0, 0)), "three numbers in"),
        (lambda: Camouflage(0, stroke_width=0), "must be positive"),
        (lambda: ImagePattern(0, min_crop_size=1.0), "min_crop_size is 1"),
        (lambda: ImagePattern(0, root="/no/such/folder").source((8, 8)), "no pictures"),
        (lambda: color_sampler((0.5, 0.2)), "brightness_range"),
    ],
)
def test_bad_patterns_are_named(make, says):
    with pytest.raises(UserError, match=says):
        make()


@pytest.mark.parametrize(("size", "crop"), [((3, 2), 0.2), ((40, 40), 0.99)])
def test_pictures_too_small_to_be_cropped_are_named(tmp_path, size, crop):
    Picture.new("RGB", size).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=rf"small\.png' is {size[0]}×{size[1]} pixels, too small .*crop=False"):
        ImagePattern(0, root=str(tmp_path), min_crop_size=crop).source((8, 8))
    assert ImagePattern(0, root=str(tmp_path), min_crop_size=crop, crop=False).source((8, 8))


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        ImagePattern(0, root=str(tmp_path)).source((8, 8))


@pytest.mark.parametrize(("dtype", "kind"), [(np.uint16, "png"), (np.int32, "tiff")])
def test_pictures_of_16_bits_keep_their_levels(tmp_path, dtype, kind):
    levels = np.linspace(0, 255, 60).round().astype(np.uint8)
    ramp = np.broadcast_to(levels.astype(dtype) * 257, (40, 60))
    Picture.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "ramp.png", format=kind)
    whole = painted(ImagePattern(0, root=str(tmp_path), crop=False).source((60, 40)), (60, 40))
    assert (whole[..., :3] == levels[:, None]).all()


def test_a_picture_of_floats_is_named(tmp_path):
    Picture.fromarray(np.full((40, 60), 0.5, np.float32)).save(tmp_path / "ramp.png", format="tiff")
    with pytest.raises(UserError, match=r"ramp\.png' holds floating-point numbers"):
        ImagePattern(0, root=str(tmp_path)).source((8, 8))


def test_attributes_of_patterns_are_style_seed_and_what_is_unusual():
    assert pattern_attributes(Gradient(4)) == {"style": "Gradient", "seed": 4}
    assert pattern_attributes(NoPattern()) == {"style": "NoPattern"}
    assert pattern_attributes(SolidColor((1, 0, 0))) == {"style": "SolidColor", "color": [1, 0, 0]}
    unusual = Camouflage(2, stroke_angle=0.0, n_stroke=9)
    assert pattern_attributes(unusual) == {"style": "Camouflage", "seed": 2, "stroke_angle": 0.0, "n_stroke": 9}
    assert json.loads(json.dumps(pattern_attributes(Gradient(1, types=("linear",)))))["types"] == ["linear"]
    assert pattern_attributes(Gradient(1, random_color=color_sampler((0.5, 1))))["random_color"] == "U(0.5, 1)³"
