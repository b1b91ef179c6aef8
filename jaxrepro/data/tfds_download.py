"""Preparing a TensorFlow Dataset that is not on this machine, or saying quickly why that is impossible.

TFDS itself needs minutes to notice that there is no network, so the dataset's download hosts are tried first.
"""

import importlib.util
import inspect
import logging
import queue
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from jaxrepro.data.cache import locked
from jaxrepro.errors import MissingData, UserError, unknown

_CONNECT_SECONDS = 5
_ALL_SECONDS = 12  # looking up a name can take longer than its connection may
_DEFAULT_URL = "https://storage.googleapis.com/tfds-data"


def prepare(name: str, dirs: Sequence[Path], smoke_command: str | None) -> Path:
    """Returns the folder of a prepared copy; downloads the dataset into dirs[0] unless one of `dirs` has it.

    Raises:
      UserError: no such dataset; its host cannot be reached; preparing it needs TensorFlow or files placed by
        hand.
    """
    builder = _builder(name, dirs[0])
    # The name may have left out a default config, and then `tfds.find_prepared` saw no copy.
    for folder in (d / builder.info.full_name for d in dirs):
        if (folder / "dataset_info.json").exists():
            return folder
    target = Path(builder.data_dir)
    embedded = smoke_command or "add :smoke to the config"
    alternative = f"put a prepared copy at {target}, or use embedded data: {embedded}"
    fault = unreachable(_urls(builder))
    if fault:
        raise MissingData(f"cannot download tfds:{name}: {fault}; {alternative}")
    if _uses_tensorflow(builder) and importlib.util.find_spec("tensorflow") is None:
        raise MissingData(f"preparing tfds:{name} needs TensorFlow: pip install -e .[datasets]; or {alternative}")
    with locked(target):
        if not (target / "dataset_info.json").exists():
            _download(name, _builder(name, dirs[0]), alternative)
    return target


def unreachable(urls: Sequence[str]) -> str | None:
    """Returns what keeps the hosts of `urls` from answering, or None if all do; takes at most 12 seconds.

    Asks as TFDS does, through `requests`, so that proxy settings count.
    """
    by_host = {urlsplit(url).netloc: url for url in urls}
    answers: queue.Queue = queue.Queue()
    for host, url in by_host.items():
        # Daemons, because a thread that hangs in the look-up of a name must not keep the process from ending.
        Thread(target=lambda h=host, u=url: answers.put((h, _ask(u))), daemon=True).start()
    waiting, deadline = set(by_host), time.monotonic() + _ALL_SECONDS
    while waiting:
        try:
            host, fault = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            host, fault = min(waiting), "no answer"
        if fault:
            return f"{host} cannot be reached ({fault})"
        waiting.discard(host)
    return None


def _ask(url: str) -> str | None:
    import requests

    try:
        with requests.get(url, stream=True, timeout=_CONNECT_SECONDS) as response:
            return f"HTTP {response.status_code}" if response.status_code >= 400 else None
    except requests.RequestException as error:
        return type(error).__name__


def _builder(name: str, folder: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        # Without array_record, preparing would need TensorFlow and reading could not be random.
        return tfds.builder(name, data_dir=folder, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise unknown("TFDS dataset", name, tfds.list_builders(with_community_datasets=False)) from error
    except (ValueError, AttributeError, ImportError) as error:
        raise UserError(f"tfds:{name} cannot be used: {error}") from error


def _urls(builder: Any) -> list[str]:
    """Returns one download address per host, as far as TFDS knows them."""
    by_host = {urlsplit(url).netloc: url for url in reversed(list(builder.url_infos or ()))}
    return list(by_host.values()) or [_DEFAULT_URL]


def _uses_tensorflow(builder: Any) -> bool:
    """Whether the code that prepares the dataset mentions TensorFlow, to know before a long download."""
    module = sys.modules[type(builder).__module__]
    return re.search(r"\btf\.\w", inspect.getsource(module)) is not None


def _download(name: str, builder: Any, alternative: str) -> None:
    import requests

    logging.info("downloading and preparing tfds:%s into %s", name, builder.data_dir)
    try:
        builder.download_and_prepare()
    except ModuleNotFoundError as error:
        raise MissingData(
            f"preparing tfds:{name} needs {error.name}: pip install -e .[datasets]; or {alternative}"
        ) from error
    except (requests.RequestException, OSError, AssertionError) as error:
        # TFDS asserts that files which only a person can download have been put in place.
        raise MissingData(f"cannot prepare tfds:{name} ({error}); {alternative}") from error
