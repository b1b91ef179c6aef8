"""Datasets by one string: `config.data.source`.

    splits = load_dataset("tfds:cifar10")                              # {"train": Table, "test": Table}
    splits = load_dataset("tfds:lsun/church_outdoor?size=64")          # pictures of different sizes, scaled and cut
    splits = load_dataset("synbols:default?num_samples=20000&seed=0")  # rendered on first use, then cached
    splits = load_dataset("folder:~/faces.zip?size=64")                # also hdf5:PATH, npz:PATH, mnist5k

Every kind has its own module with a function `load`; adding one is a module and a line in `_KINDS`.
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxrepro.data.dataset import Table
from jaxrepro.errors import UserError, unknown


@dataclass(frozen=True)
class _Kind:
    """How a source is written.

    Attributes:
      module: defines `load`.
      example: for messages.
      argument: "path" of an existing file or folder, "name", or None where nothing follows the kind.
      options: what may stand after "?", with the type of its value.
      downloads: `load` also takes `smoke_command`.
    """

    module: str
    example: str
    argument: str | None
    options: Mapping[str, type] = field(default_factory=dict)
    downloads: bool = False


_KINDS = {
    "tfds": _Kind("jaxrepro.data.tfds", "tfds:cifar10", "name", {"size": int}, downloads=True),
    "synbols": _Kind(
        "jaxrepro.data.synbols",
        "synbols:default?num_samples=20000&seed=0",
        "name",
        {
            "num_samples": int,
            "seed": int,
            "resolution": int,
            "language": str,
            "auxiliary": bool,
            "compat": str,
            "split": str,
            "masks": bool,
            "points": str,
            "pictures": str,
            "fonts_dir": str,
            "system": bool,
            "instances": bool,
            "near_duplicates": bool,
            "normal_weight": int,
            "exclude_fonts": str,
            "strict": bool,
        },
    ),
    "hdf5": _Kind("jaxrepro.data.hdf5", "hdf5:PATH", "path", {"split": str, "masks": bool, "points": str}),
    "npz": _Kind("jaxrepro.data.npz", "npz:PATH", "path"),
    "folder": _Kind("jaxrepro.data.folder", "folder:PATH", "path", {"size": int}),
    "mnist5k": _Kind("jaxrepro.data.mnist5k", "mnist5k", None),
}
_MEANING = {int: "a whole number, 0 or more", str: "a name", bool: "true or false"}
_PARSE = {int: lambda text: int(text.replace("_", "")), str: str, bool: {"true": True, "false": False}.__getitem__}


def load_dataset(spec: str, *, smoke_command: str | None = None) -> dict[str, Table]:
    """Returns the splits of a dataset; see `read_split` for parts of them.

    Args:
      spec: "KIND:WHAT?OPTION=VALUE&…".
      smoke_command: command that runs the same experiment on embedded data, for the message that a download
        failed.

    Returns:
      Split name -> table, with images uint8 [N, H, W, C] as "image" and labels int32 [N] as "label".

    Raises:
      UserError: the source is unknown, missing, damaged, or cannot be downloaded.
    """
    name, _, rest = spec.strip().partition(":")
    name, mark, bare_options = name.partition("?")
    kind = _KINDS.get(name)
    if kind is None:
        raise unknown("data source", spec if not rest else name, [k.example for k in _KINDS.values()])
    what, _, options = rest.partition("?") if not mark else ("", "", bare_options)
    if bool(what) != (kind.argument is not None):
        raise UserError(f"bad data source {spec!r}; write it like {kind.example!r}")
    arguments = [_existing(spec, what)] if kind.argument == "path" else [what] if what else []
    extra = {"smoke_command": smoke_command} if kind.downloads else {}
    return importlib.import_module(kind.module).load(*arguments, **_options(spec, options, kind), **extra)


def facts_of_source(spec: str) -> dict[str, str]:
    """Returns what a source says about the task: "data_set", its name or the file's, and "partition", its split.

    "default" is that of "synbols:default?seed=1" and of the original's file "hdf5:default_n=100000_2020-Oct-19.h5py".
    """
    kind, _, rest = spec.strip().partition(":")
    what, _, options = rest.partition("?")
    name = what if kind in ("synbols", "tfds") else Path(what).stem.partition("_n=")[0] or kind.partition("?")[0]
    chosen = dict(item.partition("=")[::2] for item in options.split("&"))
    usual = "random" if kind in ("synbols", "hdf5") else "official"
    return {"data_set": name, "partition": chosen.get("split", usual)}


def _existing(spec: str, text: str) -> Path:
    path = Path(os.path.expanduser(text)).absolute()
    if not path.exists():
        raise UserError(f"data source {spec!r}: {path} does not exist")
    if path.is_dir() and not spec.strip().startswith("folder:"):
        raise UserError(f"data source {spec!r}: {path} is a folder, not a file; pictures in folders are folder:PATH")
    return path


def _options(spec: str, text: str, kind: _Kind) -> dict[str, Any]:
    """Returns the parsed options after "?"."""
    found: dict[str, Any] = {}
    for item in filter(None, text.split("&")):
        name, equals, value = item.partition("=")
        if name not in kind.options:
            raise unknown(f"option in {spec!r}:", name, kind.options or ["(none)"])
        try:
            found[name] = _PARSE[kind.options[name]](value)
        except (ValueError, KeyError):
            found[name] = None
        if not equals or found[name] in (None, "") or (isinstance(found[name], int) and found[name] < 0):
            raise UserError(f"data source {spec!r}: {name} must be {_MEANING[kind.options[name]]}, not {value!r}")
    return found
