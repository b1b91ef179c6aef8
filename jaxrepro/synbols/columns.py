"""The attributes of many samples as columns of numbers, which is what experiments read.

    columns = attribute_columns(attributes, symbols=("a", "b"), font_names=("Arvo", "Lato"))
    columns["label"], columns["rotation"]

For images of several symbols, they are the first symbol's; `num_symbols` says how many there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrepro.errors import UserError

FLAGS = ("is_bold", "is_slant", "inverse_color")
NUMBERS = ("rotation", "scale", "translation_x", "translation_y")
OPTIONAL = ("overlap_score",)  # what mask aggregators add


def attribute_columns(
    attributes: Sequence[Mapping[str, Any]],
    symbols: Sequence[str] | None = None,
    font_names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the attribute dicts of N samples as arrays [N].

    Args:
      attributes: what the generator yields as `y`, from this generator or the original.
      symbols, font_names: the classes, in order; without them the distinct values that occur, sorted, which is how
        the published experiments number them.

    Returns:
      label (number of the character) and font int32, -1 for an image without a symbol; is_bold, is_slant and
      inverse_color (where recorded) bool; rotation (radians), scale, translation_x, translation_y float32, NaN for
      an image without a symbol; num_symbols int32; overlap_score float32 where the masks were flattened.

    Raises:
      UserError: a sample lacks an attribute, or has a character or a font that is no class.
    """
    rows = [{**_NOTHING, **row} if row.get("symbols") == [] and "char" not in row else row for row in attributes]
    try:
        columns = {
            "label": numbered("char", [row["char"] for row in rows], symbols),
            "font": numbered("font", [row["font"] for row in rows], font_names),
            "num_symbols": np.array([len(row["symbols"]) if "symbols" in row else 1 for row in rows], np.int32),
            "rotation": np.array([row["rotation"] for row in rows], np.float32),
            "scale": np.array([row["scale"] for row in rows], np.float32),
        }
        # One number as translation holds for both axes.
        translation = [t if isinstance(t, list | tuple) else (t, t) for t in (row["translation"] for row in rows)]
        columns["translation_x"], columns["translation_y"] = np.array(translation, np.float32).reshape(-1, 2).T.copy()
        for name in FLAGS:
            if all(name in row for row in rows):
                columns[name] = np.array([str(row[name]) == "True" for row in rows])  # the original writes strings
        for name in OPTIONAL:
            if all(name in row for row in rows):
                columns[name] = np.array([row[name] for row in rows], np.float32)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the attributes are not those that Synbols writes ({error!r})") from error
    return columns


def check_classes(attributes: Sequence[Mapping[str, Any]], symbols: Sequence[str], font_names: Sequence[str]) -> None:
    """Raises UserError where a sample is of none of the classes that are given: nobody could read its file."""
    for name, classes, argument in (("char", symbols, "symbols"), ("font", font_names, "font_names")):
        drawn = {row[name] for row in attributes if name in row} if classes else set()
        if unknown := sorted(drawn.difference(classes)):
            raise UserError(
                f"the sampler draws the {name} {unknown[0]!r}, which is none of the {len(classes)} {argument}; "
                "name all that can occur, or none"
            )


_NOTHING = {
    "char": None, "font": None, "is_bold": False, "is_slant": False,
    "rotation": np.nan, "scale": np.nan, "translation": (np.nan, np.nan),
}  # fmt: skip


def numbered(name: str, values: Sequence[str | None], classes: Sequence[str] | None = None) -> np.ndarray:
    """Returns the class numbers of values, int32 [N]; None, for an image without a symbol, is -1.

    Args:
      name: what the values are, for the message.
      classes: in the order of their numbers; None: the values that occur, sorted.
    """
    if classes is None:
        classes = sorted({v for v in values if v is not None})
    number: dict[str | None, int] = {None: -1} | {c: i for i, c in enumerate(classes)}
    try:
        return np.array([number[v] for v in values], np.int32)
    except KeyError as error:
        raise UserError(f"the {name} {error.args[0]!r} of a sample is none of the dataset's {len(classes)}") from error
