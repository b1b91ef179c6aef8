"""Pixels and masks against a slow rasteriser, post-processing against its definition, and bad input."""

import dataclasses
import itertools
from statistics import NormalDist

import numpy as np
import pytest
import rasteriser

from jaxrepro.errors import UserError
from jaxrepro.synbols.attributes import add_occlusion, attribute_sampler
from jaxrepro.synbols.drawing import draw_masks, render, render_batch
from jaxrepro.synbols.fonts import installed_fonts, text_outline
from jaxrepro.synbols.languages import alphabet
from jaxrepro.synbols.masks import flatten_mask, flatten_mask_except_first, overlap_score
from jaxrepro.synbols.patterns import Gradient, MultiGradient, NoPattern, SolidColor
from jaxrepro.synbols.postprocess import finish, pixel_noise
from jaxrepro.synbols.shapes import SHAPES, shape_outline
from jaxrepro.synbols.symbols import Image, Symbol

RED, BLUE, BLACK = SolidColor((1, 0, 0)), SolidColor((0, 0, 1)), SolidColor((0, 0, 0))


def letters(n: int, seed: int = 0) -> list[Symbol]:
    """Returns n symbols of installed fonts with everything random."""
    rng = np.random.default_rng(seed)
    sampler = attribute_sampler(alphabet=alphabet(auxiliary=False))
    return [sampler(rng).symbols[0] for _ in range(n)]


def raw(*symbols: Symbol, **changes) -> Image:
    """Returns an image without noise and contrast."""
    return Image(symbols, **{"max_contrast": False, "pixel_noise_scale": 0.0, **changes})


def expected_coverage(symbol: Symbol, resolution) -> np.ndarray:
    path = (
        text_outline(symbol.font, symbol.char, symbol.is_bold).path if symbol.font else shape_outline(symbol.char).path
    )
    shapes = rasteriser.mapped(path, symbol.scale, symbol.rotation, symbol.is_slant, symbol.translation, resolution)
    return rasteriser.coverage(shapes, resolution)


@pytest.mark.parametrize("resolution", [(32, 32), (40, 27)])
def test_masks_are_the_coverage_of_the_outline(resolution):
    for symbol in letters(25):
        shown = draw_masks(Image((symbol,), resolution=resolution))[..., 0] / 255
        error = shown - expected_coverage(symbol, resolution)
        assert np.abs(error).max() < 0.12, symbol  # both sample a pixel at some hundred points
        assert np.abs(error).mean() < 0.006, symbol
        assert np.abs(error.mean()) < 0.002, symbol


@pytest.mark.parametrize("char", SHAPES)
def test_shapes_of_occlusions_are_what_they_are_called(char):
    symbol = Symbol(char, None, rotation=0.3, scale=0.6, translation=(0.2, -0.4))
    shown = draw_masks(Image((symbol,)))[..., 0] / 255
    assert shown == pytest.approx(expected_coverage(symbol, (32, 32)), abs=0.12)
    area = {"■": 1.0, "▲": 0.5, "●": np.pi / 4}[char] * (0.6 * 32) ** 2
    assert shown.sum() == pytest.approx(area, rel=0.005)


@pytest.mark.parametrize("resolution", [(32, 32), (24, 40)])
def test_colours_are_mixed_by_coverage(resolution):
    for i, symbol in enumerate(letters(12)):
        symbol = dataclasses.replace(symbol, foreground=Gradient(i))
        image = raw(symbol, background=Gradient(100 + i), resolution=resolution)
        pixels, masks = render(image)
        front, back = (
            rasteriser.gradient(p.source(resolution), resolution)[..., :3] for p in (Gradient(i), Gradient(100 + i))
        )
        cover = masks / 255
        error = np.abs(pixels - 255 * (back + cover * (front - back)))
        assert np.median(error) <= 1
        assert np.quantile(error, 0.99) < 3


def test_white_on_black_is_the_mask():
    for symbol in letters(30, seed=1):
        pixels, masks = render(raw(dataclasses.replace(symbol, foreground=SolidColor())))
        assert (pixels == masks).all()


def test_symbols_in_different_corners_are_all_painted():
    corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
    squares = [Symbol("■", None, scale=0.3, translation=corner) for corner in corners]
    pixels, masks = render(raw(*squares))
    assert (pixels == masks.max(axis=-1, keepdims=True)).all()
    assert (masks.reshape(-1, 4).max(axis=0) == 255).all()


def test_channels_are_red_green_blue_and_blue_first_in_v1():
    for compat, channel in ((None, 0), ("v1", 2)):
        pixels, _ = render(raw(background=RED, compat=compat))
        assert pixels[..., channel].min() >= 254
        assert not np.delete(pixels, channel, axis=-1).any()


def test_later_symbols_cover_earlier_ones_and_masks_stay_whole():
    under, over = Symbol("■", None, foreground=RED, scale=0.8), Symbol("■", None, foreground=BLUE, scale=0.4)
    pixels, masks = render(raw(under, over))
    assert (pixels[16, 16] == [0, 0, 255]).all()
    assert (pixels[5, 5] == [255, 0, 0]).all()
    assert (masks[16, 16] == 255).all()
    turned, _ = render(raw(over, under))
    assert (turned[16, 16] == [255, 0, 0]).all()


