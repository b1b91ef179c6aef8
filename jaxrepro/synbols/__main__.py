"""Synbols datasets from the command line.

    python -m jaxrepro.synbols generate --dataset=camouflage --num_samples=100000 --out=camouflage.h5 --workers=8
    python -m jaxrepro.synbols generate --num_samples=1000000 --out=part-3.h5 --shard=3/16   # on 16 machines, then
    python -m jaxrepro.synbols merge part-*.h5 --out=default.h5                              # the same file as from one
    python -m jaxrepro.synbols datasets                          # all of them; with a name, what it is drawn from
    python -m jaxrepro.synbols preview --dataset=camouflage --out=preview.png
    python -m jaxrepro.synbols fonts --language=korean
    python -m jaxrepro.synbols similar --out=similar.txt         # edit it, then: generate --exclude_fonts=similar.txt
    python -m jaxrepro.synbols export default.h5 --out=default.npz --split=random

Exit codes: 0 finished; 2 the input is wrong, one line says how; 75 interrupted, the same command continues.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrepro.errors import UserError

FINISHED, USER_ERROR, INTERRUPTED = 0, 2, 75
SECONDS_BETWEEN_LINES = 10.0


class Parser(argparse.ArgumentParser):
    """Reports a mistake as every other one: in one line."""

    def error(self, message: str):
        raise UserError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        options = parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # of `… | head`; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FINISHED


def parser() -> argparse.ArgumentParser:
    whole = Parser(
        prog="python -m jaxrepro.synbols", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(run: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(run.__name__, help=text, description=text)
        made.set_defaults(run=run)
        return made

    one = command(generate, "render a dataset into an HDF5 file; the same command continues an interrupted one")
    add_dataset_options(one, default="default")
    one.add_argument("--num_samples", type=int, default=10_000, metavar="N", help="default 10000")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.h5")
    one.add_argument("--workers", type=int, default=1, metavar="N", help="processes; they do not change the file")
    one.add_argument("--shard", type=shard, default=(0, 1), metavar="I/N", help="the I-th of N parts, from 0/N on")

    one = command(merge, "join shards to the file that one machine would have written")
    one.add_argument("files", nargs="+", type=Path, metavar="SHARD.h5")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.h5")

    for name in ("generate", "merge"):
        commands.choices[name].add_argument(
            "--no_preview", action="store_true", help="do not draw FILE_preview.png beside a whole file"
        )

    one = command(export, "write a file as a NumPy archive, without pickles")
    one.add_argument("file", type=Path, metavar="FILE.h5")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    one.add_argument("--split", metavar="NAME", help="name arrays after the parts of a stored split: train/image, …")

    one = command(preview, "draw a picture of a dataset")
    add_dataset_options(one, default=None)
    one.add_argument("--file", type=Path, metavar="FILE.h5", help="show a file instead of rendering")
    one.add_argument(
        "--figure", default="grid", metavar="NAME", help="grid, letters, attributes, datasets, histograms, splits"
    )
    one.add_argument("--out", type=Path, required=True, metavar="FILE.png")

    one = command(datasets, "list the datasets; with a name, the distribution of every attribute")
    one.add_argument("dataset", nargs="?", metavar="NAME")
    one.add_argument("--preview", type=Path, metavar="FILE.png", help="also draw a row of samples of each")
    add_font_options(one)

    one = command(fonts, "list the fonts found, and what is missing per language")
    one.add_argument("--language", metavar="NAME", help="details of one language")
    add_font_options(one)

    one = command(similar, "list fonts that look like another one, to be edited and given to --exclude_fonts")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.txt")
    one.add_argument("--language", default="english", metavar="NAME", help="whose letters are compared")
    one.add_argument("--max_distance", type=float, metavar="D", help="Ward distance up to which fonts are joined")
    one.add_argument("--num_merges", type=int, metavar="N", help="instead: join so many times")
    one.add_argument(
        "--embeddings", type=Path, metavar="FILE.npz",
        help="a classifier's, instead of pictures: python launch.py --config=configs/synbols_fonts.py makes them",
    )  # fmt: skip
    add_font_options(one)
    return whole


def add_dataset_options(one: argparse.ArgumentParser, default: str | None) -> None:
    one.add_argument("--dataset", default=default, metavar="NAME", help="a predefined dataset, such as camouflage")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--language", metavar="NAME", help="english, greek, korean, …")
    one.add_argument("--resolution", type=resolution, metavar="SIDE or WIDTHxHEIGHT", help="in pixels")
    one.add_argument(
        "--no_auxiliary", action="store_true", help="the standard letters only; English: 26 as in the paper"
    )
    one.add_argument("--compat", metavar="v1", help="the oddities of the original, where results depend on them")
    one.add_argument(
        "--strict", action="store_true", help="refuse a dataset that lacks languages or pictures of the published one"
    )
    one.add_argument("--pictures", type=Path, metavar="FOLDER", help="photographs for the dataset natural-patterns")
    add_font_options(one)


def add_font_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--fonts_dir", action="append", default=[], metavar="FOLDER", help="more fonts; may be repeated")
    one.add_argument("--system", action="store_true", help="fonts of the system, too")
    one.add_argument("--instances", action="store_true", help="every weight and width of a family as a font of its own")
    one.add_argument(
        "--normal_weight", type=int, default=500, metavar="400",
        help="of letters that are not bold: 500, Medium as in the original where a family has it; 400, Regular",
    )  # fmt: skip
    one.add_argument("--near_duplicates", action="store_true", help="families whose Latin letters equal another's, too")
    one.add_argument(
        "--exclude_fonts", type=Path, metavar="FILE", help="list of fonts to leave out, such as `similar` writes"
    )


def search_of(options: argparse.Namespace) -> Any:
    """Returns where the options tell to look for fonts."""
    from jaxrepro.synbols.fonts.similar import read_list
    from jaxrepro.synbols.generate import FontSearch

    without = () if options.exclude_fonts is None else read_list(options.exclude_fonts)
    return FontSearch(
        tuple(options.fonts_dir), options.system, options.instances, options.near_duplicates, without,
        options.normal_weight,
    )  # fmt: skip


def recipe_of(options: argparse.Namespace) -> Any:
    """Returns the recipe of the dataset that the options name."""
    from jaxrepro.synbols.generate import Recipe

    chosen = {k: getattr(options, k) for k in ("language", "resolution", "compat") if getattr(options, k) is not None}
    if options.no_auxiliary:
        chosen["auxiliary"] = False
    if options.pictures is not None:
        chosen["pictures"] = str(options.pictures)
    return Recipe(options.dataset or "default", options.seed, chosen, search_of(options), strict=options.strict)


def tell(recipe: Any) -> None:
    """Says in what a dataset falls short, if it does; UserError under --strict."""
    if note := recipe.load().note:
        print(f"note: {recipe.dataset}: {note}; --strict refuses such datasets", file=sys.stderr)


def shard(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    return int(i), int(n)


def resolution(text: str) -> tuple[int, int]:
    width, mark, height = text.partition("x")
    return int(width), int(height if mark else width)


# Commands


def generate(options: argparse.Namespace) -> None:
    from jaxrepro.synbols.generate import generate_file

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    recipe = recipe_of(options)
    tell(recipe)
    with Progress(options.dataset) as progress:
        generate_file(
            recipe, options.num_samples, options.out,
            workers=options.workers, shard=options.shard, progress=progress,
        )  # fmt: skip
    finished(options, whole=options.shard == (0, 1))


def finished(options: argparse.Namespace, *, whole: bool) -> None:
    """Prints the file's name and draws its first samples beside it."""
    from jaxrepro.synbols.preview import beside

    print(options.out)
    if whole and not options.no_preview:
        print(f"preview: {beside(options.out)}", file=sys.stderr)


