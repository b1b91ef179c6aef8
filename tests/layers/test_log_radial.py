"""Steered filters against complex numbers, pixel by pixel."""

import itertools

import numpy as np
from slow_maps import layer_and_params, slow_conv

from jaxrepro.layers.log_radial import SteeredConv
from jaxrepro.models.scale.ss_cnn import BASIS

RANDOM = np.random.default_rng(0)


def slow_filter(size, order, angle):
    """A log-radial filter as complex numbers, pixel by pixel, not normalised."""
    half = size // 2
    frequency = 2 * np.pi * order / np.log(np.sqrt(2) * half)
    out = np.zeros((size, size), complex)
    for i, j in np.ndindex(size, size):
        down, right = i - half, j - half
        r = max(np.hypot(down, right), 1.0)
        if np.hypot(down, right) > half:
            continue
        phi = np.arctan2(right, -down)
        d = min(abs(phi - angle), abs(phi + 2 * np.pi - angle), abs(phi - angle - np.pi), abs(phi + np.pi - angle))
        out[i, j] = np.exp(-(d**2) / (2 * (np.pi / 16) ** 2)) / r * np.exp(1j * (frequency * np.log(r) - np.pi / 4))
    return out


def test_ss_cnn_takes_the_maximum_over_steered_kernels():
    sizes = (5, 11)
    x = RANDOM.normal(size=(1, 9, 9, 2)).astype(np.float32)
    found, params = layer_and_params(SteeredConv(3, BASIS, sizes), x)
    answers = []
    for size in sizes:
        kernel = np.zeros((11, 11, 2, 3))
        for (k, order), (f, angle) in itertools.product(enumerate((0.5, 1, 2)), enumerate(np.linspace(0, np.pi, 9))):
            one = slow_filter(11, order, angle)
            turn = 2 * np.pi * order / np.log(np.sqrt(2) * 5) * np.log(size / 11)
            a, b = params["real"][k, f], params["imaginary"][k, f]
            a, b = a * np.cos(turn) + b * np.sin(turn), b * np.cos(turn) - a * np.sin(turn)
            real, imaginary = one.real / np.linalg.norm(one.real), one.imag / np.linalg.norm(one.imag)
            kernel += np.einsum("ab,io->abio", real, a) - np.einsum("ab,io->abio", imaginary, b)
        cut = (11 - size) // 2
        kernel = kernel[cut : 11 - cut, cut : 11 - cut]
        answers.append(slow_conv(x[0], kernel, ((size // 2,) * 2,) * 2))
    np.testing.assert_allclose(found[0], np.max(answers, axis=0), atol=1e-4)
