"""`tfds:NAME[/CONFIG][?size=64]`: a TensorFlow Dataset, read without TensorFlow.

A prepared copy is looked for in $JAXREPRO_DATA/tfds, $TFDS_DATA_DIR and ~/tensorflow_datasets, in
array_record or tfrecord files; without one the dataset is downloaded and prepared (`tfds_download`). A split
is decoded into the cache when its rows are first read, so later starts only map memory; splits above 16 GiB
are decoded row by row instead, which needs array_record files. Whatever is decoded into the cache is compared with its
first reading, see `known`, and both kinds of files carry checksums, which are verified.

Columns: the only image feature is "image"; other features of fixed shape and numeric type keep their names,
class labels as int32. One inside another feature has its own name, "Smiling", or the whole path, "attributes/Smiling",
where that is taken. Text, ragged and video features are left out. With a size the shorter side of every picture is
scaled to it and the centre cut out, which pictures of different sizes need.
"""

import functools
import operator
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro import digests
from jaxrepro.data import known, layout
from jaxrepro.data.cache import Create, cached_arrays, data_dir, lazy_table
from jaxrepro.data.dataset import Column, Table
from jaxrepro.data.tfrecord import read_records
from jaxrepro.errors import UserError

_CACHE_LIMIT_BYTES = 16 * 2**30
_READ_ROWS = 1024

FeaturePath = tuple[str, ...]  # ("attributes", "Smiling")
Columns = Mapping[FeaturePath, tuple[str, Column]]  # -> (our name, Column)


def load(name: str, *, size: int | None = None, smoke_command: str | None = None) -> dict[str, Table]:
    """Returns the splits of a TFDS dataset, preparing it if there is no copy.

    Args:
      name: as in TFDS, "cifar10" or "NAME/CONFIG".
      size: that pictures are scaled and cut to; None leaves them as they are.
      smoke_command: command to suggest when the download host cannot be reached.

    Raises:
      UserError: unknown name, unreachable host, a copy that cannot be read, images of different sizes and no `size`.
    """
    if size is not None and size < 1:
        raise UserError(f"tfds:{name}?size={size}: the size must be at least 1")
    if not re.fullmatch(r"\w+(/[\w.-]+)?", name):
        raise UserError(f"bad TFDS dataset {name!r}; write it like 'cifar10' or 'NAME/CONFIG'")
    folder = find_prepared(name)
    if folder is None:
        from jaxrepro.data import tfds_download

        folder = tfds_download.prepare(name, copy_dirs(), smoke_command)
    described = {p.name: digests.of_file(p) for p in sorted(folder.glob("*")) if p.suffix in (".json", ".txt")}
    known.compare(f"tfds:{folder} description", described)
    builder = _builder(folder)
    columns = _columns(name, builder, size)
    splits = {s: i for s, i in builder.info.splits.items() if i.num_examples}
    if not splits:
        raise UserError(f"{folder} holds no examples; delete it and prepare the dataset again")
    order = sorted(splits, key=lambda s: (s not in layout.SPLIT_NAMES, s != "train", s))
    tables = {layout.SPLIT_NAMES.get(s, s): _table(name, folder, builder, s, columns) for s in order}
    known.note(f"tfds:{folder} description", described)
    return tables


def copy_dirs() -> list[Path]:
    """Returns the folders that may hold prepared copies; new ones are made in the first."""
    dirs = [data_dir() / "tfds"]
    if os.environ.get("TFDS_DATA_DIR"):
        dirs.append(Path(os.path.expanduser(os.environ["TFDS_DATA_DIR"])))
    return [*dirs, Path(os.path.expanduser("~/tensorflow_datasets"))]


def find_prepared(name: str) -> Path | None:
    """Returns the folder of the newest version of a prepared copy, or None."""
    for folder in copy_dirs():
        found = [
            p.parent for p in (folder / name).glob("*/dataset_info.json") if re.fullmatch(r"[\d.]+", p.parent.name)
        ]
        if found:
            return max(found, key=lambda p: [int(n) for n in p.name.split(".") if n])
    return None


def _builder(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # whatever a damaged JSON file leads TFDS to raise
        raise _unreadable(folder, error) from error


def _columns(name: str, builder: Any, size: int | None) -> Columns:
    """Returns the features that are kept."""
    import tensorflow_datasets as tfds

    features = dict(_flat(builder.info.features))
    images = [path for path, f in features.items() if isinstance(f, tfds.features.Image)]
    if len(images) != 1:
        raise UserError(f"tfds:{name} has {len(images) or 'no'} image features; sources need exactly one")
    kept, taken = {}, {path[0] for path in features if len(path) == 1}
    for path, feature in features.items():
        shape, dtype = getattr(feature, "shape", None), getattr(feature, "np_dtype", None)
        if path in images and size is not None:
            shape = (size, size, (shape or (None,))[-1] or 3)
        if path in images and (shape is None or None in shape):
            raise UserError(
                f"the pictures of tfds:{name} differ in size; add what to scale them to: tfds:{name}?size=64"
            )
        if not isinstance(shape, tuple) or None in shape or np.dtype(dtype).kind not in "buif":
            continue
        ours = "image" if path in images else path[0] if len(path) == 1 else path[-1]
        if len(path) > 1 and path not in images:
            ours = "/".join(path) if ours in taken else ours
            taken.add(ours)
        dtype = np.int32 if isinstance(feature, tfds.features.ClassLabel) else np.dtype(dtype)
        kept[path] = (ours, Column(shape, np.dtype(dtype)))
    # TFDS reads features in any order; ours is image, label, then the others by name.
    return dict(sorted(kept.items(), key=lambda k: (k[1][0] != "image", k[1][0] != "label", k[1][0])))


def _flat(features: Any, path: FeaturePath = ()) -> Iterator[tuple[FeaturePath, Any]]:
    """Yields (path, feature), those of features inside others in place of these."""
    import tensorflow_datasets as tfds

    for key, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _flat(feature, (*path, key))
        else:
            yield (*path, key), feature


def _value(example: Mapping, path: FeaturePath, column: Column, *, is_image: bool) -> Any:
    """Returns what a column holds of a decoded example; a picture that is larger than its column is made to fit."""
    value = functools.reduce(operator.getitem, path, example)
    return _fitted(value, column.shape[0]) if is_image and np.shape(value) != column.shape else value


def _fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """Returns a picture uint8 [H, W, C] as [size, size, C]: the shorter side is scaled to size, then the centre cut."""
    from PIL import Image

    height, width = (round(side * size / min(pixels.shape[:2])) for side in pixels.shape[:2])
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))  # antialiased, as torchvision's
    top, left = (height - size) // 2, (width - size) // 2
    return scaled[top : top + size, left : left + size].reshape(size, size, pixels.shape[2])


