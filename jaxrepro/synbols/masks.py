"""What becomes of an image's masks: one label per pixel, overlaps, the first symbol apart.

An aggregator maps the masks of one image, uint8 [H, W, n] with the coverage 0 … 255 of each whole symbol, to
(mask, extra attributes). Labels are uint8, not the original's float64.
"""

from collections.abc import Callable, Mapping
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


def aggregated(aggregator: Callable, masks: np.ndarray) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Returns what an aggregator makes of the masks of one image; UserError if that is no such pair."""
    found = aggregator(masks)
    if isinstance(found, tuple | list) and len(found) == 2 and isinstance(found[1], Mapping):
        mask = np.asarray(found[0])
        if mask.shape[:2] == masks.shape[:2] and mask.ndim in (2, 3):
            return mask, found[1]
    raise UserError(f"the mask_aggregator gave {_described(found)}; it must give a mask [H, W] or [H, W, K] and a dict")


def _described(found: Any) -> str:
    if isinstance(found, tuple | list):
        return f"({', '.join(map(_described, found))})"
    return f"an array {list(found.shape)}" if isinstance(found, np.ndarray) else repr(found)


def storable(mask: np.ndarray) -> np.ndarray:
    """Returns a mask as uint8, which files hold."""
    if mask.dtype == np.uint8:
        return mask
    with np.errstate(invalid="ignore"):
        stored = mask.astype(np.uint8)
    if not np.array_equal(stored, mask):
        raise UserError("the mask_aggregator gave numbers that are not whole or not 0 to 255; files hold uint8")
    return stored


def _labels(masks: np.ndarray) -> np.ndarray:
    if masks.shape[-1] > 255:
        raise UserError(f"an image has {masks.shape[-1]} symbols; flat masks hold 255 labels")
    labels = np.zeros(masks.shape[:2], np.uint8)
    for k, plane in enumerate(np.moveaxis(masks, -1, 0), start=1):
        own = (plane > _VISIBLE).view(np.uint8)
        own *= np.uint8(k)
        np.maximum(labels, own, out=labels)  # a later label is the larger one
    return labels
