"""Weights of other people's networks: a safetensors file, or one of the Hugging Face hub. Never a pickle.

    tensors = read_weights("vgg16.safetensors")      # {"features.0.weight": float32 [64, 3, 3, 3], ...}
    tensors = read_weights("timm/vgg16.tv_in1k")     # the same, downloaded once

Needs the extra `pretrained`. The hub's address, its cache and working offline are set as for the library
huggingface_hub (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE).
"""

import os
import re
from pathlib import Path

import numpy as np

from jaxrepro.errors import UserError

FILE_OF_REPOSITORY = "model.safetensors"


def read_weights(source: str | Path) -> dict[str, np.ndarray]:
    """Returns name -> array.

    Args:
      source: path of a safetensors file, or the name of a repository of the hub that has a model.safetensors.

    Raises:
      UserError: no such file, not a sound safetensors file, or the hub does not answer or lacks it.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise UserError("reading weights needs the extra `pretrained`: pip install -e .[pretrained]") from None
    path = Path(os.path.expanduser(source))
    if not path.is_file() and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(?<!\.safetensors)", str(source)):
        path = _download(str(source))
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:  # KeyError: a type of number that NumPy lacks
        raise UserError(f"{path} is not a sound safetensors file ({error})") from None


def _download(repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, FILE_OF_REPOSITORY))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot get {FILE_OF_REPOSITORY} of {repository} ({error}); give the path of a safetensors file"
        ) from None