def _table(
    name: str, folder: Path, builder: Any, split: str, columns: Mapping[FeaturePath, tuple[str, Column]]
) -> Table:
    num_rows = builder.info.splits[split].num_examples
    ours = dict(columns.values())
    title = f"tfds:{name} {split}"
    if num_rows * sum(c.nbytes for c in ours.values()) > _CACHE_LIMIT_BYTES:
        return _table_of_records(title, folder, builder, split, columns)
    key = {"folder": str(folder), "split": split, "files": _stamps(folder, builder, split), "version": 2}
    key["size"] = ours["image"].shape[0]
    build = functools.partial(_decode_split, title, folder, builder, split, columns)
    return lazy_table(title, num_rows, ours, functools.partial(cached_arrays, f"tfds-{name}-{split}", key, build))


def _stamps(folder: Path, builder: Any, split: str) -> list[list]:
    """Returns name, size and time of a split's files: another copy in the same place is another entry."""
    try:
        stats = {p.name: p.stat() for p in map(Path, builder.info.splits[split].filepaths)}
    except OSError as error:
        raise _unreadable(folder, error) from error
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()]


def _decode_split(title: str, folder: Path, builder: Any, split: str, columns: Columns, create: Create) -> None:
    """Decodes a split into cache arrays."""
    from tqdm import tqdm

    num_rows = builder.info.splits[split].num_examples
    shards = {p.name: digests.of_file(p) for p in map(Path, builder.info.splits[split].filepaths)}
    known.compare(f"tfds:{folder} {split}", shards)
    arrays = {k: create(name, (num_rows, *c.shape), c.dtype) for k, (name, c) in columns.items()}
    count = 0
    try:
        examples = _examples(builder, split)
        for example in tqdm(examples, total=num_rows, desc=f"decoding {title}", disable=None, delay=2):
            for path, array in arrays.items():
                name, column = columns[path]
                array[count] = _value(example, path, column, is_image=name == "image")
            count += 1
    except UserError:
        raise
    except Exception as error:  # damaged records surface as errors of several libraries
        raise _unreadable(folder, error) from error
    if count != num_rows:
        raise _unreadable(folder, ValueError(f"{count} examples instead of {num_rows}"))
    for key, feature in builder.info.features.items():
        if key in arrays and getattr(feature, "num_classes", None) is not None:
            layout.check_classes(title, arrays[key], feature.num_classes, unlabelled=True)
    known.note(f"tfds:{folder} {split}", shards)


def _examples(builder: Any, split: str) -> Iterator[dict]:
    """Yields decoded examples in the dataset's order."""
    if _is_array_record(builder):
        source = _records(builder, split)
        for begin in range(0, len(source), _READ_ROWS):
            yield from source.__getitems__(list(range(begin, min(begin + _READ_ROWS, len(source)))))
        return
    paths = [Path(p) for p in builder.info.splits[split].filepaths]
    if not all(".tfrecord" in p.name for p in paths):
        raise UserError(f"{builder.data_dir} is neither array_record nor tfrecord; prepare it as array_record")
    for path in paths:
        for record in read_records(path):
            yield builder.info.features.deserialize_example_np(record)


def _table_of_records(title: str, folder: Path, builder: Any, split: str, columns: Columns) -> Table:
    """Returns a table that decodes rows when they are asked for."""
    if not _is_array_record(builder):
        raise UserError(
            f"{folder} is too large to be decoded at once, and tfrecord files cannot be read in any order; "
            "prepare it with file_format='array_record'"
        )
    source = _records(builder, split)

    def take(rows: np.ndarray) -> dict[str, np.ndarray]:
        try:
            examples = source.__getitems__([int(i) for i in rows])
        except Exception as error:
            raise _unreadable(folder, error) from error
        return {
            name: np.array([_value(e, path, c, is_image=name == "image") for e in examples], c.dtype).reshape(
                len(rows), *c.shape
            )
            for path, (name, c) in columns.items()
        }

    return Table(title, len(source), dict(columns.values()), take)


def _records(builder: Any, split: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return builder.as_data_source(split=split)


def _is_array_record(builder: Any) -> bool:
    return "array_record" in {f.value for f in builder.info.available_file_formats()}


def _unreadable(folder: Path, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {error}".split(": b'")[0][:200]  # without the bytes that Grain quotes
    return UserError(
        f"the prepared copy {folder} cannot be read ({reason}); put a whole copy there, or delete it to prepare it anew"
    )