def merge(options: argparse.Namespace) -> None:
    from jaxrepro.synbols.generate import merge_files

    merge_files(options.files, options.out)
    finished(options, whole=True)


def export(options: argparse.Namespace) -> None:
    from jaxrepro.synbols.storage import export_npz

    export_npz(options.file, options.out, options.split)
    print(options.out)


def preview(options: argparse.Namespace) -> None:
    from jaxrepro.synbols import preview as pictures

    if options.file is not None and options.dataset is not None:
        raise UserError("--file and --dataset exclude each other")
    recipe = recipe_of(options)
    if options.dataset is not None:
        tell(recipe)
    pictures.write(options.figure, options.out, recipe, options.file)
    print(options.out)


def datasets(options: argparse.Namespace) -> None:
    from jaxrepro.synbols.listing import description, listing

    search = search_of(options)
    print(listing() if options.dataset is None else description(options.dataset, search))
    if options.preview is not None:
        from jaxrepro.synbols import preview as pictures
        from jaxrepro.synbols.generate import Recipe

        figure = "datasets" if options.dataset is None else "grid"
        pictures.write(figure, options.preview, Recipe(options.dataset or "default", search=search))
        print(options.preview)


def fonts(options: argparse.Namespace) -> None:
    from jaxrepro.synbols.fonts.listing import report

    print(report(options.language, search_of(options).find()))


def similar(options: argparse.Namespace) -> None:
    from jaxrepro.synbols.fonts.similar import write_list

    chosen = {k: getattr(options, k) for k in ("max_distance",) if getattr(options, k) is not None}
    found = write_list(
        options.out, search_of(options).find(), options.language,
        num_merges=options.num_merges, embeddings=options.embeddings, **chosen,
    )  # fmt: skip
    print(found)


class Progress:
    """A bar with images/s on a terminal, a line now and then elsewhere; called with (done, total)."""

    def __init__(self, name: str):
        self.name, self.bar, self.begun, self.said = name, None, None, time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.begun is None:
            self.begun = (now, done)  # what an earlier call did is no measure of speed
        if sys.stderr.isatty():
            from tqdm import tqdm

            if self.bar is None:
                self.bar = tqdm(total=total, initial=done, desc=self.name, unit=" images", unit_scale=True)
            self.bar.update(done - self.bar.n)
        elif done == total or now - self.said >= SECONDS_BETWEEN_LINES:
            rate = (done - self.begun[1]) / max(now - self.begun[0], 1e-9)
            speed = f"  {rate:,.0f} images/s" if done > self.begun[1] else ""
            print(f"{self.name}: {done:,} of {total:,}{speed}", file=sys.stderr, flush=True)
            self.said = now


if __name__ == "__main__":
    sys.exit(main())
