"""Test errors by the scale of the image: does a network that follows scale need fewer examples of each?

    records = binned("CNN", wrong, scales)                       # images whose scales are known
    records = zoomed_errors("WRN", judge, variables, arrays)     # images that are zoomed for the test

A record is one point of the curve: table "error by scale", the network's row, column "scale 0.6", percent.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.evaluators.equivariance import zoomed
from jaxrepro.experiment import Record

TABLE = "error by scale"
BINS = 7
ZOOMS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)


def binned(label: str, wrong: np.ndarray, scales: np.ndarray) -> list[Record]:
    """Returns the mean error in bins of equal width between the lowest and the highest scale; empty bins have none.

    Args:
      label: row of the records.
      wrong: [N], 100 for a mistake, else 0.
      scales: [N], of the images.
    """
    edges = np.linspace(scales.min(), scales.max(), BINS + 1)
    place = np.clip(np.searchsorted(edges, scales, side="right") - 1, 0, BINS - 1)
    middles = (edges[:-1] + edges[1:]) / 2
    return [
        Record(TABLE, label, f"scale {middle:.2f}", "error", float(wrong[place == i].mean()), "percent")
        for i, middle in enumerate(middles)
        if (place == i).any()
    ]


def zoomed_errors(
    label: str,
    judge: Callable[[Any, Mapping], Mapping],
    variables: Any,
    arrays: Mapping,
    zooms: Sequence[float] = ZOOMS,
) -> list[Record]:
    """Returns the error of images that are all zoomed about their centre by one factor, for several factors.

    Args:
      judge: of `evaluators.classification.make_judge`.
      arrays: "image" uint8 [N, H, W, C], "label" int32 [N]; black surrounds what is shrunk.
    """
    enlarge, records = jax.jit(zoomed), []
    for factor in zooms:
        rows = {"image": enlarge(arrays["image"], jnp.float32(factor)), "label": arrays["label"]}
        error = float(judge(variables, rows)["wrong"].mean())
        records.append(Record(TABLE, label, f"scale {factor:.2f}", "error", error, "percent"))
    return records
