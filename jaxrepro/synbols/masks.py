"""What becomes of an image's masks: one label per pixel, overlaps, the first symbol apart.

An aggregator maps the masks of one image, uint8 [H, W, n] with the coverage 0 … 255 of each whole symbol, to
(mask, extra attributes). Labels are uint8, not the original's float64.
"""

from typing import Any

import numpy as np

from jaxrepro.errors import UserError

_VISIBLE = 2  # coverage up to which a pixel does not count as the symbol's


def overlap_score(masks: np.ndarray) -> float:
    """Returns the share of pixels where the coverages of all symbols add up to 256 or more."""
    total = np.add.reduce(np.moveaxis(masks, -1, 0), axis=0, dtype=np.uint16)  # images keep their masks as planes
    return float(np.count_nonzero(total >= 256) / total.size)


def flatten_mask(masks: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns labels uint8 [H, W] and {"overlap_score": share}.

    Symbol k, counted from 1, labels the pixels where its coverage exceeds 2; later symbols overwrite earlier ones.
    """
    return _labels(masks), {"overlap_score": overlap_score(masks)}


def flatten_mask_except_first(masks: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns uint8 [H, W, 2]: the first symbol's coverage 0 … 255, and the labels of the others, counted from 1."""
    if not masks.shape[-1]:
        raise UserError("flatten_mask_except_first needs images with one symbol or more")
    return np.stack([masks[..., 0], _labels(masks[..., 1:])], axis=-1), {}


def _labels(masks: np.ndarray) -> np.ndarray:
    if masks.shape[-1] > 255:
        raise UserError(f"an image has {masks.shape[-1]} symbols; flat masks hold 255 labels")
    labels = np.zeros(masks.shape[:2], np.uint8)
    for k, plane in enumerate(np.moveaxis(masks, -1, 0), start=1):
        own = (plane > _VISIBLE).view(np.uint8)
        own *= np.uint8(k)
        np.maximum(labels, own, out=labels)  # a later label is the larger one
    return labels
