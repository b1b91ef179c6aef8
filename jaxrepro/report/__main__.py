"""The tables and figures of the papers from finished runs, ours beside the published numbers.

    python -m jaxrepro.report runs/sesn_*-paper --out=report     # tables.md, .html, .json and figures/
    python -m jaxrepro.report runs/sesn_scalar-paper             # prints the tables

Without `--out` only the tables are printed, as Markdown.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxrepro.errors import UserError
from jaxrepro.report import html, papers
from jaxrepro.report.comparison import Comparison, compare
from jaxrepro.report.grids import grid_of, to_json, to_markdown
from jaxrepro.report.merge import check_selection, diverged_records, pass_over, select_runs
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import FinishedRun, by_experiment, read_run
from jaxrepro.report.text import markdown, readable
from jaxrepro.writers import save_picture, write_atomically, write_json

MOST_NAMED = 12  # runs whose folders are listed


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxrepro.report",
        description="Writes the papers' tables and figures from finished runs.",
    )
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="folders that launch.py wrote, such as runs/*")
    parser.add_argument("--out", metavar="DIR", help="where tables.md, tables.html, tables.json and figures/ go")
    parser.add_argument(
        "--select",
        metavar="METRIC:min",
        help="of the settings that give one cell take the best, e.g. valid/loss:min",
    )
    return parser.parse_args(arguments)


@dataclass(frozen=True)
class Part:
    """One experiment of a report: its runs, all their records, and the comparisons with the published numbers."""

    experiment: str
    runs: list[FinishedRun]
    records: list[dict]
    comparisons: list[Comparison]

    @property
    def intro(self) -> str:
        several = "s" * (len(self.runs) > 1)
        return f"Preset {self.runs[0].preset}; {len(self.runs)} run{several}."


def make_parts(runs: Sequence[FinishedRun], select: str | None = None) -> list[Part]:
    """Returns a part per experiment, in the order of the runs."""
    if select is not None:
        check_selection(runs, select)
    groups = by_experiment(runs)
    selected = {experiment: select_runs(own, select) for experiment, own in groups.items()}
    parts = []
    for experiment, own in groups.items():
        published = load_reference(experiment, own[0].version)
        records = [r for run in selected[experiment] for r in run.records]
        diverged = diverged_records(own, published)
        records = pass_over(diverged, records) if select else records + diverged
        others = [run for name, found in selected.items() if name != experiment for run in found]
        records += papers.find(experiment).derive(selected[experiment], records, others)
        parts.append(Part(experiment, own, records, compare(records, published, complete=True)))
    everything = [c for part in parts for c in part.comparisons]
    marked = {part.experiment: papers.find(part.experiment).mark for part in parts}
    return [replace(p, comparisons=[marked[p.experiment](c, everything) for c in p.comparisons]) for p in parts]


def markdown_of(part: Part) -> str:
    tables = to_markdown(part.comparisons) if part.comparisons else "No cells of its tables measured.\n"
    return f"## {markdown(readable(part.experiment))}\n\n{markdown(part.intro)}\n\n{tables}"


def write_report(out: Path, parts: Sequence[Part]) -> list[Path]:
    """Writes the tables as Markdown, HTML and JSON, and the figures that need several runs; returns their paths."""
    shown, drawn = [], []
    for part in parts:
        paper = papers.find(part.experiment)
        pictures = []
        for name, figure in (paper.figures(part.records) | paper.figures_of_runs(part.runs)).items():
            pictures.append(out / "figures" / f"{part.experiment}_{name}.png")
            save_picture(pictures[-1], figure)
        captions = {f"{part.experiment}_{k}": v for k, v in paper.captions.items()}
        names = ", ".join(run.folder.name for run in part.runs) if len(part.runs) <= MOST_NAMED else ""
        shown.append(
            {
                "heading": readable(part.experiment),
                "intro": f"{part.intro} {names}".rstrip(),
                "pictures": html.read_pictures(pictures, captions),
                "grids": [grid_of(c) for c in part.comparisons],
            }
        )
        drawn += pictures
    texts = {
        "tables.md": "\n".join(map(markdown_of, parts)),
        "tables.html": html.fill("tables.html", title="Tables and figures", experiments=shown),
    }
    for name, text in texts.items():
        write_atomically(out / name, text)
    write_json(out / "tables.json", {part.experiment: to_json(part.comparisons) for part in parts})
    return [*(out / name for name in texts), out / "tables.json", *drawn]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 with one line on stderr when the input is wrong."""
    options = parse_arguments(arguments)
    try:
        parts = make_parts([read_run(d) for d in dict.fromkeys(options.run_dirs)], options.select)
        if options.out is None:
            print("\n".join(map(markdown_of, parts)))
        else:
            try:
                written = write_report(Path(options.out), parts)
            except OSError as error:
                raise UserError(
                    f"--out={options.out} cannot be written ({error.strerror}); give a folder, new or your own"
                ) from None
            print("\n".join(map(str, written)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
