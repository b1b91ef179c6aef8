"""Sizes that data may have, checked against what a file's header says, before anything is read or allocated."""

from jaxrepro.errors import UserError

MOST_EXPANSION = 250  # bytes in memory for a byte in the file; dSprites, drawings of shapes, has 115
SMALL_BYTES = 64 * 2**20  # below this, nobody minds
MOST_PIXELS = 2**25  # of a picture; eight are decoded at a time
MOST_PICTURE_BYTES = 2**28  # of an encoded picture


def check_expansion(where: str, stored: int, num_bytes: int) -> None:
    """Raises UserError where compressed data says to be so much larger in memory that it can only be a mistake.

    Args:
      stored: bytes in the file.
      num_bytes: in memory, by the file's own headers.
    """
    if num_bytes > max(SMALL_BYTES, MOST_EXPANSION * stored):
        raise UserError(
            f"{where} says that its {stored / 1e6:,.1f} MB become {num_bytes / 1e9:,.1f} GB; no pictures are "
            f"compressed {MOST_EXPANSION}-fold, so it is damaged or a bomb; if it is neither, store it uncompressed"
        )
