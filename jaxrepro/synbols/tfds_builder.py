"""A TensorFlow Dataset of symbols, rendered with Apache Beam on one machine or many.

    make = builder("default", num_samples=100_000_000, data_dir="gs://bucket/tfds")
    make.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_options=...))
    make.as_data_source("train")

Every sample is the one that `generate` writes for the same dataset, seed and fonts; the splits are its "random" one.
What Beam distributes are numbers of samples, so a machine needs the fonts and nothing else. Needs the extra
`beam`; reading what was prepared needs neither it nor this module.
"""

import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.generate import Recipe, render_arrays
from jaxrepro.synbols.splits import PARTS, random_split

VERSION = "1.0.0"  # of the examples' layout; the version of the pixels is in the description
PIECE_ROWS = 500


def builder(
    dataset: str = "default", *, num_samples: int = 100_000, seed: int = 0, data_dir: str | None = None,
    file_format: str = "array_record", **options: Any,
) -> Any:  # fmt: skip
    """Returns a tfds.core.DatasetBuilder, to be prepared with `download_and_prepare()`.

    Args:
      num_samples: of all splits together.
      data_dir, file_format: of the prepared files, as in TFDS.
      **options: of `jaxrepro.synbols.dataset`: language, resolution, auxiliary, compat.

    Raises:
      UserError: unknown dataset or option, too few samples, TFDS not installed.
    """
    recipe = Recipe(dataset, seed, options)
    recipe.load()
    random_split(num_samples)
    made = _builder_class()
    text = [f"{k}_{v}" for k, v in {"n": num_samples, "seed": seed, **options}.items()]
    name = "-".join([dataset, *text]).replace(" ", "")
    return made(recipe=recipe, num_samples=num_samples, config=name, data_dir=data_dir, file_format=file_format)


def render_examples(rows: np.ndarray, recipe: Recipe) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (sample number, example) of some samples."""
    made = _load(recipe.dataset, recipe.seed, tuple(sorted(recipe.options.items())))
    classes = tuple(sorted(set(made.symbols))), tuple(sorted(set(made.font_names)))
    x, _, attributes = render_arrays(made, recipe.seed, rows)
    columns = attribute_columns(attributes, *classes)
    for i, row in enumerate(rows.tolist()):
        yield row, {"image": _png(x[i]), **{k: a[i] for k, a in columns.items()}}


def _png(image: np.ndarray) -> io.BytesIO:
    """Returns an image [H, W, 1 or 3] as PNG, because TFDS encodes arrays with TensorFlow only."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "png")
    buffer.seek(0)
    return buffer


@functools.cache
def _load(dataset: str, seed: int, options: tuple) -> Any:
    return Recipe(dataset, seed, dict(options)).load()


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

        def __init__(self, *, recipe: Recipe, num_samples: int, config: str, **arguments):
            self.recipe, self.num_samples = recipe, num_samples
            self.made = recipe.load()
            super().__init__(config=tfds.core.BuilderConfig(name=config, version=VERSION), **arguments)

        def _info(self):
            x, _, attributes = render_arrays(self.made, self.recipe.seed, [0])
            columns = attribute_columns(attributes, self.made.symbols, self.made.font_names)
            features = {k: tfds.features.Scalar(a.dtype) for k, a in columns.items()}
            features["image"] = tfds.features.Image(shape=x.shape[1:], encoding_format="png")
            features["label"] = tfds.features.ClassLabel(names=sorted(set(self.made.symbols)))
            features["font"] = tfds.features.ClassLabel(names=sorted(set(self.made.font_names)))
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{self.recipe}; fonts {self.recipe.fingerprint(self.made.font_names)}",
                features=tfds.features.FeaturesDict(features),
            )

        def _split_generators(self, dl_manager):
            rows = random_split(self.num_samples).rows()
            return {part: self._generate_examples(rows[part]) for part in PARTS}

        def _generate_examples(self, rows):
            import apache_beam as beam

            pieces = [rows[i : i + PIECE_ROWS] for i in range(0, len(rows), PIECE_ROWS)]
            # Reshuffled, or Beam would fuse both steps and render on one machine.
            return beam.Create(pieces) | beam.Reshuffle() | beam.FlatMap(render_examples, recipe=self.recipe)

    return Synbols
