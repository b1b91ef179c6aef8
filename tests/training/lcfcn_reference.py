"""LCFCN term by term, with scikit-image, in double precision: slow, and written from the formulas."""

import numpy as np
from skimage.measure import label
from skimage.morphology import black_tophat
from skimage.segmentation import find_boundaries, watershed


def boundaries(probability, points):
    """Returns where floods from the points meet on the black top-hat of a map."""
    markers = np.zeros(points.shape, int)
    for number, (row, column) in enumerate(np.argwhere(points), start=1):
        markers[row, column] = number
    relief = black_tophat(probability, np.ones((7, 7), bool))
    return find_boundaries(watershed(relief, markers), mode="thick")


def mean_over(log, pixels):
    return -log[pixels].mean() if pixels.any() else 0.0


def loss(logits, points, package, mask, probability):
    """Returns the loss of one image, a float.

    Args:
      logits: float64 [H, W, 2], or [H, W, 1] for the later package.
      mask, probability: the prediction that the targets are made from, bool and float32 [H, W].
    """
    difference = logits[..., 0] if package else logits[..., 1] - logits[..., 0]
    one = 1 / (1 + np.exp(-difference))
    log1, log0, total = -np.logaddexp(0, -difference), -np.logaddexp(0, difference), points.sum()
    if package:
        image = -log0.flat[one.argmin()] - (log1.flat[one.argmax()] if total else 0)
    else:
        image = -log0.flat[(1 - one).argmax()]
        image -= log1.flat[one.argmax()] if total else np.log(1 - one.max())
    blobs = label(mask, connectivity=2)
    split, false, several, empty = 0.0, 0.0, 0, 0
    for number in range(1, blobs.max() + 1):
        blob = blobs == number
        inside = (points & blob).sum()
        if inside == 0:
            false, empty = false + mean_over(log0, blob), empty + 1
        if inside >= 2:
            several += 1
            split += (inside - 1) * mean_over(log0, boundaries(probability, points & blob) & blob)
    if not package:
        split, false = split / max(1, several), false / max(1, empty)
        split += total * mean_over(log0, boundaries(probability, points)) if several else 0
    elif total > 1:
        split += (total - 1) * mean_over(log0, boundaries(probability, points))
    return image - log1[points].sum() + split + false
