"""Rendered letters: reproducible, with the stated distributions, and attributes that match the pixels."""

import math
import string
import subprocess
import sys

import cairo
import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.synbols import drawing, fonts, generate, render_dataset

BLACK, WHITE = cairo.SolidPattern(0, 0, 0), cairo.SolidPattern(1, 1, 1)
FAMILIES = fonts.families(string.ascii_lowercase)


@pytest.fixture(scope="module")
def samples():
    return render_dataset("default", 3000, seed=0, resolution=32)


def coverage(char="h", family=FAMILIES[0], size=200, **attributes):
    """Returns a white symbol on black, [H, W] in 0 to 1."""
    surface, pixels = generate._surface(size)
    upright = {"bold": False, "slant": False, "rotation": 0.0, "scale": 0.5, "translation": (0.0, 0.0)}
    drawing.draw_symbol(surface, BLACK, WHITE, family, char, **(upright | attributes))
    surface.flush()
    return pixels[..., 0] / 255


def box(ink):
    """Returns top, left, bottom, right of the ink as shares of the image."""
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.3), np.flatnonzero(ink.max(axis=0) > 0.3)
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]) / len(ink)


def test_a_sample_depends_on_the_seed_and_its_number_only():
    few, many = (render_dataset("default", n, 7, 16) for n in (5, 1030))
    for name, values in few.items():
        np.testing.assert_array_equal(values, many[name][:5])
    assert len({image.tobytes() for image in many["image"]}) == 1030
    other = render_dataset("default", 5, 8, 16)
    assert all((other["image"][i] != few["image"][i]).any() for i in range(5))


def test_attributes_do_not_depend_on_the_resolution():
    small, large = (render_dataset("default", 20, 0, r) for r in (16, 64))
    assert large["image"].shape == (20, 64, 64, 3)
    for name in set(small) - {"image"}:
        np.testing.assert_array_equal(small[name], large[name])


def test_columns_have_the_stated_types(samples):
    assert samples["image"].shape == (3000, 32, 32, 3)
    types = {k: v.dtype.name for k, v in samples.items()}
    assert types.pop("image") == "uint8"
    assert types.pop("label") == types.pop("font") == "int32"
    assert types.pop("is_bold") == types.pop("is_slant") == types.pop("inverse_color") == "bool"
    assert types == dict.fromkeys(("rotation", "scale", "translation_x", "translation_y"), "float32")


def test_attributes_have_the_distributions_of_the_paper(samples):
    n = len(samples["label"])
    assert np.abs(np.bincount(samples["label"], minlength=26) - n / 26).max() < 50
    assert len(np.unique(samples["font"])) == len(FAMILIES)
    for name in ("is_bold", "is_slant", "inverse_color"):
        assert samples[name].mean() == pytest.approx(0.5, abs=0.04)
    assert samples["rotation"].mean() == pytest.approx(0, abs=0.02)
    assert samples["rotation"].std() == pytest.approx(0.3, abs=0.015)
    assert np.median(samples["scale"]) == pytest.approx(0.6, abs=0.02)
    assert np.log(samples["scale"]).std() == pytest.approx(0.2, abs=0.01)
    for name in ("translation_x", "translation_y"):
        assert np.abs(samples[name]).max() <= 0.9
        assert samples[name].std() == pytest.approx(0.9 / math.sqrt(3), abs=0.02)


def test_pixel_statistics_are_those_of_the_original_generator(samples):
    # Measured on 1,200 images with 300 families of the original: mean 127.5, mean of the images' std 67.5.
    images = samples["image"].astype(float)
    assert images.mean() == pytest.approx(127.5, abs=4)
    assert images.std(axis=(1, 2, 3)).mean() == pytest.approx(67.5, abs=4)


def test_channels_are_red_green_blue(monkeypatch):
    monkeypatch.setattr(generate, "random_gradient", lambda generator: cairo.SolidPattern(1, 0, 0))
    samples = render_dataset("default", 4, 0, 16)
    for image, inverse in zip(samples["image"], samples["inverse_color"]):
        expected = (0, 255, 255) if inverse else (255, 0, 0)
        np.testing.assert_allclose(image.mean(axis=(0, 1)), expected, atol=10)


def test_images_have_full_contrast(samples):
    images = samples["image"].reshape(3000, -1)
    assert np.percentile(images.min(axis=1), 99) <= 5
    assert np.percentile(images.max(axis=1), 1) >= 250


def test_scale_is_the_longer_side_of_an_upright_letter():
    for char in "hm":
        top, left, bottom, right = box(coverage(char, scale=0.5))
        assert max(bottom - top, right - left) == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize("rotation", [0.0, 0.4])