def test_translucent_foregrounds_let_the_background_through():
    for pattern in (Gradient(1, alpha=0.25), MultiGradient(1, alpha=0.25)):
        symbol = Symbol("■", None, foreground=pattern, scale=0.9)
        over_black, over_white = (
            render(raw(symbol, background=b))[0][16, 16].astype(int) for b in (BLACK, SolidColor())
        )
        share = 0.75 if isinstance(pattern, Gradient) else 0.75**2
        assert over_white - over_black == pytest.approx(255 * share, abs=2)


def test_a_symbol_without_pattern_is_left_out():
    image = raw(Symbol("■", None, foreground=NoPattern()), background=RED)
    pixels, masks = render(image)
    assert not masks.any()
    assert not draw_masks(image).any()
    assert (pixels == render(raw(background=RED))[0]).all()


def test_images_without_symbols_have_no_masks():
    assert render(raw())[1].shape == (32, 32, 0)


def test_strings_are_one_line_of_text():
    font = installed_fonts()[0]
    one, three = (Symbol(text, font, scale=0.9, translation=0) for text in ("o", "ooo"))
    wide = draw_masks(Image((three,), resolution=(96, 96)))[..., 0] > 0
    assert draw_masks(Image((one,), resolution=(96, 96))).any()
    assert np.ptp(np.flatnonzero(wide.any(axis=0))) > 2 * np.ptp(np.flatnonzero(wide.any(axis=1)))


