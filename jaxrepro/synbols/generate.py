"""Samples from a sampler, one after the other or a whole file of them.

    for x, mask, y in dataset_generator(attribute_sampler(scale=0.5), n_samples=100): ...
    write_dataset("letters.h5", attribute_sampler(scale=0.5), 100_000, seed=0, workers=8)
    generate_file(Recipe("camouflage", seed=0), 100_000, Path("camouflage.h5"), workers=8)

Sample i depends on (seed, i) and the fonts only. So the bytes of a file do not depend on the number of workers, on
interruptions, or on shards: workers leave finished pieces in a folder FILE.partial, from which the same command
continues, and the file is put together from them, in order, while later ones are rendered.
"""

import contextlib
import functools
import json
import operator
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols import blocks, checks, drawing, identity, parallel, storage
from jaxrepro.synbols.blocks import Layout
from jaxrepro.synbols.columns import attribute_columns, check_classes
from jaxrepro.synbols.fonts import FontSet, find_fonts, fingerprint, installed_fonts
from jaxrepro.synbols.fonts.discovery import MEDIUM, fingerprint_of_files
from jaxrepro.synbols.masks import aggregated, storable
from jaxrepro.synbols.patterns import forget_pictures, picture_files
from jaxrepro.synbols.pieces import MoreChannels, Pieces, check_same, claimed, path_of
from jaxrepro.synbols.predefined import Dataset, dataset
from jaxrepro.synbols.sampling import checked_seed, generator, image_of
from jaxrepro.synbols.storage import Header
from jaxrepro.synbols.symbols import attributes_of, checked_resolution

_BATCH_PIXELS = 2**18  # images are finished in batches of about so many pixels
_BATCH_SAMPLES = 32  # drawn ahead of what the generator yields

Sample = tuple[np.ndarray, np.ndarray, dict[str, Any]]


@dataclass(frozen=True)
class FontSearch:
    """Where to look for fonts, as in `find_fonts`, and which to leave out. Files record a hash of the fonts instead."""

    folders: tuple[str, ...] = ()
    system: bool = False
    instances: bool = False
    near_duplicates: bool = False
    without: tuple[str, ...] = ()
    normal_weight: int = MEDIUM

    def find(self) -> FontSet:
        """Returns the fonts; UserError if there are none of those to leave out."""
        if self == FontSearch():
            return installed_fonts()
        found = find_fonts(
            self.folders, self.system, self.instances, near_duplicates=self.near_duplicates,
            normal_weight=self.normal_weight,
        )  # fmt: skip
        if self.without and not set(self.without).intersection(found.names):
            raise UserError(
                f"none of the fonts to leave out, {', '.join(self.without[:3])}…, is among the {len(found)} found; "
                "see python -m jaxrepro.synbols fonts"
            )
        return found.without(self.without)


@dataclass(frozen=True)
class Recipe:
    """A dataset that every process can make for itself: `make(dataset, **options)`.

    Attributes:
      strict: refuse a dataset that falls short of the published one for want of fonts or pictures (`Dataset.note`).
    """

    dataset: str
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    search: FontSearch = FontSearch()
    make: Callable[..., Dataset] = dataset
    strict: bool = False

    def __post_init__(self):
        if isinstance(self.seed, np.integer):  # JSON knows Python's only
            object.__setattr__(self, "seed", int(self.seed))
        if "resolution" in self.options:  # 32 and (32, 32) are the same
            options = {**self.options, "resolution": checked_resolution(self.options["resolution"])}
            object.__setattr__(self, "options", options)

    def load(self) -> Dataset:
        """Returns the dataset.

        Raises:
          UserError: unknown dataset or option, a seed out of range, no fonts; with `strict`, too few.
        """
        checked_seed(self.seed)
        chosen = {} if self.search == FontSearch() else {"fonts": self.search.find()}
        made = self.make(self.dataset, **self.options, **chosen)
        if self.strict and made.note:
            raise UserError(f"strict: {self.dataset} falls short of the published dataset: {made.note}")
        return made

    def recorded_options(self) -> dict[str, Any]:
        """Returns the options as JSON gives them back, with a hash of the pictures' content beside their folder."""
        options = dict(self.options)
        if options.get("pictures") is not None:
            options["pictures_hash"] = fingerprint_of_files(picture_files(str(options["pictures"])))
        return json.loads(json.dumps(options))

    def fingerprint(self, font_names: Sequence[str]) -> str:
        """Returns a hash of the named fonts' content; of all fonts if none is named."""
        return fingerprint([font for font in self.search.find() if font.name in font_names or not font_names])


