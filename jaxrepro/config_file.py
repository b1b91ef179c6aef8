"""Config files: load one with a preset, apply command-line overrides, compare two configs.

    config = load("configs/yoto_cifar.py:smoke")
    override(config, "optim.lr", "3e-4")

A config file defines `get_config(preset) -> ConfigDict`, `PRESETS` (name -> dotted-path overrides), and
`sweep(preset)`, the points of the paper's tables as dotted-path overrides. Overrides are parsed here and not by
`ml_collections.config_flags`, whose errors do not name the nearest key ("Did you mean: config ?") nor an example of
the type; the types themselves are the ConfigDict's business here, their contents that of `jaxrepro.config.parse`.
"""

import ast
import hashlib
import importlib.util
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxrepro.config import RunConfig, shown, to_dict
from jaxrepro.errors import UserError, unknown
from jaxrepro.progress import say

# Sections and keys that may differ when a run is resumed: they change what is kept and where it runs, not the result.
RESUMABLE = ("log", "checkpoint", "parallel", "eval", "train.duration", "data.resident_limit_mb")
# Keys that have moved; overrides still find them.
RENAMED = {
    "l2": "optim.l2",
    "linear_decay": "optim.linear_tail",
    "decay.after": "optim.drops",
    "decay.factor": "optim.drop_factor",
    **{f"plateau.{name}": f"optim.plateau.{name}" for name in ("factor", "patience", "threshold", "stop_at")},
}
LONGEST_NAME = 160  # of a sweep point's folder; file systems end at 255 bytes


def make_config(config: RunConfig, preset: str, presets: Mapping[str, Mapping[str, Any]]) -> ConfigDict:
    """Returns the locked ConfigDict of a typed config with a preset's overrides applied.

    Args:
      config: the paper's values, an experiment's own dataclass.
      preset: a key of `presets`, or "paper" for `config` as it is.
      presets: preset -> {dotted path: value}.

    Raises:
      UserError: no such preset, or an override that fits no key.
    """
    if preset not in {"paper", *presets}:
        raise unknown(f"preset of {config.name}", preset, {"paper", *presets})
    result = ConfigDict(to_dict(config))
    result.lock()
    for path, value in {"preset": preset, **presets.get(preset, {})}.items():
        set_value(result, path, value)
    return result


