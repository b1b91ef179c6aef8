"""A TensorFlow Dataset of symbols, rendered with Apache Beam on one machine or many.

    make = builder("default", num_samples=100_000_000, data_dir="gs://bucket/tfds")
    make.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_options=...))
    make.as_data_source("train")

Every sample is the one that `generate` writes for the same dataset, seed and fonts; the splits are its "random" one.
An example holds the image, the columns of `attribute_columns` (of the first symbol), `symbols`, the attributes of all
symbols in a sequence, and the mask where it is asked for. What Beam distributes are numbers of samples, so a machine
needs the fonts (and pictures), in the same folders, and nothing else. Needs the extra `beam`; reading what was prepared
needs neither it nor this module.
"""

import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.blocks import layout_of
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.generate import FontSearch, Recipe, render_arrays
from jaxrepro.synbols.splits import PARTS, random_split

VERSION = "2.0.0"  # of the examples' layout; the version of the pixels is in the description
# Of each symbol: numbers of its character and font (-1: a shape or character that is no class), and these attributes.
SYMBOL_TYPES = {
    "label": np.int32, "font": np.int32, "is_bold": np.bool_, "is_slant": np.bool_, "rotation": np.float32,
    "scale": np.float32, "translation_x": np.float32, "translation_y": np.float32,
}  # fmt: skip


def builder(
    dataset: str = "default", *, num_samples: int = 100_000, seed: int = 0, data_dir: str | None = None,
    file_format: str = "array_record", search: FontSearch = FontSearch(), masks: bool = False, strict: bool = False,
    **options: Any,
) -> Any:  # fmt: skip
    """Returns a tfds.core.DatasetBuilder, to be prepared with `download_and_prepare()`.

    Args:
      num_samples: of all splits together.
      data_dir, file_format: of the prepared files, as in TFDS.
      search: where to look for fonts; the folders must be there on every machine.
      masks: also keep the masks, uint8 [H, W] or [H, W, K].
      strict: refuse a dataset that lacks languages or pictures of the published one.
      **options: of `jaxrepro.synbols.dataset`: language, resolution, auxiliary, compat, pictures.

    Raises:
      UserError: unknown dataset or option, too few samples, no fonts, TFDS not installed.
    """
    recipe = Recipe(dataset, seed, options, search, strict=strict)
    loaded = recipe.load()
    random_split(num_samples)
    made = _builder_class()
    named = {"n": num_samples, "seed": seed, **recipe.recorded_options()}
    named.pop("pictures", None)  # their hash is there
    if search != FontSearch():
        named["fonts"] = recipe.fingerprint(loaded.font_names)
    if masks:
        named["masks"] = True
    name = "-".join([dataset, *(f"{k}_{_plain(v)}" for k, v in named.items())])
    return made(
        recipe=recipe, num_samples=num_samples, masks=masks, config=name, data_dir=data_dir, file_format=file_format
    )


def render_examples(rows: np.ndarray, recipe: Recipe, masks: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (sample number, example) of some samples."""
    made = _load(recipe.dataset, recipe.seed, tuple(sorted(recipe.options.items())), recipe.search)
    classes = tuple(sorted(set(made.symbols))), tuple(sorted(set(made.font_names)))
    x, mask, attributes = render_arrays(made, recipe.seed, rows)
    columns = attribute_columns(attributes, *classes)
    for i, row in enumerate(rows.tolist()):
        example = {"image": _png(x[i]), "symbols": symbol_columns(attributes[i]["symbols"], *classes)}
        yield row, example | {k: a[i] for k, a in columns.items()} | ({"mask": mask[i]} if masks else {})


def symbol_columns(
    symbols: Sequence[Mapping[str, Any]], chars: Sequence[str], font_names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns the attributes of an image's symbols as arrays [n]; a character or font that is no class is -1."""
    char_number, font_number = ({name: i for i, name in enumerate(names)} for names in (chars, font_names))
    values = {
        "label": [char_number.get(s["char"], -1) for s in symbols],
        "font": [font_number.get(s["font"], -1) for s in symbols],
        "is_bold": [str(s["is_bold"]) == "True" for s in symbols],
        "is_slant": [str(s["is_slant"]) == "True" for s in symbols],
        "rotation": [s["rotation"] for s in symbols],
        "scale": [s["scale"] for s in symbols],
    }
    pairs = np.array([np.broadcast_to(s["translation"], 2) for s in symbols], np.float32).reshape(-1, 2)
    values |= {"translation_x": pairs[:, 0], "translation_y": pairs[:, 1]}
    return {name: np.array(values[name], dtype) for name, dtype in SYMBOL_TYPES.items()}


def _plain(value: Any) -> str:
    """Returns an option as part of a folder's name."""
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _png(image: np.ndarray) -> io.BytesIO:
    """Returns an image [H, W, 1 or 3] as PNG, because TFDS encodes arrays with TensorFlow only."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "png")
    buffer.seek(0)
    return buffer


@functools.cache
def _load(dataset: str, seed: int, options: tuple, search: FontSearch) -> Any:
    return Recipe(dataset, seed, dict(options), search).load()


@functools.cache
def _builder_class() -> type:
    """Returns the class; it is made here because TFDS is imported when it is needed and not before."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError("building a TensorFlow Dataset needs: pip install tensorflow-datasets apache-beam") from error

    class Synbols(tfds.core.GeneratorBasedBuilder):
        """Rendered symbols with known attributes."""

        VERSION = tfds.core.Version(VERSION)
        pkg_dir_path = None

        def __init__(self, *, recipe: Recipe, num_samples: int, masks: bool, config: str, **arguments):
            self.recipe, self.num_samples, self.masks = recipe, num_samples, masks
            self.made = recipe.load()
            self.mask_shape = render_arrays(self.made, recipe.seed, [0])[1].shape[1:]
            super().__init__(config=tfds.core.BuilderConfig(name=config, version=VERSION), **arguments)

        def _info(self):
            x, _, attributes = render_arrays(self.made, self.recipe.seed, [0])
            columns = attribute_columns(attributes, self.made.symbols, self.made.font_names)
            features = {k: tfds.features.Scalar(a.dtype) for k, a in columns.items()}
            features["image"] = tfds.features.Image(shape=x.shape[1:], encoding_format="png")
            features["label"] = tfds.features.ClassLabel(names=sorted(set(self.made.symbols)))
            features["font"] = tfds.features.ClassLabel(names=sorted(set(self.made.font_names)))
            features["symbols"] = tfds.features.Sequence({k: tfds.features.Scalar(t) for k, t in SYMBOL_TYPES.items()})
            if self.masks:
                features["mask"] = tfds.features.Tensor(shape=self.mask_shape, dtype=np.uint8, encoding="zlib")
            note = f"; {self.made.note}" if self.made.note else ""
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{self.recipe}; fonts {self.recipe.fingerprint(self.made.font_names)}{note}",
                features=tfds.features.FeaturesDict(features),
            )

        def _split_generators(self, dl_manager):
            rows = random_split(self.num_samples).rows()
            return {part: self._generate_examples(rows[part]) for part in PARTS}

        def _generate_examples(self, rows):
            import apache_beam as beam

            size = layout_of(self.info.features["image"].shape, self.mask_shape, self.num_samples).group
            pieces = [rows[i : i + size] for i in range(0, len(rows), size)]
            render = functools.partial(render_examples, recipe=self.recipe, masks=self.masks)
            # Reshuffled, or Beam would fuse both steps and render on one machine.
            return beam.Create(pieces) | beam.Reshuffle() | beam.FlatMap(render)

    return Synbols
