"""Checksums that tell damaged bytes: of bytes and files, and of JSON objects that carry their own.

of_file(path)              # "1048576-89abcdef": size and CRC-32
values = seal({"a": 1})    # {"a": 1, "digest": "…"}
is_sealed(values)          # False where anything of it has changed since
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 1 << 20
CHECKED_BLOCKS = 1024  # files up to 1 GiB are read whole, of longer ones this many blocks, evenly spaced
KEY = "digest"


def of_bytes(data: bytes) -> str:
    """Returns size and CRC-32, "3-352441c2"."""
    return f"{len(data)}-{zlib.crc32(data):08x}"


def of_file(path: Path) -> str:
    """Returns size and CRC-32 of a file, of evenly spaced blocks where it is long."""
    size = path.stat().st_size
    num_blocks = -(-size // BLOCK)
    step = max(1, num_blocks // CHECKED_BLOCKS)
    crc = 0
    with open(path, "rb") as handle:
        for block in range(0, num_blocks, step):
            handle.seek(block * BLOCK)
            crc = zlib.crc32(handle.read(BLOCK), crc)
    return f"{size}-{crc:08x}"


def of_json(value: Any) -> str:
    """Returns the CRC-32 of a value as JSON; tuples count as lists, NumPy's numbers as numbers."""
    text = json.dumps(value, sort_keys=True, default=lambda x: x.item() if isinstance(x, np.generic) else str(x))
    return f"{zlib.crc32(text.encode()):08x}"


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with its own checksum under "digest"."""
    rest = {k: v for k, v in values.items() if k != KEY}
    return rest | {KEY: of_json(rest)}


def is_sealed(values: Any) -> bool:
    """Returns whether a value read from JSON is an object with the checksum that belongs to it."""
    if not isinstance(values, Mapping):
        return False
    return values.get(KEY) == seal(values)[KEY]