def load_module(path: str) -> Any:
    """Returns the module of a config file.

    Raises:
      UserError: the file does not exist or defines no `get_config`.
    """
    file = Path(path)
    if not file.is_file():
        known = sorted(str(p) for p in (file.parent if file.parent.is_dir() else Path("configs")).glob("[a-z]*.py"))
        raise unknown("config file", path, known)
    spec = importlib.util.spec_from_file_location(f"jaxrepro_config_{file.stem}", file)
    if spec is None:
        raise UserError(f"config file {path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    call(file, spec.loader.exec_module, module)
    if not hasattr(module, "get_config"):
        raise UserError(f"config file {path} defines no get_config(preset)")
    return module


def call(file: Path, function: Callable, *arguments: Any) -> Any:
    """Returns what a function of a config file gives; what goes wrong in it is named with its line.

    Raises:
      UserError: the function raised.
    """
    try:
        return function(*arguments)
    except UserError:
        raise
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise UserError(f"{error.filename or file}{where}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f", line {lines[-1]}" if lines else ""
        raise UserError(f"{file}{where}: {type(error).__name__}: {error}") from None


def split_preset(path_and_preset: str) -> tuple[str, str]:
    """Returns (path, preset) of "configs/yoto_cifar.py:smoke"; the preset is "paper" where none is given."""
    path, _, preset = path_and_preset.partition(":")
    return path, preset or "paper"


def load(path_and_preset: str) -> ConfigDict:
    """Returns the config of "FILE[:PRESET]"."""
    path, preset = split_preset(path_and_preset)
    config = call(Path(path), load_module(path).get_config, preset)
    if not isinstance(config, ConfigDict) or not isinstance(config.get("experiment"), str):
        raise UserError(f"{path}: get_config({preset!r}) gives no config; return make_config(...) of an experiment")
    return config


def sweep_points(path_and_preset: str) -> list[dict[str, Any]]:
    """Returns the points of a config file's `sweep(preset)`, each a dict of dotted-path overrides."""
    path, preset = split_preset(path_and_preset)
    module = load_module(path)
    if not hasattr(module, "sweep"):
        raise UserError(f"config file {path} defines no sweep(preset); run it without --sweep")
    points = call(Path(path), module.sweep, preset)
    if not isinstance(points, list | tuple) or not all(isinstance(p, Mapping) for p in points):
        raise UserError(f"{path}: sweep({preset!r}) gives no list of points, each a dict of overrides")
    names = [point_name(point) for point in points]
    if not points or len(set(names)) < len(names):
        fault = "the same point twice" if points else "no points"
        raise UserError(f"{path}: sweep({preset!r}) gives {fault}; every point is a run of its own")
    return list(points)


def point_name(point: Mapping[str, Any]) -> str:
    """Returns a sweep point's folder name, e.g. "model.width=2,model.beta=16.0"; a long one ends in a hash."""
    text = ",".join(f"{k}={v}" for k, v in point.items()) or "default"
    name = "".join(c if c.isalnum() or c in "=.,-_()" else "_" for c in text)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def set_value(config: ConfigDict, path: str, value: Any) -> None:
    """Sets config.<path> to `value`, which must have the type of the value it replaces.

    Raises:
      UserError: no such key (with the nearest one), a section in place of a value, or another type.
    """
    *sections, last = path.split(".")
    node, walked = config, "config"
    for name in [*sections, last]:
        if not isinstance(node, ConfigDict):
            raise UserError(f"{walked} is a value, not a section; it has no key {name!r}")
        if name not in node:
            raise unknown(f"key in {walked}:", name, node.keys())
        walked, parent, node = f"{walked}.{name}", node, node[name]
    if isinstance(node, ConfigDict):
        raise UserError(f"{walked} is a section; set one of its keys: {', '.join(sorted(node.keys()))}")
    try:
        if isinstance(value, bool) != isinstance(node, bool):  # a ConfigDict takes True for 1
            raise TypeError
        parent[last] = value  # which makes a float of an int, a tuple of a list, and refuses other types
    except (TypeError, OverflowError):  # an int that is too large for a float
        kind, example = type(node).__name__, f"(such as {node!r})"
        raise UserError(f"{walked} is {shown(value)} ({type(value).__name__}); it must be {kind} {example}") from None


def override(config: ConfigDict, path: str, text: str) -> None:
    """Applies a command-line override; `text` is a Python literal, or a bare word for a string key."""
    if path in RENAMED and path.split(".")[0] not in config:
        say(f"config.{path} is now config.{RENAMED[path]}")
        path = RENAMED[path]
    current = config
    for name in path.split("."):
        current = current[name] if isinstance(current, ConfigDict) and name in current else None
    value: Any = text
    if not isinstance(current, str):
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = text
    set_value(config, path, value)


def flatten(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns {dotted path: value} of every leaf of nested dicts."""
    found = {}
    for name, value in config.items():
        found |= flatten(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return found


def is_resumable(path: str) -> bool:
    """Returns whether the key may differ when a run is resumed."""
    return any(path == r or path.startswith(r + ".") for r in RESUMABLE)


def check_resumable(old: Mapping[str, Any], new: Mapping[str, Any], workdir: Path) -> None:
    """Raises UserError if a run folder's config differs in a field that decides the result."""
    a, b = flatten(old), flatten(new)
    differing = [k for k in sorted({*a, *b}) if a.get(k) != b.get(k) and not is_resumable(k)]
    if differing:
        fields = "; ".join(f"config.{k} was {a.get(k)!r}, now {b.get(k)!r}" for k in differing)
        raise UserError(f"{workdir} holds a run with another config: {fields}. Give another --workdir, or --restart")
