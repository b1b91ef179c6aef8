"""Writes small TensorFlow Datasets in TFDS's own layout, without TensorFlow or a network."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxrepro.data.tfrecord import write_record

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

    class Lsun(tfds.core.GeneratorBasedBuilder):
        """Pictures of different sizes and no labels, as the real one; its splits are train and validation."""

        VERSION = tfds.core.Version("3.1.0")
        BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in ("church_outdoor", "bedroom"))
        pkg_dir_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image(encoding_format="png")})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(size) for split, size in (("train", 12), ("validation", 5))}

        def _generate_examples(self, size):
            for i in range(size):
                yield i, {"image": _png(half_and_half(100 + 7 * i, 80))}

    class CelebA(tfds.core.GeneratorBasedBuilder):
        """Faces of 218x178 with attributes and landmarks, features inside features; two attributes of forty."""

        VERSION = tfds.core.Version("2.1.0")
        pkg_dir_path = None

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(218, 178, 3), encoding_format="png"),
                "landmarks": {"nose_x": tfds.features.Tensor(shape=(), dtype=np.int64)},
                "attributes": {name: tfds.features.Tensor(shape=(), dtype=np.bool_) for name in ("Smiling", "Male")},
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(size) for split, size in FACES.items()}

        def _generate_examples(self, size):
            for i in range(size):
                smiling, male = i % 2, i // 2 % 2
                attributes = {"Smiling": bool(smiling), "Male": bool(male)}
                yield i, {"image": _png(face(smiling, male, i)), "landmarks": {"nose_x": i}, "attributes": attributes}


FACES = {"train": 240, "validation": 40, "test": 40}


def face(smiling: int, male: int, index: int) -> np.ndarray:
    """Returns a picture uint8 [218, 178, 3] whose lower half is bright for a smile, the right half red for a man."""
    pixels = np.full((218, 178, 3), 60 + index % 8, np.uint8)
    pixels[109:] += np.uint8(150 * smiling)
    pixels[:, 89:, 0] += np.uint8(40 * male)
    return pixels


def half_and_half(height: int, width: int) -> np.ndarray:
    """Returns a picture uint8 [height, width, 3] with a dark upper and a bright lower half."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 2 :] = 200
    return pixels


def write_lsun(data_dir: Path, config: str = "church_outdoor") -> Path:
    """Prepares "lsun/church_outdoor" or "lsun/bedroom" below `data_dir` in array_record files; returns its folder."""
    return _write(Lsun(data_dir=data_dir, config=config, file_format="array_record"))


def write_celeb_a(data_dir: Path) -> Path:
    """Prepares "celeb_a" below `data_dir` in array_record files and returns its folder."""
    return _write(CelebA(data_dir=data_dir, file_format="array_record"))


def _write(builder: tfds.core.GeneratorBasedBuilder) -> Path:
    builder.download_and_prepare()
    return Path(builder.data_dir)


def write_copy(data_dir: Path) -> Path:
    """Prepares "cifar10" below `data_dir` in array_record files and returns its folder."""
    return _write(Cifar10(data_dir=data_dir, file_format="array_record"))


def turn_into_tfrecord(folder: Path, leave_out: int = 0) -> None:
    """Rewrites a prepared copy as what TFDS writes by default, without some records."""
    builder = tfds.builder_from_directory(folder)
    for split in SIZES:
        source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        (old,) = [Path(p) for p in builder.info.splits[split].filepaths]
        with open(old.with_name(old.name.replace("array_record", "tfrecord")), "wb") as handle:
            for record in list(source)[leave_out:]:
                handle.write(write_record(record))
        old.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
