"""Warps and colours against PIL and colorsys, one operation at a time; distributions of what is drawn."""

import colorsys
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxrepro.data import pil_augment
from jaxrepro.data.pil_augment import Affine, Colors, draw_affine, draw_colors

KEY = jax.random.key(0)
AFFINE = {"max_rotation": math.radians(10), "max_translation": 0.1, "scale": (0.9, 1.1), "max_shear": math.radians(2)}
COLORS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4}
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
draw_many = jax.jit(functools.partial(draw_affine, KEY, 4000, (32, 20), **AFFINE))
color_many = jax.jit(functools.partial(draw_colors, KEY, 4000, **COLORS))
warp, change = jax.jit(pil_augment.warp), jax.jit(pil_augment.change_colors)


def smooth(height, width, channels=3):
    """A picture without sharp edges, 8 bits: neighbouring pixels of noise are averaged."""
    noise = np.random.default_rng(0).uniform(0, 255, (height + 2, width + 2, channels))
    mean = sum(noise[i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
    return np.clip((mean - 128) * 2.2 + 128, 0, 255).round().astype(np.uint8)


def pil_warp(image, angle, right, down, scale, shear_x, shear_y):
    """The same warp by PIL, its matrix multiplied together from scale, shears, rotation and shift."""
    height, width = image.shape[:2]

    def move(x, y):
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    rotate = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    lean_y = np.array([[1, 0, 0], [-math.tan(shear_y), 1, 0], [0, 0, 1]])
    lean_x = np.array([[1, -math.tan(shear_x), 0], [0, 1, 0], [0, 0, 1]])
    forward = rotate @ lean_y @ lean_x @ np.diag([scale, scale, 1])
    inverse = np.linalg.inv(move(width / 2 + right, height / 2 + down) @ forward @ move(-width / 2, -height / 2))
    out = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, tuple(inverse[:2].ravel()), Image.Resampling.BICUBIC, fillcolor=0
    )
    return np.asarray(out)


WARPS = {
    "none": {},
    "turn": {"angle": 0.17},
    "turn back": {"angle": -0.1},
    "move": {"right": 3.0, "down": -2.0},
    "enlarge": {"scale": 1.1},
    "shrink": {"scale": 0.9},
    "shear along x": {"shear_x": 0.3},
    "shear along y": {"shear_y": 0.3},
    "all": {"angle": 0.15, "right": -2.0, "down": 3.0, "scale": 0.93, "shear_x": 0.035, "shear_y": -0.03},
}


@pytest.mark.parametrize("name", WARPS)
@pytest.mark.parametrize("shape", [(32, 32), (20, 31)])
def test_a_warp_equals_that_of_pil(name, shape):
    parameters = {"angle": 0.0, "right": 0.0, "down": 0.0, "scale": 1.0, "shear_x": 0.0, "shear_y": 0.0} | WARPS[name]
    image = smooth(*shape)
    found = 255 * warp(jnp.asarray(image / 255, jnp.float32), Affine(*map(jnp.float32, parameters.values())))
    expected = pil_warp(image, **parameters).astype(float)
    away = np.abs(np.asarray(found) - expected)
    # PIL cuts the fraction off; a pixel whose source lies on the very border may fall on either side of it.
    assert (away > 1.01).mean() < 0.002
    if name != "none":
        assert np.abs(expected - image).mean() > 5


def test_what_a_warp_looks_at_outside_the_image_is_black():
    moved = warp(jnp.ones((8, 8, 1)), Affine(*map(jnp.float32, (0.0, 3.0, 0.0, 1.0, 0.0, 0.0))))
    np.testing.assert_allclose(moved[:, :3], 0)
    np.testing.assert_allclose(moved[:, 3:], 1, atol=1e-6)


def uniform_between(values, low, high):
    """Checks range, mean, spread and quarters of a uniform sample."""
    values, width = np.asarray(values), high - low
    assert values.min() >= low
    assert values.max() <= high
    quarters = np.histogram(values, bins=4, range=(low, high))[0] / len(values)
    np.testing.assert_allclose(quarters, 0.25, atol=0.03)
    assert values.max() - values.min() > 0.98 * width


def test_angle_scale_and_shears_are_uniform_in_their_ranges():
    drawn = draw_many()
    uniform_between(drawn.angle, -math.radians(10), math.radians(10))
    uniform_between(drawn.scale, 0.9, 1.1)
    uniform_between(drawn.shear_x, -math.radians(2), math.radians(2))
    uniform_between(drawn.shear_y, -math.radians(2), math.radians(2))


def test_translations_are_whole_pixels_of_a_tenth_of_the_side():
    drawn = draw_many()
    for values, most in ((drawn.right, 2.0), (drawn.down, 3.2)):
        values = np.asarray(values)
        found, counts = np.unique(values, return_counts=True)
        np.testing.assert_array_equal(found, np.arange(-int(most), int(most) + 1))
        # Of U(-3.2, 3.2) rounded, 3 takes what lies above 2.5 and the others a whole unit each.
        edge = min(most, int(most) + 0.5) - (int(most) - 0.5)
        expected = np.array([edge] + [1.0] * (len(found) - 2) + [edge]) / (2 * most)
        np.testing.assert_allclose(counts / len(values), expected, atol=0.025)


def test_what_is_drawn_for_a_warp_is_independent():
    drawn = np.stack([np.asarray(a) for a in draw_many()])
    np.testing.assert_allclose(np.corrcoef(drawn), np.eye(6), atol=0.06)


def colors(order=(0, 1, 2, 3), **changes):
    values = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0} | changes
    return Colors(*map(jnp.float32, values.values()), jnp.array(order, jnp.int32))


