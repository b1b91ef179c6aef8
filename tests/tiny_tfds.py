"""Writes small TensorFlow Datasets in TFDS's own layout, without TensorFlow or a network."""

import io
import struct
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIZES = {"train": 30, "test": 10}


def picture(split: str, index: int) -> np.ndarray:
    """Returns the uint8 [32, 32, 3] picture that stands at `index` of a split, before TFDS shuffles."""
    return np.random.default_rng([len(split), index]).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def _png(pixels: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    buffer.seek(0)
    return buffer


with tfds.core.registered.skip_registration():

    class Cifar10(tfds.core.GeneratorBasedBuilder):
        """The features of the real CIFAR-10, and some that are kept or dropped."""

        VERSION = tfds.core.Version("3.0.2")
        pkg_dir_path = None

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
                "value_scale": tfds.features.Tensor(shape=(), dtype=np.float32),
                "boxes": tfds.features.Sequence({"x": tfds.features.Tensor(shape=(), dtype=np.float32)}),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(split, size) for split, size in SIZES.items()}

        def _generate_examples(self, split, size):
            for i in range(size):
                yield (
                    i,
                    {
                        "id": f"{split}_{i}",
                        "image": _png(picture(split, i)),
                        "label": i % 10,
                        "value_scale": i / 8,
                        "boxes": {"x": [0.5] * (i % 3)},
                    },
                )


def write_copy(data_dir: Path) -> Path:
    """Prepares "cifar10" below `data_dir` in array_record files and returns its folder."""
    builder = Cifar10(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def turn_into_tfrecord(folder: Path, leave_out: int = 0) -> None:
    """Rewrites a prepared copy as what TFDS writes by default, with checksums of zero, without some records."""
    builder = tfds.builder_from_directory(folder)
    for split in SIZES:
        source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        (old,) = [Path(p) for p in builder.info.splits[split].filepaths]
        with open(old.with_name(old.name.replace("array_record", "tfrecord")), "wb") as handle:
            for record in list(source)[leave_out:]:
                handle.write(struct.pack("<QI", len(record), 0) + record + struct.pack("<I", 0))
        old.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
