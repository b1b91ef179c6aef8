"""`synbols:NAME?num_samples=20000&seed=0`: symbols rendered on first use, then cached.

NAME is a predefined dataset of `jaxrepro.synbols`. Options: num_samples, seed, resolution, language, auxiliary=false
(standard letters only), compat=v1, masks=true (the column mask) and split, one of `jaxrepro.synbols.splits`: "random"
by default, train, valid and test with 60, 20 and 20 %, which does not depend on the seed. points=a adds the columns of
`jaxrepro.data.points` for the letter a: masks are dropped as soon as their points are known. pictures=FOLDER is for
natural-patterns; strict=true refuses datasets that lack languages or pictures of the published ones.

Fonts: fonts_dir=FOLDER,FOLDER adds folders of font files, system=true those of the system, instances=true every weight
and width, near_duplicates=true families whose Latin letters look like another's; exclude_fonts=FILE leaves out those of
a list that `python -m jaxrepro.synbols similar` writes; normal_weight=400 takes Regular, not Medium, for letters that
are not bold. Equal fonts and pictures are one cache entry.

Columns: image, the attributes of `jaxrepro.synbols.columns` such as label (the character), font and rotation.
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Table, table_from_arrays, take_part
from jaxrepro.data.points import point_columns
from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols import parallel
from jaxrepro.synbols.splits import SMALLEST, STANDARD, standard_split

_WORTH_WORKERS = 2**25  # pixels; about ten seconds' work. Starting processes takes one to two
_MOST_SECONDS_SILENT = 2


def load(
    name: str, *, num_samples: int = 20_000, seed: int = 0, split: str = "random", masks: bool = False,
    points: str = "", fonts_dir: str = "", system: bool = False, instances: bool = False, near_duplicates: bool = False,
    normal_weight: int = 500, exclude_fonts: str = "", strict: bool = False, **options: Any,
) -> dict[str, Table]:  # fmt: skip
    """Returns the splits of a rendered dataset.

    Args:
      points: a letter, see `jaxrepro.data.points`; "" for none.
      fonts_dir: folders, separated by commas.
      **options: of `jaxrepro.synbols.dataset`: resolution, language, auxiliary, compat, pictures.

    Raises:
      UserError: unknown name, option or split, fewer than 5 samples, no fonts for the language, no such folder or list,
        no such letter, cairo not installed.
    """
    from jaxrepro.synbols.drawing import GENERATOR_VERSION
    from jaxrepro.synbols.fonts.similar import read_list
    from jaxrepro.synbols.generate import FontSearch, Recipe

    if num_samples < SMALLEST:
        raise UserError(f"synbols:{name} has num_samples={num_samples}; three splits need at least {SMALLEST}")
    if split not in STANDARD:
        raise unknown("split", split, STANDARD)
    folders = tuple(filter(None, fonts_dir.split(",")))
    without = read_list(Path(os.path.expanduser(exclude_fonts))) if exclude_fonts else ()
    if "pictures" in options:
        options["pictures"] = os.path.abspath(os.path.expanduser(options["pictures"]))
    search = FontSearch(folders, system, instances, near_duplicates, without, normal_weight)
    recipe = Recipe(name, seed, options, search, strict=strict)
    made = recipe.load()
    if made.note:
        logging.warning("synbols:%s: %s", name, made.note)
    symbols, font_names = tuple(sorted(made.symbols)), tuple(sorted(made.font_names))
    if points and points not in (*symbols, "a"):  # counting has the letter a in every language
        raise unknown(f"letter in points= of synbols:{name}:", points, symbols)
    recorded = recipe.recorded_options()
    recorded.pop("pictures", None)  # their hash is there
    key = {
        "name": name,
        "num_samples": num_samples,
        "seed": seed,
        "options": recorded,
        "masks": masks,
        "symbols": symbols,
        "fonts": recipe.fingerprint(font_names),
        "version": GENERATOR_VERSION,
    } | ({"points": points} if points else {})
    derive = functools.partial(point_columns, counted=points) if points else None
    build = functools.partial(_build, recipe, made, num_samples, masks, (symbols, font_names), derive)
    arrays = cached_arrays(f"synbols-{name}", key, build)
    table = table_from_arrays(f"synbols:{name}", arrays)
    table = dataclasses.replace(table, classes={"label": symbols, "font": font_names}, note=made.note)
    rows = standard_split(split, arrays).rows()
    return {part: take_part(table, chosen, f"synbols:{name} {part}") for part, chosen in rows.items()}


def _build(
    recipe: Any, made: Any, num_samples: int, masks: bool, classes: tuple, derive: Callable | None, create: Create
) -> None:
    """Renders all samples into the cache, in several processes where that is faster."""
    from tqdm import tqdm

    from jaxrepro.synbols.blocks import layout_of
    from jaxrepro.synbols.generate import columns_task

    columns = columns_task(recipe, made, classes, derive)(0, 1)
    rows = layout_of(columns["image"].shape[1:], columns["mask"].shape[1:], num_samples).group
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if num_samples * columns["image"][0, ..., 0].size < _WORTH_WORKERS:
        workers = 1
    arrays = {k: create(k, (num_samples, *a.shape[1:]), a.dtype) for k, a in columns.items() if masks or k != "mask"}
    files = {name: array.filename for name, array in arrays.items()}
    task = functools.partial(
        _filling_task, recipe, made if workers == 1 or parallel.can_fork() else None, classes, derive, files
    )
    ranges = [(i, min(i + rows, num_samples)) for i in range(0, num_samples, rows)]
    text = f"rendering synbols:{recipe.dataset}"
    with tqdm(total=num_samples, desc=text, unit=" images", disable=None, delay=_MOST_SECONDS_SILENT) as progress:
        for (start, stop), _ in parallel.run(task, ranges, workers):
            progress.update(stop - start)


def _filling_task(
    recipe: Any, made: Any, classes: tuple, derive: Callable | None, files: dict[str, Any]
) -> Callable[[int, int], None]:
    """Returns `(start, stop) -> None`, which renders samples and puts them into their places in the cache's files."""
    from jaxrepro.synbols.generate import columns_task

    render = columns_task(recipe, made, classes, derive)
    arrays = {name: np.lib.format.open_memmap(path, mode="r+") for name, path in files.items()}

    def task(start: int, stop: int) -> None:
        found = render(start, stop)
        for name, array in arrays.items():
            array[start:stop] = found[name]

    return task