def dataset_generator(
    sampler: Callable, n_samples: int, mask_aggregator: Callable | None = None, seed: int = 0
) -> Iterator[Sample]:
    """Yields samples (x, mask, y).

    Args:
      sampler: as of `attribute_sampler`: from a NumPy generator to an Image.
      n_samples: N, at least 1.
      mask_aggregator: from masks [H, W, K] to (mask, further attributes), such as `flatten_mask`.
      seed: sample i depends on (seed, i), whatever the sampler; see `generator`.

    Yields:
      x uint8 [H, W, C]; mask uint8 [H, W, K], the coverage of each symbol, or what the aggregator makes of it; y the
      dict of attributes.

    Raises:
      UserError: n_samples below 1, a seed out of range; what the sampler and the drawing raise.
    """
    n_samples, seed = checks.whole("n_samples", n_samples, 1), checked_seed(seed)
    for i in range(0, n_samples, _BATCH_SAMPLES):
        yield from zip(*render(sampler, mask_aggregator, seed, range(i, min(i + _BATCH_SAMPLES, n_samples))))


def render(
    sampler: Callable, mask_aggregator: Callable | None, seed: int, rows: Iterable[int]
) -> tuple[list[np.ndarray], list[np.ndarray], list[dict]]:
    """Returns images, masks and attributes of the samples of these numbers."""
    images = [image_of(sampler, generator(seed, i)) for i in rows]
    x, masks = drawing.render_batch(images)
    attributes = [attributes_of(image) for image in images]
    if mask_aggregator is not None:
        masks, extra = zip(*[aggregated(mask_aggregator, m) for m in masks])
        attributes = [a | e for a, e in zip(attributes, extra)]
    return list(x), list(masks), attributes


