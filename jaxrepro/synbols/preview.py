"""Pictures of datasets: what samples look like and how their attributes are spread.

write("grid", Path("preview.png"), Recipe("camouflage"))

    beside(Path("camouflage.h5"))       # camouflage_preview.png, as the original writes it with every file

grid        a hundred samples
letters     characters × fonts: a column for each of some letters, a row for each of some families
attributes  fonts, languages, resolutions and textures, one row each, after figure 1 of the paper
datasets    a row of every predefined dataset that there are fonts and pictures for, after figure 3
histograms  of the attributes, by part of the random split
splits      rotation and scale by part of an iid, a stratified and a compositional split, after figure 2
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrepro.errors import UserError, unknown
from jaxrepro.synbols import storage
from jaxrepro.synbols.attributes import attribute_sampler
from jaxrepro.synbols.blocks import written_whole
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.generate import Recipe, render
from jaxrepro.synbols.languages import LANGUAGES, alphabet
from jaxrepro.synbols.patterns import Camouflage, Gradient, ImagePattern, MultiGradient, SolidColor, picture_files
from jaxrepro.synbols.predefined import DATASETS, options_of
from jaxrepro.synbols.sampling import generator
from jaxrepro.synbols.splits import PARTS, random_split, standard_split
from jaxrepro.synbols.symbols import attributes_of

CELL, LARGEST_CELL = 64, 128  # pixels of a sample in a picture with several rows, and in the one beside a file
NUM_GRID, NUM_COLUMNS, NUM_POINTS = 100, 12, 3000
NUM_LETTERS, NUM_FONTS = 26, 20
SHOWN_SPLITS = ("random", "stratified_scale", "compositional_rotation_scale")
COLOURS = ("#4c78a8", "#f58518", "#54a24b")  # train, valid, test


def write(figure: str, out: Path, recipe: Recipe, file: Path | None = None) -> None:
    """Draws a figure of the module's text into a PNG file.

    Args:
      recipe: of the dataset; `letters`, `attributes` and `datasets` take its fonts, seed, language and pictures only.
      file: show this file instead of rendering.

    Raises:
      UserError: no such figure, a damaged file, a full disk, or what making the dataset raises.
    """
    if figure not in FIGURES:
        raise unknown("figure", figure, FIGURES)
    if file is not None and figure in ("letters", "attributes", "datasets"):
        raise UserError(f"the figure {figure} renders its own images; leave out {file}")
    if not out.absolute().parent.is_dir():
        raise UserError(f"the folder {out.absolute().parent} does not exist")
    drawn = FIGURES[figure](recipe, file)
    temporary = out.with_name(out.name + ".tmp")
    try:
        with storage.unwritable_is_a_user_error(out):
            drawn.savefig(temporary, format="png", dpi=120)
            temporary.rename(out)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def tile(images: Sequence[np.ndarray], num_columns: int, cell: int | None = None) -> np.ndarray:
    """Returns images side by side with white lines between them, uint8 [H', W', 3].

    Args:
      images: uint8 [H, W, 1 or 3], of different sizes if `cell` is given.
      cell: pixels of the side to which each is enlarged, by repeating its pixels.
    """
    cells = [_enlarged(image, cell) for image in images]
    height, width = cells[0].shape[:2]
    gap = max(1, height // 16)
    num_rows = -(-len(cells) // num_columns)
    out = np.full((num_rows * (height + gap) - gap, num_columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(cells):
        top, left = i // num_columns * (height + gap), i % num_columns * (width + gap)
        out[top : top + height, left : left + width] = image
    return out


def beside(path: Path) -> Path:
    """Draws the first hundred samples of a file into FILE_preview.png, twice as large as they are; returns its path."""
    from PIL import Image

    out = path.with_name(f"{path.stem}_preview.png")
    with storage.open_file(path) as file:
        images = list(file["x"][:NUM_GRID])
    picture = tile(images, min(10, len(images)), min(LARGEST_CELL, 2 * max(images[0].shape[:2])))
    with storage.unwritable_is_a_user_error(out), written_whole(out) as handle:
        Image.fromarray(picture).save(handle, "png")
    return out


def grid(recipe: Recipe, file: Path | None) -> Any:
    if file is None:
        made = recipe.load()
        images = render(made.sampler, made.mask_aggregator, recipe.seed, range(NUM_GRID))[0]
        title = ", ".join([recipe.dataset, *(f"{k} {v}" for k, v in recipe.options.items())])
    else:
        with storage.open_file(file) as opened:
            images, title = list(opened["x"][:NUM_GRID]), file.name
    picture = tile(images, min(10, len(images)))
    return _stacked([(title, picture)])


def letters(recipe: Recipe, file: None) -> Any:
    """Source: the original's grid of characters and fonts."""
    found = alphabet(recipe.options.get("language", "english"), auxiliary=False, fonts=recipe.search.find())
    chars = found.symbols[:NUM_LETTERS]
    chosen = [found.fonts[i] for i in evenly(len(found.fonts), NUM_FONTS)]
    plain = {"scale": 0.9, "rotation": 0.0, "translation": 0.0, "is_bold": False, "is_slant": False, "resolution": 32}
    plain |= {"foreground": SolidColor((0, 0, 0)), "background": SolidColor((1, 1, 1)), "inverse_color": False}
    rows = []
    for font in chosen:
        samplers = (attribute_sampler(alphabet=found, char=char, font=font, **plain) for char in chars)
        rows.append((font.name, tile([render(s, None, recipe.seed, [0])[0][0] for s in samplers], len(chars))))
    return _stacked(rows, beside=True)


