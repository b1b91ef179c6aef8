"""The predefined datasets as text: one line each, or all that one is drawn from."""

from jaxrepro.synbols.generate import FontSearch, Recipe
from jaxrepro.synbols.predefined import DATASETS, options_of
from jaxrepro.synbols.symbols import checked_resolution


def listing() -> str:
    """Returns a table: name, published number of images, pixels, what it shows."""
    width = max(map(len, DATASETS))
    lines = [f"{'dataset':{width}}  {'images':>9}  {'pixels':>7}  what it shows"]
    for name, entry in DATASETS.items():
        columns, rows = checked_resolution(entry.attributes.get("resolution", 32))
        lines.append(f"{name:{width}}  {entry.n_samples:>9,}  {f'{columns}×{rows}':>7}  {entry.text}")
    return "\n".join(lines)


def description(name: str, search: FontSearch = FontSearch()) -> str:
    """Returns what a dataset is drawn from: a line for every attribute, with the fonts that are found.

    Raises:
      UserError: no such dataset, or no fonts for it.
    """
    made = Recipe(name, search=search).load()
    entry = DATASETS[name]
    aggregator = "all" if made.mask_aggregator is None else made.mask_aggregator.__name__
    lines = [
        f"{name}: {entry.text}",
        f"{len(made.symbols)} symbols, {len(made.font_names)} fonts; masks: {aggregator}",
        f"options: {', '.join(o for o in options_of(entry) if o != 'fonts')}",
        *([f"note: {made.note}"] if made.note else []),
        "",
        str(made.sampler),
    ]
    return "\n".join(lines)