def varied_images(n: int) -> list[Image]:
    """Returns images that differ in everything, resolution, channels and compat too."""
    rng = np.random.default_rng(3)
    samplers = [
        add_occlusion(attribute_sampler(resolution=r, is_gray=g, compat=c, max_contrast=lambda rng: rng.random() < 0.5))
        for r, g, c in (((32, 32), False, None), ((32, 32), False, "v1"), ((20, 44), True, None), ((9, 8), False, None))
    ]
    return [samplers[i // 2 % 4](rng) for i in range(n)]


def test_an_image_is_the_same_picture_alone_in_a_batch_and_again():
    images = varied_images(40)
    pixels, masks = render_batch(images)
    for image, x, mask in zip(images, pixels, masks):
        width, height = image.resolution
        assert x.shape == (height, width, 1 if image.is_gray else 3)
        assert mask.shape == (height, width, len(image.symbols))
        for _ in range(2):
            alone, alone_mask = render(image)
            assert alone.tobytes() == x.tobytes()
            assert alone_mask.tobytes() == mask.tobytes()
        assert draw_masks(image).tobytes() == mask.tobytes()


def finished_by_hand(pixels: np.ndarray, image: Image) -> np.ndarray:
    """Returns float64 values before rounding, by the definition; pixels [H, W, 4] are blue, green, red, nothing."""
    is_v1 = image.compat == "v1"
    v = pixels[..., :3] if is_v1 else pixels[..., 2::-1]
    v = v / (256 if is_v1 else 255)
    if image.is_gray:
        v = v.mean(axis=-1, keepdims=True)
    if image.inverse_color:
        v = 1 - v
    if image.max_contrast and v.max() > v.min():
        v = (v - v.min()) / (v.max() - v.min())
    if image.pixel_noise_scale:
        channels, height, width = v.shape[2], *v.shape[:2]
        v = v + pixel_noise(image.seed, (channels, height, width), image.pixel_noise_scale).transpose(1, 2, 0)
    return np.clip(v, 0, 1) * 255


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("compat", [None, "v1"])
def test_post_processing_follows_its_definition(compat, noise):
    rng = np.random.default_rng(0)
    pixels = rng.integers(40, 200, (8, 6, 5, 4), np.uint8)
    for is_gray in (False, True):
        images = [
            Image((), resolution=(5, 6), inverse_color=i, max_contrast=c, pixel_noise_scale=noise * n, is_gray=is_gray,
                  seed=7, compat=compat)
            for i, c, n in itertools.product((False, True), (False, True), (1, 2))
        ]  # fmt: skip
        for got, source, image in zip(finish(pixels, images), pixels, images):
            want = finished_by_hand(source, image) + (0.5 if compat is None else 0)
            # A value that lies on a border may fall on either side of it.
            near = np.abs(want - np.round(want)) < 1e-2
            assert (got == np.minimum(want, 255).astype(np.uint8))[~near].all()
            assert np.abs(got - want)[near].max(initial=0) <= 1.01
            assert near.mean() < 0.2


def test_one_colour_has_no_contrast_to_stretch():
    pixels, _ = render(raw(background=SolidColor((0.4, 0.4, 0.4)), max_contrast=True))
    assert (pixels == 102).all()


def test_contrast_uses_the_whole_range_over_all_channels_together():
    symbol = Symbol("■", None, foreground=SolidColor((0.5, 0.4, 0.4)))
    pixels, _ = render(raw(symbol, background=SolidColor((0.3, 0.4, 0.4)), max_contrast=True))
    assert (pixels[16, 16] == [255, 128, 128]).all() or (pixels[16, 16] == [255, 127, 127]).all()
    assert pixels[0, 0, 0] == 0


def test_noise_is_normal_and_belongs_to_the_seed():
    values = pixel_noise(3, (3, 200, 200), 0.5).ravel() / 0.5
    size = len(values)
    assert values.mean() == pytest.approx(0, abs=4 / size**0.5)
    assert values.var() == pytest.approx(1, abs=6 / size**0.5)
    levels = np.array([0.001, 0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999])
    found = np.mean(values[:, None] < [NormalDist().inv_cdf(p) for p in levels], axis=0)
    assert found == pytest.approx(levels, abs=4 * 0.5 / size**0.5)
    assert (np.diff(np.searchsorted(np.sort(values), [0, 1e-9])) < 20).all()
    other = pixel_noise(4, (3, 200, 200), 1.0).ravel()
    assert abs(np.corrcoef(values, other)[0, 1]) < 5 / size**0.5
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 5 / size**0.5
    assert (pixel_noise(3, (7,), 1.0) == pixel_noise(3, (7,), 1.0)).all()


def test_the_original_uses_the_top_left_square_only():
    wide = {"resolution": (48, 16), "background": Gradient(2), "max_contrast": False, "pixel_noise_scale": 0.0}
    symbol = Symbol("■", None, scale=0.5, translation=1)
    pixels, masks = render(Image((symbol,), compat="v1", **wide))
    assert not pixels[:, 16:].any()
    assert pixels[:, :16].any(axis=-1).mean() > 0.9
    assert masks[8:, 8:16].all()
    pixels, masks = render(Image((symbol,), **wide))
    assert pixels[:, 40:].any()
    assert masks[8:, 40:].all()
    solid, _ = render(Image((), compat="v1", **{**wide, "background": RED}))
    assert (solid[..., 2] >= 254).all()


def test_flat_masks_label_what_is_on_top():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 256, (9, 11, 4)).astype(np.uint8) * (rng.random((9, 11, 4)) < 0.4).astype(np.uint8)
    masks[0, :3, 0] = 1, 2, 3
    masks[0, :3, 1:] = 0
    masks[1, :2, :2] = (200, 55), (200, 56)  # 255 is one full cover, 256 is an overlap
    masks[1, :2, 2:] = 0
    labels, extra = flatten_mask(masks)
    first_apart, nothing = flatten_mask_except_first(masks)
    score = 0
    for y, x in np.ndindex(9, 11):
        shown = [k + 1 for k in range(4) if masks[y, x, k] > 2]
        assert labels[y, x] == (shown[-1] if shown else 0)
        others = [k for k in range(1, 4) if masks[y, x, k] > 2]
        assert first_apart[y, x].tolist() == [masks[y, x, 0], others[-1] if others else 0]
        score += int(masks[y, x].astype(int).sum() >= 256)
    assert labels[0, :3].tolist() == [0, 0, 1]
    assert extra == {"overlap_score": score / 99}
    assert nothing == {}
    assert labels.dtype == first_apart.dtype == np.uint8
    assert flatten_mask(masks[..., :0])[0].shape == (9, 11)
    assert overlap_score(masks[..., :1]) == 0


def test_more_symbols_than_labels_are_refused():
    with pytest.raises(UserError, match="300 symbols"):
        flatten_mask(np.zeros((2, 2, 300), np.uint8))
    with pytest.raises(UserError, match="one symbol or more"):
        flatten_mask_except_first(np.zeros((2, 2, 0), np.uint8))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Symbol("a", None, scale=-1), "scale is -1"),
        (lambda: Symbol("a", None, scale=float("nan")), "scale is nan"),
        (lambda: Symbol("a", None, scale="big"), "scale 'big'"),
        (lambda: Symbol("a", None, translation=(1, 2, 3)), r"translation \(1, 2, 3\)"),
        (lambda: Symbol("a", None, rotation=float("inf")), "must be finite"),
        (lambda: Symbol("", None), "one character or more"),
        (lambda: Image((), resolution=(32, 0)), r"resolution is \(32, 0\)"),
        (lambda: Image((), resolution=(32.5, 32)), "resolution is"),
        (lambda: Image((), resolution=(32, 32, 3)), "resolution is"),
        (lambda: Image((), resolution=100_000), "resolution is 100000"),
        (lambda: Image((), resolution="32"), "resolution is '32'"),
        (lambda: Image((), pixel_noise_scale=-0.1), "pixel_noise_scale is -0.1"),
        (lambda: Image((), compat="v2"), "did you mean 'v1'"),
        (lambda: render(Image((Symbol("a", None),))), "unknown shape 'a'"),
        (lambda: render(Image((Symbol("가", installed_fonts()[0]),))), "가"),
    ],
)
def test_bad_input_is_named(make, says):
    with pytest.raises(UserError, match=says):
        make()
