"""`synbols:NAME?num_samples=20000&seed=0`: symbols rendered on first use, then cached.

NAME is a predefined dataset of `jaxrepro.synbols`. Options: num_samples, seed, resolution, language, auxiliary=false
(standard letters only), compat=v1, masks=true (the column mask) and split, one of `jaxrepro.synbols.splits`: "random"
by default, train, valid and test with 60, 20 and 20 %, which does not depend on the seed.

Columns: image, the attributes of `jaxrepro.synbols.columns` such as label (the character), font and rotation.
"""

import dataclasses
import functools
import os
from typing import Any

from jaxrepro.data.cache import Create, cached_arrays
from jaxrepro.data.dataset import Table, table_from_arrays, take_part
from jaxrepro.errors import UserError, unknown
from jaxrepro.progress import say
from jaxrepro.synbols import parallel
from jaxrepro.synbols.splits import SMALLEST, STANDARD, standard_split

_PIECE_ROWS = 1000
_WORTH_WORKERS = 2**25  # pixels; about ten seconds' work. Starting processes takes one to two
_MOST_SECONDS_SILENT = 2


def load(
    name: str, *, num_samples: int = 20_000, seed: int = 0, split: str = "random", masks: bool = False, **options: Any
) -> dict[str, Table]:
    """Returns the splits of a rendered dataset.

    Args:
      **options: of `jaxrepro.synbols.dataset`: resolution, language, auxiliary, compat.

    Raises:
      UserError: unknown name, option or split, fewer than 5 samples, no fonts for the language, cairo not installed.
    """
    from jaxrepro.synbols.drawing import GENERATOR_VERSION
    from jaxrepro.synbols.generate import Recipe

    if num_samples < SMALLEST:
        raise UserError(f"synbols:{name} has num_samples={num_samples}; three splits need at least {SMALLEST}")
    if split not in STANDARD:
        raise unknown("split", split, STANDARD)
    recipe = Recipe(name, seed, options)
    made = recipe.load()
    if made.note:
        say(f"synbols:{name}: {made.note}; python -m jaxrepro.synbols fonts --language=… names packages that add them")
    symbols, font_names = tuple(sorted(made.symbols)), tuple(sorted(made.font_names))
    key = {
        "name": name,
        "num_samples": num_samples,
        "seed": seed,
        "options": options,
        "masks": masks,
        "symbols": symbols,
        "fonts": recipe.fingerprint(font_names),
        "version": GENERATOR_VERSION,
    }
    build = functools.partial(_build, recipe, made, num_samples, masks, (symbols, font_names))
    arrays = cached_arrays(f"synbols-{name}", key, build)
    table = table_from_arrays(f"synbols:{name}", arrays)
    table = dataclasses.replace(table, classes={"label": symbols, "font": font_names})
    rows = standard_split(split, arrays).rows()
    return {part: take_part(table, chosen, f"synbols:{name} {part}") for part, chosen in rows.items()}


def _build(recipe: Any, made: Any, num_samples: int, masks: bool, classes: tuple, create: Create) -> None:
    """Renders all samples into the cache, in several processes where that is faster."""
    from tqdm import tqdm

    from jaxrepro.synbols.generate import columns_task

    first = columns_task(recipe, made, classes)(0, 1)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if num_samples * first["image"][0, ..., 0].size < _WORTH_WORKERS:
        workers = 1
    task = functools.partial(columns_task, recipe, made if workers == 1 or parallel.can_fork() else None, classes)
    ranges = [(i, min(i + _PIECE_ROWS, num_samples)) for i in range(0, num_samples, _PIECE_ROWS)]
    columns = {k: a for k, a in first.items() if masks or k != "mask"}
    arrays = {k: create(k, (num_samples, *a.shape[1:]), a.dtype) for k, a in columns.items()}
    text = f"rendering synbols:{recipe.dataset}"
    with tqdm(total=num_samples, desc=text, unit=" images", disable=None, delay=_MOST_SECONDS_SILENT) as progress:
        for (start, stop), found in parallel.run(task, ranges, workers):
            for name, array in arrays.items():
                array[start:stop] = found[name]
            progress.update(stop - start)
