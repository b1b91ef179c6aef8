"""Reads safetensors files: named arrays, and nothing that could be executed.

    tensors = read_safetensors("vgg16.safetensors")      # {"features.0.weight": float32 [64, 3, 3, 3], ...}

Format: the length of the header as a little-endian 64-bit number; the header, JSON from a name to dtype, shape and
place; the arrays' bytes, little-endian, C order.
"""

import json
import math
from pathlib import Path

import numpy as np

from jaxrepro.errors import UserError

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
          "BOOL": "?"}  # fmt: skip
LONGEST_HEADER = 100_000_000  # bytes, as in the reference implementation


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Returns name -> array, each mapped from the file and read when it is used; bfloat16 becomes float32.

    Raises:
      UserError: no such file, or not a sound safetensors file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    try:
        header, start = _header(path)
        data = np.memmap(path, np.uint8, "r", offset=start) if path.stat().st_size > start else np.zeros(0, np.uint8)
        return {name: _array(data, **entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a sound safetensors file ({error})") from None


def _header(path: Path) -> tuple[dict, int]:
    """Returns the header, and the position at which the arrays begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(LONGEST_HEADER, path.stat().st_size - 8):
            raise ValueError(f"its header would have {length} bytes")
        return json.loads(file.read(length)), 8 + length


def _array(data: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    start, stop = data_offsets
    narrow = np.dtype("<u2") if dtype == "BF16" else np.dtype(DTYPES[dtype])
    if not 0 <= start <= stop <= len(data) or stop - start != math.prod(shape) * narrow.itemsize:
        raise ValueError(f"bytes {start} to {stop} cannot be {dtype} {shape}")
    array = data[start:stop].view(narrow).reshape(shape)
    return (array.astype("<u4") << 16).view("<f4") if dtype == "BF16" else array