def render_arrays(made: Dataset, seed: int, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Returns samples stacked: x [B, H, W, C], mask [B, H, W] or [B, H, W, K], attributes.

    Raises:
      UserError: the images differ in size.
    """
    x, masks, attributes = [], [], []
    while len(x) < len(rows):
        # Whole masks of many symbols take much memory, so they are aggregated batch by batch.
        batch = max(1, _BATCH_PIXELS // x[0][..., 0].size) if x else 1
        found = render(made.sampler, made.mask_aggregator, seed, rows[len(x) : len(x) + batch])
        for whole, part in zip((x, masks, attributes), found):
            whole += part
    masks = list(map(storable, masks))
    shapes = {a.shape for a in x} | {m.shape[:2] + x[0].shape[2:] for m in masks}
    if len(shapes) > 1:
        raise UserError(f"the images are {sorted(shapes)}; those of one file must have one size")
    if masks[0].ndim == 3:  # one channel per symbol, and their number may vary
        channels = max(m.shape[-1] for m in masks)
        masks = [blocks.pad_mask(m, channels) for m in masks]
    return np.stack(x), np.stack(masks), attributes


def write_dataset(
    path: str | Path, sampler: Callable, n_samples: int, *, mask_aggregator: Callable | None = None,
    seed: int = 0, name: str = "custom", symbols: Sequence[str] = (), font_names: Sequence[str] = (), workers: int = 1,
) -> Path:  # fmt: skip
    """Writes a file of your own dataset; a name tells your datasets apart. See `generate_file`.

    Args:
      symbols, font_names: the classes, all that can occur; without them, those that do occur are numbered.
    """
    if not isinstance(path, str | Path) or not isinstance(name, str):
        raise UserError(f"path is {path!r} and name {name!r}; they must be a file's name and a text")
    if not (mask_aggregator is None or callable(mask_aggregator)):
        raise UserError(f"mask_aggregator is {mask_aggregator!r}; it must be a function, such as flatten_mask, or None")
    classes = checks.texts("symbols", symbols), checks.texts("font_names", font_names)
    made = Dataset(sampler, *classes, mask_aggregator)
    recipe = Recipe(name, seed, make=functools.partial(_same, made))
    return generate_file(recipe, n_samples, Path(path), workers=workers)


def generate_file(
    recipe: Recipe, num_samples: int, out: Path, *, workers: int = 1, shard: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:  # fmt: skip
    """Writes samples to a file, continuing where an interrupted call stopped. The file has its name when it is whole.

    Args:
      num_samples: of the whole dataset.
      workers: processes.
      shard: (i, n) writes the i-th of n parts, i in 0 … n-1; `merge_files` joins them to the very file that one call
        writes.
      progress: called with the numbers of samples that are done and wanted.

    Raises:
      UserError: a number out of range, a file or an unfinished run of something else under that name (also if the
        sampler was edited since; see `identity`), a full disk, and what `recipe.load` raises.
    """
    num_samples = checks.whole("num_samples", num_samples, 1)
    first, stop = shard_rows(num_samples, shard)
    workers = checks.whole("workers", workers, 1)
    forget_pictures()  # of an earlier call; they may have been replaced
    made = recipe.load()
    # One sample now, so that a mistake shows before files and processes are made.
    sample = render_arrays(made, recipe.seed, [first])
    blocks.pack(*sample, None)
    check_classes(sample[2], made.symbols, made.font_names)
    folder = out.with_name(out.name + ".partial")
    if out.parent.is_dir() and not os.path.exists(out):
        storage.check_room(out, folder, (stop - first) * sample[0].nbytes)
    options = recipe.recorded_options()
    if "pictures_hash" not in options and (found := identity.pictures(made)):
        options["pictures_hash"] = found
    header = Header(
        dataset=recipe.dataset, seed=recipe.seed, options=options, note=made.note,
        num_samples=num_samples, first_row=first, stop_row=stop, generator_version=drawing.GENERATOR_VERSION,
        fonts=recipe.fingerprint(made.font_names), symbols=tuple(sorted(set(made.symbols))),
        font_names=tuple(sorted(set(made.font_names))),
        sampler=identity.declaration(made), probe=identity.probe(made, recipe.seed, num_samples),
    )  # fmt: skip
    if _is_there(out, header):
        with storage.open_file(out) as file:
            _check_rendered(out, made, recipe.seed, first, stop, (file["x"], file["mask"], file["y"]))
        progress(stop - first, stop - first)
        return out
    layout = blocks.layout_of(sample[0].shape[1:], _one_or_more(sample[1].shape[1:]), stop - first)
    ranges = [(i, min(i + layout.group, stop)) for i in range(first, stop, layout.group)]
    with storage.unwritable_is_a_user_error(out), claimed(folder):
        check_same(folder, header)
        kept = blocks.saved(folder).intersection(ranges)
        # What a function drew, or made of masks, is made again, to compare.
        there = set() if identity.draws_freely(made) or identity.aggregates_freely(made) else kept
        missing = [r for r in ranges if r not in there]
        task = functools.partial(
            _piece_task, recipe, made if workers == 1 or parallel.can_fork() else None, layout, folder, out, kept
        )
        with contextlib.closing(parallel.run(task, missing, workers)) as rendered:
            pieces = Pieces(folder, ranges, there, rendered, progress)
            try:
                storage.write_file(out, header, pieces.in_order(layout), layout, folder)
            except MoreChannels:
                layout = pieces.common_layout()
                storage.write_file(out, header, pieces.in_order(layout), layout, folder)
        shutil.rmtree(folder)
    return out


def merge_files(paths: Iterable[Path], out: Path) -> Path:
    """Joins shards to the file that one call of `generate_file` would have written.

    Raises:
      UserError: shards of different datasets, one that is missing or given twice, a damaged file, a full disk.
    """
    shards = []
    for path in paths:
        with storage.open_file(path) as file:
            header = storage.header_of(file)
            shapes = file["x"].shape[1:], file["mask"].shape[1:]
        if header is None:
            raise UserError(f"{path} was not written by this generator; only its shards can be merged")
        shards.append((header.first_row, header.stop_row, path, header, *shapes))
    shards.sort(key=lambda s: s[:2])
    row, whole = 0, shards[0][3].whole()
    for first, stop, path, header, *_ in shards:
        if header.whole() != whole:
            raise UserError(
                f"{path} and {shards[0][2]} are not shards of one dataset: {storage.difference(header.whole(), whole)}"
            )
        if first != row:
            missing = f"samples {row} to {first - 1} are missing" if first > row else "its samples are there twice"
            raise UserError(f"{path} begins with sample {first}: {missing}")
        row = stop
    if row != whole.num_samples:
        raise UserError(f"samples {row} to {whole.num_samples - 1} are missing; give the shards that hold them, too")
    if _is_there(out, whole):
        return out
    layout = blocks.layout_of(shards[0][4], max(s[5] for s in shards), whole.num_samples)
    storage.write_file(out, whole, chain.from_iterable(storage.read_blocks(s[2]) for s in shards), layout)
    return out


def shard_rows(num_samples: int, shard: tuple[int, int]) -> tuple[int, int]:
    """Returns first and last+1 sample of a shard (i, n).

    Raises:
      UserError: no samples, no such shard, or an empty one.
    """
    try:
        i, n = map(operator.index, shard)
    except (TypeError, ValueError) as error:
        raise UserError(f"shard is {shard!r}; it must be two whole numbers, such as (0, 1)") from error
    num_samples = checks.whole("num_samples", num_samples, 1)
    if not 0 <= i < n <= num_samples:
        raise UserError(
            f"shard {i}/{n} of {num_samples} samples; write I/N with I from 0 to N-1 and no more shards than samples"
        )
    # Large shards end with a group of rows, so that merging them copies what is compressed already.
    step = blocks.MOST_ROWS if num_samples >= 16 * blocks.MOST_ROWS * n else 1
    first, stop = (num_samples * k // n // step * step for k in (i, i + 1))
    return first, num_samples if i + 1 == n else stop


def columns_task(
    recipe: Recipe, made: Dataset | None, classes: tuple[Sequence[str], Sequence[str]], derive: Callable | None = None
) -> Callable[[int, int], dict[str, np.ndarray]]:
    """Returns `(start, stop) -> columns`: image, mask and those of `attribute_columns`; a task for `parallel.run`.

    Args:
      made: the recipe's dataset, if it is at hand.
      classes: symbols and font names, in the order of their numbers.
      derive: `(masks [B, …], attributes) -> further columns`, which need not keep the masks.
    """
    made = made or recipe.load()

    def task(start: int, stop: int) -> dict[str, np.ndarray]:
        image, mask, attributes = render_arrays(made, recipe.seed, range(start, stop))
        further = derive(mask, attributes) if derive else {}
        return {"image": image, "mask": mask, **attribute_columns(attributes, *classes), **further}

    return task


def _same(made: Dataset, name: str) -> Dataset:
    return made


def _one_or_more(mask_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of masks in a file, which holds a channel even if no image has a symbol."""
    return (*mask_shape[:2], *(max(1, n) for n in mask_shape[2:]))


def _piece_task(
    recipe: Recipe, made: Dataset | None, layout: Layout, folder: Path, out: Path, kept: set[tuple[int, int]]
) -> Callable[[int, int], None]:
    """Returns `(start, stop) -> None`, which renders a piece and saves it, ready to be copied into the file.

    A piece that an earlier call kept is compared with what the sampler draws now instead.
    """
    made = made or recipe.load()

    def task(start: int, stop: int) -> None:
        if (start, stop) in kept:
            block = blocks.load(path_of(folder, start, stop))
            identity.check_drawn(folder, made, recipe.seed, range(start, stop), block.y)
            stored = block.x, blocks.decompressed(block.mask, stop - start), block.y
            _check_rendered(folder, made, recipe.seed, start, stop, stored)
            return
        samples = render_arrays(made, recipe.seed, range(start, stop))
        check_classes(samples[2], made.symbols, made.font_names)
        block = blocks.pack(*samples, layout)
        with storage.unwritable_is_a_user_error(out):
            blocks.save(path_of(folder, start, stop), block)

    return task


def _check_rendered(path: Path, made: Dataset, seed: int, start: int, stop: int, stored: tuple[Any, Any, Any]) -> None:
    """Renders some of the samples start … stop-1 again and compares them with what is stored: x, masks and JSON."""
    for row in identity.rendered_rows(made, start, stop):
        sample = tuple(part[0] for part in render_arrays(made, seed, [row]))
        old = tuple(part[row - start] for part in stored)
        identity.check_rendered(path, row, old, sample, same_mask=identity.aggregates_freely(made))


def _is_there(out: Path, header: Header) -> bool:
    """Returns whether the file is there already; an unreadable one or another dataset's is a UserError."""
    if not out.parent.is_dir():
        raise UserError(f"the folder {out.parent} does not exist")
    if not os.path.exists(out):
        return False
    with storage.open_file(out) as file:
        found = storage.header_of(file)
    if found != header:
        what = "another program's file" if found is None else storage.difference(found, header)
        raise UserError(f"{out} exists with other content: {what}; delete it or choose another name")
    return True
