"""Zip archives whose list of members must be whole: Python's zipfile stops without a word at damaged lengths."""

import os
import struct
import zipfile
from pathlib import Path

_END, _MOST_COMMENT, _NOT_HERE = b"PK\x05\x06", 2**16, 0xFFFF


def open_archive(path: Path) -> zipfile.ZipFile:
    """Returns an open archive.

    Raises:
      zipfile.BadZipFile, OSError, ValueError: it is damaged, or has other members than its end says.
    """
    archive = zipfile.ZipFile(path)
    with open(path, "rb") as handle:
        handle.seek(-min(os.fstat(handle.fileno()).st_size, _MOST_COMMENT + 22), os.SEEK_END)
        tail = handle.read()
    (count,) = struct.unpack_from("<H", tail, tail.rfind(_END) + 10)
    if count not in (_NOT_HERE, len(archive.infolist())):
        raise zipfile.BadZipFile(f"{len(archive.infolist())} members are found of {count}")
    return archive
