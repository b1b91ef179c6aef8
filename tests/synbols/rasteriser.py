"""A slow rasteriser: flattened outlines, winding numbers at many points of each pixel, formulas in float64."""

import numpy as np

_CURVE_STEPS = 24


def polygons(path) -> list[np.ndarray]:
    """Returns the closed polygons [n, 2] of a cairo path, curves cut into short lines."""
    import cairo

    found, points = [], []
    for kind, c in path:
        if kind == cairo.PATH_MOVE_TO:
            found.append(points)
            points = [c]
        elif kind == cairo.PATH_LINE_TO:
            points.append(c)
        elif kind == cairo.PATH_CURVE_TO:
            p = np.array([points[-1], c[0:2], c[2:4], c[4:6]])
            for t in np.arange(1, _CURVE_STEPS + 1) / _CURVE_STEPS:
                weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
                points.append(tuple(weights @ p))
    return [np.array(p) for p in [*found, points] if len(p) > 2]


def coverage(shapes: list[np.ndarray], resolution: tuple[int, int], samples: int = 8) -> np.ndarray:
    """Returns the covered share of each pixel [H, W], by the non-zero rule on samples² points per pixel."""
    width, height = resolution
    x = (np.arange(width * samples) + 0.5) / samples
    y = (np.arange(height * samples) + 0.5) / samples
    winding = np.zeros((len(y), len(x)), int)
    for shape in shapes:
        for (x1, y1), (x2, y2) in zip(shape, np.roll(shape, -1, axis=0)):
            if y1 == y2:
                continue
            crossed = (y >= min(y1, y2)) & (y < max(y1, y2))
            at = x1 + (y[crossed] - y1) * (x2 - x1) / (y2 - y1)
            winding[crossed] += np.where(x[None] > at[:, None], 1 if y2 > y1 else -1, 0)
    return (winding != 0).reshape(height, samples, width, samples).mean(axis=(1, 3))


def mapped(path, scale, rotation, is_slant, translation, resolution, compat=None) -> list[np.ndarray]:
    """Returns the polygons in pixels, by the text of the specification; `compat` without its rounding."""
    shapes = polygons(path)
    points = np.concatenate(shapes)
    low, high = points.min(axis=0), points.max(axis=0)
    turn = np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
    if compat == "v1":
        matrix = np.array([[1, 0], [0.2 * is_slant, 1]]) @ turn
    else:
        matrix = turn @ np.array([[1, -0.2 * is_slant], [0, 1]])
    matrix = matrix * scale / max(*(high - low), 0.1)
    corners = np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]) @ matrix.T
    room = np.array(resolution) / min(resolution) - np.ptp(corners, axis=0)
    shift = (np.array(translation) + 1) / 2 * room - corners.min(axis=0)
    return [(shape @ matrix.T + shift) * min(resolution) for shape in shapes]


def gradient(source, resolution: tuple[int, int]) -> np.ndarray:
    """Returns colours [H, W, 4] of a cairo gradient by the formulas; positions are in the unit square."""
    import cairo

    width, height = resolution
    p = np.stack(np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height), axis=-1)
    if isinstance(source, cairo.LinearGradient):
        x1, y1, x2, y2 = source.get_linear_points()
        d = np.array([x2 - x1, y2 - y1])
        t = (p - [x1, y1]) @ d / (d @ d)
    else:
        x1, y1, r1, x2, y2, r2 = source.get_radial_circles()
        # |p - c1 - t d|² = (r1 + t (r2 - r1))², the largest root whose radius is not negative
        d, q, r = np.array([x2 - x1, y2 - y1]), p - [x1, y1], r2 - r1
        a, b, c = d @ d - r * r, q @ d + r1 * r, (q * q).sum(-1) - r1 * r1
        roots = np.stack([(b + s * np.sqrt(b * b - a * c)) / a for s in (1, -1)])
        t = np.where(r1 + roots * r >= 0, roots, -np.inf).max(axis=0)
    stops = sorted(source.get_color_stops_rgba())
    offsets = [s[0] for s in stops]
    return np.stack([np.interp(np.clip(t, 0, 1), offsets, [s[k] for s in stops]) for k in (1, 2, 3, 4)], axis=-1)
