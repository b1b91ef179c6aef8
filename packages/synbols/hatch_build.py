"""Takes the dependencies of the generator, with their versions, from the pyproject.toml of the whole."""

import re
import tomllib
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

NEEDED = {"gflanguages", "h5py", "matplotlib", "numpy", "pillow", "pycairo", "tqdm", "uharfbuzz"}
EXTRAS = {"similar": {"scipy"}}  # an extra of the generator alone -> what it takes of the whole's dependencies


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        project = tomllib.loads((Path(self.root) / "../../pyproject.toml").read_text())["project"]
        name = {line: re.match(r"[\w.-]+", line)[0].lower() for line in project["dependencies"]}
        metadata["dependencies"] = [d for d, n in name.items() if n in NEEDED or n.startswith("fontpkg-")]
        extras = {extra: [d for d, n in name.items() if n in wanted] for extra, wanted in EXTRAS.items()}
        metadata["optional-dependencies"] = extras | {"fonts": project["optional-dependencies"]["fonts"]}
