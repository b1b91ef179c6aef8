"""What foreign files were when they were first read.

    found = {"faces.h5": digests.of_file(path)}
    known.compare("hdf5:/data/faces.h5", found)         # before anything is read
    known.note("hdf5:/data/faces.h5", found)            # when it was read without an error

Most formats cannot tell a flipped byte, nor that a file was replaced. So the first reading notes a digest of every file
in `$JAXREPRO_DATA/known`, and later ones compare. A source that has changed is refused until its record is deleted, as
SSH does with hosts. Formats that check themselves (npz, files of our generator, the cache) need no record.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from jaxrepro import digests
from jaxrepro.data.cache import data_dir
from jaxrepro.errors import UserError
from jaxrepro.writers import write_json


def record_of(source: str) -> Path:
    """Returns where the record of a source lies, whether or not it exists."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", source)[-60:]
    return data_dir() / "known" / f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:12]}.json"


def compare(source: str, found: Mapping[str, str]) -> None:
    """Compares the files of a source with those of its first reading, where there was one.

    Args:
      source: what the user reads, with the absolute path: "folder:/data/faces".
      found: name of every file -> its digest.

    Raises:
      UserError: a file has changed, is missing or is new.
    """
    record = _read(source)
    if record and (difference := _difference(record["files"], found)):
        raise UserError(
            f"{source} is not what it was when it was first read, on {record['date']}: {difference};"
            f" bring the old bytes back, or accept the new ones with: rm {record_of(source)}"
        )


def note(source: str, found: Mapping[str, str]) -> None:
    """Notes the files of a source that was read without an error, unless that was done before.

    Raises:
      UserError: the record cannot be written.
    """
    path = record_of(source)
    if _read(source, say=False):
        return
    try:
        write_json(path, digests.seal({"source": source, "date": date.today().isoformat(), "files": dict(found)}))
    except OSError as error:
        raise UserError(
            f"cannot write {path.parent}: {error.strerror}; set JAXREPRO_DATA to a folder that can be written"
        ) from error


def forget(source: str) -> None:
    """Deletes the record of a source that turned out to be damaged at its first reading, so that it can be mended."""
    record_of(source).unlink(missing_ok=True)


def _read(source: str, *, say: bool = True) -> dict | None:
    """Returns the record of a source, or None where there is none, with a warning where it is damaged."""
    path = record_of(source)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        record = None
    if digests.is_sealed(record):
        return record
    if say:
        logging.warning("%s is damaged and is written again; %s was not compared with it", path, source)
    return None


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Returns such as "1 file changed (a/0.png), 2 new (b/3.png, b/4.png)", or ""."""
    both = old.keys() & new.keys()
    kinds = {
        "changed": sorted(k for k in both if old[k] != new[k]),
        "missing": sorted(old.keys() - both),
        "new": sorted(new.keys() - both),
    }
    parts = [f"{len(v)} {k} ({', '.join(v[:2])}{', …' * (len(v) > 2)})" for k, v in kinds.items() if v]
    return "files " + ", ".join(parts) if parts else ""