def after(image, **changes):
    return np.asarray(255 * change(jnp.asarray(image / 255, jnp.float32), colors(**changes)))


@pytest.mark.parametrize("factor", [0.6, 0.85, 1.0, 1.4])
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
def test_a_factor_does_what_pil_does(name, enhancer, factor):
    image = smooth(32, 32)
    expected = np.asarray(enhancer(Image.fromarray(image)).enhance(factor))
    np.testing.assert_allclose(after(image, **{name: factor}), expected, atol=1.6)


@pytest.mark.parametrize("turn", [-0.4, -0.1, 0.25, 0.4])
def test_hue_turns_as_colorsys_computes_it(turn):
    image = smooth(6, 6)
    expected = np.empty(image.shape)
    for place in np.ndindex(6, 6):
        h, s, v = colorsys.rgb_to_hsv(*image[place] / 255)
        expected[place] = colorsys.hsv_to_rgb((h + turn) % 1, s, v)
    np.testing.assert_allclose(after(image, hue=turn), 255 * expected, atol=0.05)


def test_the_operations_are_applied_in_the_order_given():
    image = smooth(16, 16)
    pillow = Image.fromarray(image)
    bright_first = ImageEnhance.Contrast(ImageEnhance.Brightness(pillow).enhance(1.4)).enhance(0.6)
    contrast_first = ImageEnhance.Brightness(ImageEnhance.Contrast(pillow).enhance(0.6)).enhance(1.4)
    changes = {"brightness": 1.4, "contrast": 0.6}
    for order, expected in (((0, 1, 2, 3), bright_first), ((3, 1, 2, 0), contrast_first)):
        np.testing.assert_allclose(after(image, order=order, **changes), np.asarray(expected), atol=2.5)
    assert np.abs(np.asarray(bright_first).astype(float) - np.asarray(contrast_first)).mean() > 5


def test_factors_and_hue_are_uniform_and_every_order_is_as_likely():
    drawn = color_many()
    for values in (drawn.brightness, drawn.contrast, drawn.saturation):
        uniform_between(values, 0.6, 1.4)
    uniform_between(drawn.hue, -0.4, 0.4)
    orders, counts = np.unique(np.asarray(drawn.order), axis=0, return_counts=True)
    assert len(orders) == 24
    np.testing.assert_allclose(counts / 4000, 1 / 24, atol=0.015)
    factors = np.stack([drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue])
    np.testing.assert_allclose(np.corrcoef(factors), np.eye(4), atol=0.06)


OPERATIONS = {
    "warp": jax.jit(functools.partial(pil_augment.random_warp, **AFFINE)),
    "colors": jax.jit(functools.partial(pil_augment.random_colors, **COLORS)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_image_of_a_batch_is_changed_for_itself_and_stays_in_range(name):
    images = jnp.asarray(np.tile(smooth(12, 12)[None] / 255, (16, 1, 1, 1)), jnp.float32)
    out = np.asarray(OPERATIONS[name](KEY, images))
    assert len({image.tobytes() for image in out}) == 16
    assert out.min() >= 0
    assert out.max() <= 1
    np.testing.assert_allclose(OPERATIONS[name](KEY, images[:4]), out[:4], atol=1e-5)


def test_grey_images_can_be_warped():
    images = jnp.asarray(smooth(12, 12, 1)[None] / 255, jnp.float32)
    assert OPERATIONS["warp"](KEY, images).shape == images.shape
