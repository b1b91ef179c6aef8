"""Checksums of a file, behind its end: HDF5 does not look there, and what is before keeps its bytes.

    seal.write(path)      # once, when the file is whole
    seal.check(path)      # True; UserError where a byte has changed; False for a file without a seal

HDF5 notices few changes of its data: images that are stored plainly have no checksum, nor have texts. A seal is a table
of the CRC-32 of every MiB, its CRC-32 and the size of what it covers. Whoever appends to the file with HDF5 drops it.
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxrepro.errors import UserError

BLOCK = 1 << 20
CHECKED_BLOCKS = 1024  # files up to 1 GiB are read whole, of longer ones this many blocks, evenly spaced
_END = struct.Struct("<QI8s")  # bytes before the table, CRC-32 of the table, mark
_MARK = b"SYNBSEAL"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def write(path: Path) -> None:
    """Appends the checksums of a file to it."""
    with open(path, "r+b") as handle:
        table = bytearray()
        while block := handle.read(BLOCK):
            table += struct.pack("<I", zlib.crc32(block))
        size = handle.tell()
        handle.write(bytes(table) + _END.pack(size, zlib.crc32(table), _MARK))


def check(path: Path) -> bool:
    """Returns whether a file has a seal, after its bytes were compared with it.

    Raises:
      UserError: they have changed. OSError: the file cannot be read.
    """
    with open(path, "rb") as handle:
        length = handle.seek(0, 2)
        if length < _END.size:
            return False
        handle.seek(length - _END.size)
        size, crc, mark = _END.unpack(handle.read())
        num_blocks = -(-size // BLOCK)
        if mark != _MARK:
            _check_end(path, handle, length)
            return False
        if size + 4 * num_blocks + _END.size != length:
            raise _damaged(path, "its length")
        handle.seek(size)
        table = handle.read(4 * num_blocks)
        if zlib.crc32(table) != crc:
            raise _damaged(path, "its checksums")
        for i in range(0, num_blocks, max(1, num_blocks // CHECKED_BLOCKS)):
            handle.seek(i * BLOCK)
            block = handle.read(min(BLOCK, size - i * BLOCK))
            if zlib.crc32(block) != np.frombuffer(table, "<u4")[i]:
                raise _damaged(path, f"a byte after byte {i * BLOCK:,}")
    return True


def _check_end(path: Path, handle: BinaryIO, length: int) -> None:
    """Raises UserError where something stands behind the end that HDF5 has noted: what is left of a seal."""
    handle.seek(0)
    start = handle.read(36)
    if start[:8] == _HDF5 and start[8] in (2, 3) and length > int.from_bytes(start[28:36], "little"):
        raise _damaged(path, "its checksums")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged, cut short or no HDF5 file ({what} changed); copy or write it again")