def test_translations_of_minus_one_and_one_touch_the_edges(rotation):
    start = box(coverage("o", rotation=0, translation=(-1, -1)))
    end = box(coverage("o", rotation=0, translation=(1, 1)))
    np.testing.assert_allclose(start[:2], 0, atol=0.01)
    np.testing.assert_allclose(end[2:], 1, atol=0.01)
    turned = coverage("h", rotation=rotation, translation=(1, -1))
    assert turned.sum() == pytest.approx(coverage("h").sum(), rel=0.03)  # nothing is cut off
    assert box(turned)[1] > 0.3


def test_a_positive_rotation_is_clockwise_on_the_screen():
    ink = coverage("l", family=next(f for f in FAMILIES if f.name == "Poppins"), rotation=0.5, scale=0.8)
    rows, columns = np.nonzero(ink > 0.5)
    # The top of a stem that turns clockwise leans to the right: columns fall as rows grow.
    assert np.polyfit(rows, columns, 1)[0] == pytest.approx(-math.tan(0.5), abs=0.05)


def test_slant_shears_vertically_and_keeps_stems_upright():
    ink = coverage("z", family=next(f for f in FAMILIES if f.name == "Poppins"), slant=True, scale=0.6)
    lowest = [np.flatnonzero(c)[-1] for c in (ink > 0.5).T if c.any()]
    assert np.polyfit(np.arange(len(lowest)), lowest, 1)[0] == pytest.approx(drawing.SLANT, abs=0.02)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_bold_letters_have_more_ink(family):
    thin, bold = (np.mean([coverage(c, family, bold=b).sum() for c in "aehnou"]) for b in (False, True))
    assert bold > 1.03 * thin


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_letter_of_every_family_shows_and_differs_from_the_others(family):
    letters = [coverage(c, family, size=32) for c in string.ascii_lowercase]
    assert all(a.max() > 0.5 for a in letters)
    assert len({a.tobytes() for a in letters}) == 26


def test_a_linear_gradient_has_its_colours_at_the_start_the_middle_and_the_end(monkeypatch):
    class Fixed:
        def random(self, size):
            # linear; start (0, 0.5); angle 0; colours at the offsets 1, 0.5, 0: red, green, blue
            assert size == 15
            return np.array([0.1, 0, 0.5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1.0])

        def standard_normal(self):
            return 0.0

    surface, pixels = generate._surface(101)
    context = cairo.Context(surface)
    context.scale(101, 101)
    context.set_source(drawing.random_gradient(Fixed()))
    context.paint()
    surface.flush()
    for column, colour in [(0, (0, 0, 255)), (50, (0, 255, 0)), (100, (255, 0, 0))]:
        np.testing.assert_allclose(pixels[50, column, 2::-1].astype(int), colour, atol=4)


def test_finishing_inverts_stretches_and_adds_noise_in_this_order():
    images = np.full((2, 2, 2, 3), 100, np.uint8)
    images[:, 0, 0, 0], images[:, 1, 1, 2] = 50, 200
    noise = np.zeros(images.shape, np.float32)
    noise[:, 0, 1, 0] = 10
    out = generate._finish(images, np.array([False, True]), noise)
    expected = (100 - 50) / 150
    assert out[0, 0, 0, 0] == 0
    assert out[0, 1, 1, 2] == 255
    assert out[0, 1, 0, 0] == int(expected * 255)
    assert out[0, 0, 1, 0] == int((expected + 10 * generate.PIXEL_NOISE) * 255)
    assert out[1, 0, 0, 0] == 255
    assert out[1, 1, 0, 0] == int((1 - expected) * 255)


def test_an_image_of_one_colour_stays_as_it_is():
    images = np.full((1, 2, 2, 3), 51, np.uint8)
    out = generate._finish(images, np.array([False]), np.zeros(images.shape, np.float32))
    np.testing.assert_allclose(out.astype(int), 51, atol=1)


def test_an_unknown_dataset_and_a_bad_size_are_user_errors():
    with pytest.raises(UserError, match="did you mean 'default'"):
        render_dataset("defalt", 10, 0, 32)
    with pytest.raises(UserError, match="resolution=4"):
        render_dataset("default", 10, 0, 4)


def test_missing_cairo_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cairo", None)
    with pytest.raises(UserError, match="apt-get install libcairo2-dev"):
        render_dataset("default", 10, 0, 32)


def test_missing_fonts_say_what_to_install(monkeypatch):
    monkeypatch.setattr(fonts, "entry_points", lambda group: [])
    with pytest.raises(UserError, match="pip install fontpkg-poppins"):
        fonts.families("xyz")


def test_the_fingerprint_changes_with_the_fonts():
    assert fonts.fingerprint(FAMILIES) != fonts.fingerprint(FAMILIES[1:])


def test_the_generator_does_not_import_jax():
    code = "import sys, jaxrepro.synbols as s; s.render_dataset('default', 2, 0, 16); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
