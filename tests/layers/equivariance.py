"""Measures whether layers commute with enlarging their input; nothing here is resampled but the features."""

import numpy as np
from scipy import ndimage

CROP = 8  # pixels left out at the borders


def smooth_images(count, size, scale=1.0, seed=0):
    """Sums of 24 windowed cosines of at most 0.35 radians per pixel, evaluated at x / scale: [count, size, size, 1]."""
    generator = np.random.default_rng(seed)
    wave = 0.35 * np.sqrt(generator.uniform(size=(count, 24)))
    direction, phase = generator.uniform(0, 2 * np.pi, (2, count, 24))
    amplitude = generator.standard_normal((count, 24))
    x = (np.arange(size) - (size - 1) / 2) / scale
    rows, columns = x[:, None, None, None], x[:, None, None]
    waves = amplitude * np.cos(wave * (np.cos(direction) * rows + np.sin(direction) * columns) + phase)
    window = np.exp(-(x[:, None] ** 2 + x**2) / (2 * (0.22 * size) ** 2))
    return (waves.sum(-1) * window[..., None]).transpose(2, 0, 1)[..., None].astype(np.float32)


def enlarge(features, scale):
    """Zooms [B, H, W, ...] about the centre of the image by cubic splines."""
    centre = (features.shape[1] - 1) / 2
    maps = np.moveaxis(features.reshape(*features.shape[:3], -1), 3, 1).reshape(-1, *features.shape[1:3])
    offset = centre - centre / scale
    zoomed = np.stack([ndimage.affine_transform(m, [1 / scale] * 2, [offset] * 2, order=3) for m in maps])
    zoomed = zoomed.reshape(len(features), -1, *features.shape[1:3])
    return np.moveaxis(zoomed, 1, 3).reshape(features.shape)


def equivariance_error(function, ratio, size=64, count=4):
    """|L Phi(f) - Phi(L f)|^2 / |L Phi(f)|^2 where L enlarges by `ratio`, one step of the scale axis.

    `function` maps images [B, H, W, 1] to features [B, H, W, S, C], or [B, H, W, C] without a scale axis. The
    features of the enlarged image are compared one scale channel further on.
    """
    before = enlarge(np.asarray(function(smooth_images(count, size)), np.float64), ratio)
    after = np.asarray(function(smooth_images(count, size, ratio)), np.float64)
    if before.ndim == 5:
        before, after = before[:, :, :, :-1], after[:, :, :, 1:]
    inside = (slice(None), slice(CROP, -CROP), slice(CROP, -CROP))
    return np.sum((before[inside] - after[inside]) ** 2) / np.sum(before[inside] ** 2)


def assert_scale_equivariant(function, ratio, tolerance):
    """Fails unless features of an enlarged image are the enlarged features, one scale channel further on."""
    error = equivariance_error(function, ratio)
    assert error < tolerance, f"relative squared error {error:.3g} is not below {tolerance:.3g}"