def evenly(size: int, most: int) -> list[int]:
    """Returns up to `most` different numbers of 0 … size-1, evenly spaced."""
    return sorted(set(np.linspace(0, size - 1, min(size, most)).round().astype(int).tolist()))


def attributes(recipe: Recipe, file: None) -> Any:
    fonts = recipe.search.find()
    latin = alphabet("english", auxiliary=False, fonts=fonts)
    upright = {"scale": 0.8, "rotation": 0.0, "translation": 0.0, "is_bold": False, "is_slant": False}
    plain = upright | {"foreground": SolidColor((0, 0, 0)), "background": SolidColor((1, 1, 1)), "inverse_color": False}
    chosen = [latin.fonts[i] for i in np.linspace(0, len(latin.fonts) - 1, NUM_COLUMNS).round().astype(int)]
    by_font = (attribute_sampler(alphabet=latin, char="a", font=font, resolution=CELL, **plain) for font in chosen)
    letters = list(_alphabets(fonts))
    each = max(1, NUM_COLUMNS // len(letters))
    by_language = (attribute_sampler(alphabet=a, resolution=CELL, **plain) for a in letters for _ in range(each))
    by_size = (
        attribute_sampler(alphabet=latin, char="g", font=chosen[0], resolution=size, **upright)
        for size in (8, 12, 16, 24, 32, 48, 64, 96, 128)
    )
    strokes = {"stroke_width": 0.1, "stroke_length": 0.6, "stroke_noise": 0.0}
    textures = [
        (SolidColor((1, 1, 1)), SolidColor((0, 0, 0))),
        (Gradient(), Gradient()),
        (Gradient(), MultiGradient()),
        (Camouflage(stroke_angle=0.0, **strokes), Camouflage(stroke_angle=np.pi / 2, **strokes)),
    ]
    if pictures := _pictures(recipe.options.get("pictures")):
        textures += [(SolidColor((1, 1, 1)), pictures), (pictures, pictures)]
    by_texture = (
        attribute_sampler(alphabet=latin, foreground=front, background=back, resolution=CELL, **upright | bold)
        for front, back in textures
        for bold in ({}, {"is_bold": True})
    )
    rows = {"fonts": by_font, "languages": by_language, "resolutions": by_size, "textures": by_texture}
    return _stacked([(title, _row(samplers, recipe.seed)) for title, samplers in rows.items()])


def datasets(recipe: Recipe, file: None) -> Any:
    root, rows = recipe.options.get("pictures"), []
    for name, entry in DATASETS.items():
        is_photographed = "pictures" in options_of(entry)
        if is_photographed and _pictures(root) is None:
            continue
        options = {"pictures": root} if is_photographed and root is not None else {}
        try:
            made = Recipe(name, recipe.seed, options, recipe.search).load()
        except UserError:
            continue  # no fonts for its language
        images = render(made.sampler, made.mask_aggregator, recipe.seed, range(NUM_COLUMNS))[0]
        rows.append((name, tile(images, NUM_COLUMNS, CELL)))
    return _stacked(rows, beside=True)


def histograms(recipe: Recipe, file: Path | None) -> Any:
    columns = _columns(recipe, file)
    names = [name for name, values in columns.items() if np.nanmin(values) < np.nanmax(values)]
    parts = random_split(len(columns["label"])).rows()
    figure, axes = _figure(-(-len(names) // 3), 3, height=2.4)
    for name, axis in zip(names, axes.flat):
        values = columns[name].astype(float)
        discrete = columns[name].dtype.kind in "iub"
        bins = np.arange(np.nanmin(values), np.nanmax(values) + 2) - 0.5 if discrete else 30
        axis.hist([values[parts[p]] for p in PARTS], bins, stacked=True, label=PARTS, color=COLOURS)
        axis.set_title(f"{name} (radians)" if name == "rotation" else name, fontsize=9)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    axes.flat[0].set_ylabel("samples")
    axes.flat[0].legend(fontsize=7)
    return figure


def splits(recipe: Recipe, file: Path | None) -> Any:
    columns = _columns(recipe, file)
    figure, axes = _figure(1, len(SHOWN_SPLITS), height=3.4)
    for name, axis in zip(SHOWN_SPLITS, axes.flat):
        for (part, rows), colour in zip(standard_split(name, columns).rows().items(), COLOURS):
            axis.scatter(columns["rotation"][rows], columns["scale"][rows], s=2, color=colour, label=part)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("rotation (radians)")
    axes.flat[0].set_ylabel("scale (of the image's side)")
    axes.flat[0].legend(fontsize=7, markerscale=4)
    return figure


FIGURES: dict[str, Callable[[Recipe, Path | None], Any]] = {
    function.__name__: function for function in (grid, letters, attributes, datasets, histograms, splits)
}


def _columns(recipe: Recipe, file: Path | None) -> dict[str, np.ndarray]:
    """Returns the attributes of a file, or of some samples that need not be rendered for it."""
    if file is None:
        sampler = recipe.load().sampler
        return attribute_columns([attributes_of(sampler(generator(recipe.seed, i))) for i in range(NUM_POINTS)])
    with storage.open_file(file) as opened:
        return attribute_columns([json.loads(y) for y in opened["y"]], *storage.classes_of(opened))


def _pictures(root: str | None) -> ImagePattern | None:
    """Returns a pattern of these pictures, or None where there are none: scikit-learn's are not installed."""
    try:
        picture_files(root)
    except UserError:
        if root is not None:
            raise
        return None
    return ImagePattern(root=root)


def _alphabets(fonts: Any) -> Iterable[Any]:
    for language in LANGUAGES:
        try:
            yield alphabet(language, auxiliary=False, fonts=fonts)
        except UserError:
            continue  # no fonts for it


def _row(samplers: Iterable[Callable], seed: int) -> np.ndarray:
    """Returns a sample of each sampler side by side."""
    images = [render(sampler, None, seed, [i])[0][0] for i, sampler in enumerate(samplers)]
    return tile(images, len(images), 128)


def _enlarged(image: np.ndarray, cell: int | None) -> np.ndarray:
    """Returns an image [H, W, 1 or 3] as RGB, its longer side enlarged or reduced to `cell` pixels."""
    if cell is None:
        return np.broadcast_to(image, (*image.shape[:2], 3))
    height, width = image.shape[:2]
    rows, columns = (np.arange(cell) * size // cell for size in (height, width))
    return np.broadcast_to(image, (height, width, 3))[rows][:, columns]


def _figure(num_rows: int, num_columns: int, *, width: float = 9.0, height: float) -> tuple[Any, np.ndarray]:
    """Returns a figure that no window shows, and its axes [rows, columns]."""
    from matplotlib.figure import Figure

    figure = Figure((width, height * num_rows), layout="constrained")
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def _stacked(rows: Sequence[tuple[str, np.ndarray]], *, beside: bool = False) -> Any:
    """Returns pictures below each other, with their titles above or beside them."""
    from matplotlib.figure import Figure

    width = 9.0
    heights = [picture.shape[0] / picture.shape[1] * width for _, picture in rows]
    figure = Figure((width + 1.9 * beside, sum(heights) + (0.05 if beside else 0.35) * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (title, picture), axis in zip(rows, axes):
        axis.imshow(picture, interpolation="nearest")
        axis.set(xticks=[], yticks=[], frame_on=False)
        if beside:
            axis.set_anchor("E")
            axis.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
        else:
            axis.set_title(title, loc="left", fontsize=10)
    return figure
