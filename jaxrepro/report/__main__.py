"""The tables and figures of the papers from finished runs, ours beside the published numbers.

    python -m jaxrepro.report runs/sesn_*-paper --out=report     # tables.md, .html, .json and figures/
    python -m jaxrepro.report runs/sesn_scalar-paper             # prints the tables

Without `--out` only the tables are printed, as Markdown.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxrepro.errors import UserError
from jaxrepro.report import figures
from jaxrepro.report.page import captions_of, figures_html, render, section
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import Run, read_run
from jaxrepro.report.tables import Table, diverged_records, join, merge_runs, readable, to_html, to_json, to_markdown
from jaxrepro.writers import save_picture, write_atomically, write_json


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
        help="of runs with the same cell and seed take the best, e.g. valid/loss:min",
    )
    return parser.parse_args(arguments)


def by_experiment(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    return groups


def markdown_of(experiment: str, runs: Sequence[Run], table: Table) -> str:
    preset = f"Preset {runs[0].preset}; {len(runs)} run{'s' * (len(runs) > 1)}."
    return f"## {readable(experiment)}\n\n{preset}\n\n" + (
        to_markdown(table) if table.lines else "No cells of its tables measured.\n"
    )


def write_report(out: Path, experiments: dict[str, tuple[list[Run], list[dict], Table]]) -> list[Path]:
    """Writes the tables as Markdown, HTML and JSON, and the figures that need several runs; returns their paths."""
    body, drawn = ["<header><h1>Tables and figures</h1></header>"], []
    for experiment, (runs, records, table) in experiments.items():
        pictures = []
        drawings = figures.draw(experiment, records) | figures.draw_runs(experiment, runs)
        for name, figure in drawings.items():
            pictures.append(out / "figures" / f"{experiment}_{name}.png")
            save_picture(pictures[-1], figure)
        captions = {f"{experiment}_{k}": v for k, v in figures.CAPTIONS.items()} | captions_of(out / "figures")
        intro = f'<p class="soft">Preset {section_text(runs)}.</p>'
        body.append(section(readable(experiment), intro + figures_html(pictures, captions) + to_html(table)))
        drawn += pictures
    texts = {
        "tables.md": "\n".join(markdown_of(e, runs, table) for e, (runs, _, table) in experiments.items()),
        "tables.html": render("Tables and figures", "\n".join(body)),
    }
    for name, text in texts.items():
        write_atomically(out / name, text)
    write_json(out / "tables.json", {e: to_json(table) for e, (_, _, table) in experiments.items()})
    return [*(out / name for name in texts), out / "tables.json", *drawn]


def section_text(runs: Sequence[Run]) -> str:
    import html

    return html.escape(f"{runs[0].preset}; runs: {', '.join(run.run_dir.name for run in runs)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 with one line on stderr when the input is wrong."""
    options = parse_arguments(arguments)
    try:
        experiments = {}
        for experiment, runs in by_experiment([read_run(d) for d in dict.fromkeys(options.run_dirs)]).items():
            published = load_reference(experiment, runs[0].version)
            records = merge_runs(runs, options.select) + diverged_records(runs, published)
            records += figures.derive(experiment, runs, records)
            experiments[experiment] = (runs, records, join(records, published, complete=True))
        if options.out is None:
            print("\n".join(markdown_of(e, runs, table) for e, (runs, _, table) in experiments.items()))
        else:
            for path in write_report(Path(options.out), experiments):
                print(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
