"""Scale-equivariant layers again, slowly, from the formulas of Sosnovik et al. 2020 in NumPy and SciPy alone."""

import numpy as np
from scipy import signal, special


def support(kernel_size, sigma, largest):
    return 2 * ((kernel_size * sigma / largest) // 1 // 2) + 1


def psi(row_order, column_order, sigma, a, b):
    """The function of width sigma at row a and column b, written out with SciPy's polynomials."""
    gauss = np.exp(-(a * a + b * b) / (2 * sigma * sigma)) / sigma**2
    return gauss * special.eval_hermitenorm(row_order, a / sigma) * special.eval_hermitenorm(column_order, b / sigma)


def family_a(size):
    """[(divisor, row order, column order)], row orders fastest."""
    return [(1, i % size, i // size) for i in range(size * size)]


def family_b(count, divisor, max_order):
    """Levels of falling width, each with all orders up to a total, cut to `count` functions."""
    triangle = [(n, m) for m in range(max_order + 1) for n in range(max_order + 1) if n + m <= max_order]
    return [(divisor ** (i // len(triangle)), *triangle[i % len(triangle)]) for i in range(count)]


def basis(kernel_size, sigmas, functions):
    """[functions, scales, kernel_size, kernel_size], float64, divided by the norms at the first scale."""
    values = np.zeros((len(functions), len(sigmas), kernel_size, kernel_size))
    centre = kernel_size // 2
    for i, (divisor, n, m) in enumerate(functions):
        for j, sigma in enumerate(sigmas):
            radius = int(support(kernel_size, sigma, max(sigmas))) // 2
            for a in range(-radius, radius + 1):
                for b in range(-radius, radius + 1):
                    values[i, j, centre + a, centre + b] = psi(n, m, sigma / divisor, a, b)
        values[i] /= np.sqrt((values[i, 0] ** 2).sum())
    return values


def correlate(x, kernel, padding):
    """[H, W] with [k, k], zeros around x."""
    return signal.correlate2d(np.pad(x, padding), kernel, "valid")


def lift(images, weights, values, padding):
    """[B, H, W, I] with [F, I, O] to [B, H', W', S, O]."""
    num_scales = values.shape[1]
    return np.stack([_layer(images, weights, values[:, j], padding) for j in range(num_scales)], axis=3)


def scale_conv(x, weights, values, padding):
    """[B, H, W, S, I] with [F, N, I, O] to [B, H', W', S, O]."""
    num_scales, num_taps = values.shape[1], weights.shape[1]
    results = []
    for j in range(num_scales):
        taps = [q for q in range(num_taps) if j + q < num_scales]
        results.append(sum(_layer(x[:, :, :, j + q], weights[:, q], values[:, j], padding) for q in taps))
    return np.stack(results, axis=3)


def _layer(x, weights, values, padding):
    kernels = np.tensordot(weights, values, (0, 0))  # [I, O, k, k]
    return np.stack(
        [
            np.stack(
                [
                    sum(correlate(image[:, :, c], kernels[c, o], padding) for c in range(x.shape[3]))
                    for o in range(weights.shape[2])
                ],
                axis=-1,
            )
            for image in x
        ]
    )
