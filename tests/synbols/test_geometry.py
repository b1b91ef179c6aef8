"""Where glyphs land: by properties, on boxes and on pixels."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import cairo
import numpy as np
import pytest

from jaxrepro.synbols.drawing import draw_masks
from jaxrepro.synbols.fonts import installed_fonts
from jaxrepro.synbols.geometry import glyph_matrix, mapped_box, place
from jaxrepro.synbols.symbols import Image, Symbol

BOX = (0.07, -0.71, 0.43, 0.93)  # like a g: it hangs below the baseline


def mask(resolution=(64, 64), compat=None, **attributes) -> np.ndarray:
    """Returns the coverage [H, W] of a shape, 0 … 1."""
    symbol = Symbol(**{"char": "■", "font": None, **attributes})
    return draw_masks(Image((symbol,), resolution=resolution, compat=compat))[..., 0] / 255


def extent(profile: np.ndarray) -> tuple[float, float]:
    """Returns begin and end of what a profile of coverage shows, to fractions of a pixel."""
    at = np.flatnonzero(profile > 0)
    full = profile.max()
    return at[0] + 1 - profile[at[0]] / full, at[-1] + profile[at[-1]] / full


@pytest.mark.parametrize("resolution", [(64, 64), (96, 40), (30, 75)])
@pytest.mark.parametrize(("t", "room"), [(-1, 0.0), (0, 0.5), (1, 1.0)])
def test_translation_divides_the_free_space(t, room, resolution):
    shown = mask(resolution, scale=0.53, translation=t)
    side = 0.53 * min(resolution)
    for axis, size in enumerate(resolution):
        begin, end = extent(shown.max(axis=axis))
        assert begin == pytest.approx(room * (size - side), abs=0.02)
        assert end == pytest.approx(begin + side, abs=0.02)


def test_axes_of_the_translation_are_x_and_y():
    shown = mask(scale=0.25, translation=(1, -1))
    assert shown[:16, 48:].all()
    assert shown.sum() == 256


@pytest.mark.parametrize("compat", [None, "v1"])
def test_within_one_the_box_stays_inside_wherever_it_fits(compat):
    rng = np.random.default_rng(0)
    slack = 0 if compat is None else 1.5  # the original rounds to pixels
    fitted = 0
    for _ in range(500):
        width, height = resolution = tuple(rng.integers(16, 80, 2).tolist()) if compat is None else (32, 32)
        _, (x, y, w, h) = place(
            BOX, rng.uniform(0.1, 1), rng.uniform(-4, 4), rng.random() < 0.5, rng.uniform(-1, 1, 2), resolution, compat
        )
        if w <= width and h <= height:
            fitted += 1
            assert -slack - 1e-9 <= x <= x + w <= width + slack + 1e-9
            assert -slack - 1e-9 <= y <= y + h <= height + slack + 1e-9
    assert fitted > 300


def test_a_box_too_large_moves_the_other_way():
    (_, (left, *_)), (_, (right, *_)) = (place(BOX, 1.7, 0.0, False, (t, t), (32, 32)) for t in (-1, 1))
    _, (_, top, _, _) = place(BOX, 1.7, 0.0, False, (1, 1), (32, 32))
    assert left == pytest.approx(0)
    assert right > left
    assert top == pytest.approx(32 * (1 - 1.7))


@pytest.mark.parametrize("rotation", [0.0, 0.4, -2.0])
def test_scale_is_the_longer_side_of_the_upright_glyph(rotation):
    matrix, _ = place(BOX, 0.6, rotation, False, (0.3, -0.2), (50, 80))
    corners = [
        (matrix.xx * x + matrix.xy * y, matrix.yx * x + matrix.yy * y) for x, y in ((0, 0), (0.43, 0), (0, 0.93))
    ]
    short, long = (math.dist(corners[0], c) for c in corners[1:])
    assert long == pytest.approx(0.6 * 50)
    assert short == pytest.approx(0.6 * 50 * 0.43 / 0.93)


def test_an_empty_glyph_divides_by_a_floor():
    matrix, box = place((0.0, 0.0, 0.0, 0.0), 0.6, 0.0, False, (0.0, 0.0), (32, 32))
    assert matrix.xx == pytest.approx(0.6 * 32 / 0.1)
    assert box == (16, 16, 0, 0)


def test_positive_rotation_turns_clockwise():
    shown = mask(char="▲", scale=0.6, rotation=math.pi / 2)  # the tip points to the right
    columns = shown.sum(axis=0)
    inside = columns[14:50]
    assert (np.diff(inside) < 0).all()
    assert inside[0] > 10 * inside[-1] > 0


def test_slant_leans_to_the_right_and_keeps_the_baseline():
    shown = mask(scale=0.5, is_slant=True)
    rows = [extent(row) for row in shown if row.max() == 1]
    lefts, rights = np.array(rows).T
    assert np.diff(lefts) == pytest.approx(-0.2, abs=0.02)  # per row downwards
    assert np.diff(rights) == pytest.approx(-0.2, abs=0.02)
    assert len(rows) == 32


def test_the_originals_slant_leaves_stems_upright():
    shown = mask(scale=0.5, is_slant=True, compat="v1").T
    columns = np.array([extent(column) for column in shown if column.max() == 1])
    assert columns[5:] - columns[:-5] == pytest.approx(1.0, abs=0.08)  # the baseline tilts, 0.2 per pixel
    assert len(columns) == 32


@pytest.mark.parametrize("compat", [None, "v1"])
def test_order_of_slant_and_rotation(compat):
    cosine, sine = math.cos(0.7), math.sin(0.7)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    product = turn @ [[1, -0.2], [0, 1]] if compat is None else np.array([[1, 0], [0.2, 1]]) @ turn
    m = glyph_matrix(3.0, 0.7, True, compat)
    assert np.array([[m.xx, m.xy], [m.yx, m.yy]]) == pytest.approx(3 * product)


def test_mapped_box_surrounds_the_corners_tightly():
    rng = np.random.default_rng(1)
    for _ in range(50):
        m = glyph_matrix(rng.uniform(0.1, 2), rng.uniform(-4, 4), True)._replace(x0=rng.normal(), y0=rng.normal())
        x, y, w, h = box = (*rng.normal(size=2), *rng.random(2))
        corners = np.array([(a, b) for a in (x, x + w) for b in (y, y + h)])
        points = corners @ [[m.xx, m.yx], [m.xy, m.yy]] + [m.x0, m.y0]
        assert mapped_box(m, box) == pytest.approx((*points.min(axis=0), *np.ptp(points, axis=0)))


def test_moving_by_part_of_a_pixel_changes_the_picture_but_not_in_v1():
    def pictures(compat):
        return {
            mask((32, 32), compat, scale=0.5, translation=t / 320).tobytes() for t in range(10)
        }  # 0.5 pixels in all

    assert len(pictures(None)) > 5
    assert len(pictures("v1")) <= 2


def test_v1_measures_upright_glyphs_in_whole_pixels():
    matrix, _ = place((0.01, -0.5, 0.48, 0.5), 0.5, 0.0, False, (-1, -1), (8, 8), "v1")
    # 0.01 … 0.49 ems are 0.08 … 3.92 pixels at one em = 8 pixels: rounded outwards 0 … 4, so the side is 0.5.
    assert matrix.xx == pytest.approx(8 * 0.5 / 0.5)
    matrix, _ = place((0.01, -0.53, 0.48, 0.53), 0.5, 0.0, False, (-1, -1), (8, 8), "v1")
    assert matrix.xx == pytest.approx(8 * 0.5 / 0.625)
    assert matrix.x0 == int(matrix.x0)
    assert matrix.y0 == int(matrix.y0)
    # The box to be placed is rounded too: its left edge, 0.8 pixels, counts as 0, and nothing moves.
    matrix, _ = place((0.1, -0.5, 0.3, 0.5), 0.5, 0.0, False, (-1, -1), (8, 8), "v1")
    assert (matrix.xx, matrix.x0) == (8, 0)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or cairo.cairo_version() >= 11704,
    reason="needs fontconfig, and a cairo that rounds glyphs to whole pixels as the original's does",
)
def test_v1_draws_letters_as_the_originals_toy_text_does(tmp_path):
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    folders = {folder, *(Path(f.regular.path).parent for f in installed_fonts())}
    config = tmp_path / "fonts.conf"
    dirs = "".join(f"<dir>{d}</dir>" for d in sorted(folders))
    embolden = """<match target="font"><test name="weight" compare="less_eq"><const>medium</const></test>
        <test target="pattern" name="weight" compare="more_eq"><const>bold</const></test>
        <edit name="embolden" mode="assign"><bool>true</bool></edit></match>"""
    config.write_text(f"<fontconfig>{dirs}<cachedir>{tmp_path}</cachedir>{embolden}</fontconfig>")
    ran = subprocess.run(
        [sys.executable, Path(__file__).parent / "toy_text.py", folder],
        env={**os.environ, "FONTCONFIG_FILE": str(config)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(ran.stdout.splitlines()[-1])
    assert min(found["same"]) > 0.95
    for side, most in (("8", 0.08), ("32", 0.03)):
        v1, default = found["coverage"][side]
        assert abs(v1 - 1) < most
        assert abs(v1 - 1) < abs(default - 1)
