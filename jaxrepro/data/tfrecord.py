"""TFRecord files, read with their checksums, which Grain's reader passes over.

A record is its length (uint64), the masked CRC-32C of these eight bytes, its bytes, and their masked CRC-32C. Source:
TensorFlow's guide on TFRecord, "TFRecords format details".
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_HEAD, _CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a file.

    Raises:
      ValueError: a byte has changed, or the file was cut short.
    """
    size = path.stat().st_size
    with open(path, "rb") as handle:
        while head := handle.read(_HEAD.size):
            if len(head) < _HEAD.size or masked_crc32c(head[:8]) != _HEAD.unpack(head)[1]:
                raise ValueError(f"{path.name} is damaged: the length of a record is cut short or changed")
            length = min(_HEAD.unpack(head)[0], size)
            record, checksum = handle.read(length), handle.read(_CHECKSUM.size)
            if len(checksum) < _CHECKSUM.size or masked_crc32c(record) != _CHECKSUM.unpack(checksum)[0]:
                raise ValueError(f"{path.name} is damaged: the bytes of a record are cut short or changed")
            yield record


def write_record(record: bytes) -> bytes:
    """Returns a record as it stands in a file."""
    length = struct.pack("<Q", len(record))
    return length + _CHECKSUM.pack(masked_crc32c(length)) + record + _CHECKSUM.pack(masked_crc32c(record))


def masked_crc32c(data: bytes) -> int:
    """Returns the CRC-32C of some bytes, turned by 15 bits and moved by a constant, as TFRecord stores it."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
