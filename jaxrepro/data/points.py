"""Points of counted letters, made from masks: one pixel deep inside every such letter that can be seen.

    points = point_map(labels, ["a", "k", "a"], "a")                # bool [H, W]
    columns = point_columns(masks, attributes, "a")                 # of many images, packed to bits
    points = unpack_points(columns["points"], width=128)            # bool [N, H, W]

A point is the pixel with the largest Euclidean distance to whatever is not the letter, the first one of equals. Letters
that others cover wholly have none. Source: Synbols (Lacoste et al., 2020), section 4 and the released benchmark code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrepro.errors import check


def point_map(labels: np.ndarray, letters: Sequence[str], counted: str) -> np.ndarray:
    """Returns where the points of an image are, bool [H, W].

    Args:
      labels: uint8 [H, W], 0 or the number, from 1, of the symbol that is seen; see `synbols.masks.flatten_mask`.
      letters: of all symbols, in order.
      counted: the letter whose symbols have points.
    """
    from scipy import ndimage

    points = np.zeros(labels.shape, bool)
    for number, (box, letter) in enumerate(zip(ndimage.find_objects(labels), letters), start=1):
        if box is None or letter != counted:
            continue
        # One pixel around the box is enough: what is farther away is behind a nearer pixel that is not the letter.
        around = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        depth = ndimage.distance_transform_edt(labels[around] == number)
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        points[around[0].start + row, around[1].start + column] = True
    return points


def letter_size(labels: np.ndarray, letters: Sequence[str], counted: str) -> float:
    """Returns the root of the mean visible area of the counted letters, in pixels; NaN where there are none."""
    areas = np.bincount(labels.ravel(), minlength=len(letters) + 1)[1 : len(letters) + 1]
    own = areas[(np.array(list(letters)) == counted) & (areas > 0)]
    return float(np.sqrt(own.mean())) if len(own) else float("nan")


def point_columns(masks: np.ndarray, attributes: Sequence[Mapping[str, Any]], counted: str) -> dict[str, np.ndarray]:
    """Returns columns of N images: "points" uint8 [N, H, ceil(W / 8)], bits; "letter_size" float32 [N].

    Args:
      masks: uint8 [N, H, W], labels as of `point_map`.
      attributes: of the images, with "symbols".

    Raises:
      UserError: the masks are no maps of labels.
    """
    check(
        masks.ndim == 3,
        f"masks of {list(masks.shape[1:])}: points need one label per pixel; take a dataset such as counting",
    )
    masks = masks.astype(np.uint8, copy=False)  # the original's files hold float64
    letters = [[symbol["char"] for symbol in row["symbols"]] for row in attributes]
    maps = [point_map(labels, names, counted) for labels, names in zip(masks, letters, strict=True)]
    sizes = [letter_size(labels, names, counted) for labels, names in zip(masks, letters, strict=True)]
    return {"points": np.packbits(np.stack(maps), axis=-1), "letter_size": np.array(sizes, np.float32)}


def unpack_points(packed: np.ndarray, width: int) -> np.ndarray:
    """Returns points bool [N, H, W] of uint8 [N, H, ceil(W / 8)]."""
    return np.unpackbits(packed, axis=-1, count=width).view(bool)
