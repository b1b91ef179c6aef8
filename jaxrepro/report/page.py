"""report.html: one self-contained page per run, with numbers, curves, pictures and everything needed to repeat it.

    write_page("runs/yoto_cifar-smoke")              # a finished run
    write_page(workdir, results=results)             # before results.json is written

The page needs nothing beside it: styles are inline and pictures are embedded.
"""

import base64
import html
import json
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

from jaxrepro import __version__
from jaxrepro.report.curves import draw_curves
from jaxrepro.report.figures import CAPTIONS, derive
from jaxrepro.report.reference import load_reference
from jaxrepro.report.runs import Run, as_number, read_curves, read_json, read_run
from jaxrepro.report.tables import Table, format_number, join, readable, to_html
from jaxrepro.writers import save_picture, write_atomically

TEMPLATE_PATH = Path(__file__).parent / "template.html"
CURVES = "curves"
MAX_EMBEDDED_BYTES = 40_000_000  # a page that a browser still opens at once
SMALL_PIXELS = 700  # narrower pictures that are not plots are enlarged by whole factors
PLOT_PIXELS = 1000  # wider ones are plots with small letters: a phone scrolls them instead of shrinking them

escape = html.escape


def write_page(run_dir: str | Path, results: Mapping[str, Any] | None = None) -> Path:
    """Writes figures/curves.png and report.html into a run folder, atomically.

    Args:
      run_dir: the folder with config.json, metrics.jsonl and figures/.
      results: what results.json holds or will hold; by default the file is read.

    Returns:
      The path of report.html.

    Raises:
      UserError: `results` is None and the run is not finished.
    """
    run_dir = Path(run_dir)
    if results is None:
        run = read_run(run_dir)
    else:
        config_path = run_dir / "config.json"
        run = Run(run_dir, results, read_json(config_path) if config_path.exists() else {})
    curves = draw_curves(read_curves(run_dir / "metrics.jsonl"))
    if curves is not None:
        save_picture(run_dir / "figures" / f"{CURVES}.png", curves)
    path = run_dir / "report.html"
    write_atomically(path, render(f"{readable(run.experiment)} · {run.preset}", _body(run)))
    return path


def render(title: str, body: str) -> str:
    """Returns a whole page; `title` is escaped here, `body` is HTML."""
    return Template(TEMPLATE_PATH.read_text(encoding="utf-8")).substitute(title=escape(title), body=body)


def _body(run: Run) -> str:
    figures_dir = run.run_dir / "figures"
    plots = sorted(p for p in figures_dir.glob("*.png") if not p.name.startswith("."))
    curves = [p for p in plots if p.stem == CURVES]
    pictures = [p for p in plots if p.stem != CURVES]
    captions = CAPTIONS | captions_of(figures_dir)
    records = run.records + derive(run.experiment, [run], run.records)
    table = join(records, load_reference(run.experiment, run.version))
    sections = [
        _header(run),
        section("Final metrics", metrics_table(run.results.get("metrics") or {})),
        section("Beside the published numbers", to_html(table) if table.labels else ""),
        section("Figures", figures_html(pictures, captions)),
        section("Learning curves", figures_html(curves, {CURVES: _curves_caption(run)})),
        section("Details", _details(run, table)),
    ]
    return "\n".join(s for s in sections if s) + f"\n<footer>Written by jaxrepro {__version__}.</footer>"


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _header(run: Run) -> str:
    environment = run.results.get("environment") or {}
    name = run.results.get("name")
    kicker = f"{name}, preset {run.preset}" if name else f"preset {run.preset}"
    facts = {"command": run.command, "date": run_date(run), "device": _device(environment)}
    facts["versions"] = ", ".join(f"{k} {environment[k]}" for k in ("python", "jax", "flax") if environment.get(k))
    facts["note"] = "; ".join(run.results.get("notes") or [])
    shown = {k: escape(v) for k, v in facts.items() if v}
    if run.command:  # words stay whole where the line breaks
        words = (f'<span class="word">{escape(word)}</span>' for word in run.command.split(" "))
        shown["command"] = f"<code>{' '.join(words)}</code>"
    rows = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in shown.items())
    return (
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(readable(run.experiment))}</h1>'
        f'<p class="verdict">{escape(verdict(run))}</p><dl class="facts">{rows}</dl></header>'
    )


def _device(environment: Mapping) -> str:
    device = environment.get("device") or environment.get("devices") or ""
    return device if isinstance(device, str) else ", ".join(str(d) for d in device)


def verdict(run: Run) -> str:
    """Returns one sentence: how far the run went, with how many seeds, in what time."""
    step = run.results.get("step")
    text = f"Finished at step {step:,}" if isinstance(step, int) else "Finished"
    run_seeds = seeds_of(run)
    if run_seeds:
        text += (
            f", seed {run_seeds[0]}"
            if len(run_seeds) == 1
            else f", {len(run_seeds)} seeds ({', '.join(map(str, run_seeds))})"
        )
    seconds = as_number((run.results.get("timing") or {}).get("total_seconds"))
    return text + (f", in {duration(seconds)}." if seconds == seconds else ".")


def seeds_of(run: Run) -> list:
    """Returns the run's seeds, from its results, its config or its records."""
    config = run.config.get("config") or run.config
    if listed := run.results.get("seeds") or config.get("seeds"):
        return list(listed)
    return sorted({r["seed"] for r in run.records if r.get("seed") is not None})


def duration(seconds: float) -> str:
    """Returns "48 s", "3 min 20 s", "2 h 5 min" or "3 d 4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    i = next(i for i, (size, _) in enumerate(units) if seconds >= size)
    (large, large_name), (small, small_name) = units[i], units[i + 1]
    whole = round(seconds / small) * small
    rest = whole % large // small
    return f"{whole // large} {large_name}" + (f" {rest} {small_name}" if rest else "")


def run_date(run: Run) -> str:
    """Returns when the run finished: the date in results.json, else the time of that file, else now."""
    if date := run.results.get("date") or (run.results.get("environment") or {}).get("date"):
        return str(date)
    path = run.run_dir / "results.json"
    when = datetime.fromtimestamp(path.stat().st_mtime) if path.exists() else datetime.now()
    return when.strftime("%-d %B %Y, %H:%M")


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Returns final metrics as a table: one row per quantity, one column per split, mean ± std over seeds."""
    if not metrics:
        return '<p class="soft">The run reports no metrics.</p>'
    by_name: dict[str, dict[str, str]] = {}
    splits: list[str] = []
    for key, value in metrics.items():
        split, _, name = key.rpartition("/")
        by_name.setdefault(name, {})[split] = metric_text(value)
        if split not in splits:
            splits.append(split)
    order = {"test": 0, "valid": 1, "train": 3}
    splits.sort(key=lambda s: order.get(s, 2))
    heads = "".join(f'<th class="number">{escape(readable(s) or "value")}</th>' for s in splits)
    rows = "".join(
        f'<tr class="group"><td>{escape(readable(name))}</td>'
        + "".join(
            f'<td class="number">{escape(values[s])}</td>' if s in values else '<td class="number absent">–</td>'
            for s in splits
        )
        + "</tr>"
        for name, values in by_name.items()
    )
    table = f"<table><thead><tr><th>metric</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    several = any(isinstance(v, Mapping) for v in metrics.values())
    note = '<ul class="notes"><li>mean ± sample standard deviation over seeds</li></ul>' if several else ""
    return f'<div class="scroll">{table}</div>{note}'


def metric_text(value: Any) -> str:
    """Returns a final metric as text; it is a number or {"mean", "std", "values"}."""
    if isinstance(value, Mapping):
        mean, std = as_number(value.get("mean")), as_number(value.get("std"))
        return format_number(mean, std if std == std else None)
    return format_number(as_number(value))


def captions_of(figures_dir: Path) -> dict[str, str]:
    """Returns figures/captions.json, {file name without suffix: caption}, or {} where there is none."""
    path = figures_dir / "captions.json"
    return {str(k): str(v) for k, v in read_json(path).items()} if path.exists() else {}


def caption_of(stem: str, captions: Mapping[str, str]) -> str:
    """Returns a picture's caption: its own, that of the name without "_seed3", or the name in words."""
    name, separator, seed = stem.rpartition("_seed")
    if stem in captions or not (separator and seed.isdigit()):
        return captions.get(stem) or readable(stem).capitalize()
    return f"{captions.get(name) or readable(name).capitalize()} (seed {seed})"


def _curves_caption(run: Run) -> str:
    spread = " Lines are means over seeds, bands one standard deviation." if len(seeds_of(run)) > 1 else ""
    return f"Metrics over training steps, by split.{spread}"


def figures_html(paths: Sequence[Path], captions: Mapping[str, str]) -> str:
    """Returns pictures with captions, embedded as data; beyond a total size only their names."""
    parts, left = [], MAX_EMBEDDED_BYTES
    for path in paths:
        data = path.read_bytes()
        caption = escape(caption_of(path.stem, captions))
        left -= len(data)
        if left < 0:
            parts.append(f"<p>{caption}: <code>figures/{escape(path.name)}</code> (too large to embed)</p>")
            continue
        width, height = png_size(data)
        factor = max(1, SMALL_PIXELS // width) if width else 1
        factor = min(factor, 4) if width < PLOT_PIXELS else 1
        kind = "pixels" if factor > 1 else "plot" if width >= PLOT_PIXELS else "picture"
        parts.append(
            f'<figure><div class="frame"><img class="{kind}" width="{width * factor}" height="{height * factor}" '
            f'alt="{caption}" src="data:image/png;base64,{base64.b64encode(data).decode()}"></div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return "\n".join(parts)


def png_size(data: bytes) -> tuple[int, int]:
    """Returns width and height of a PNG from its header."""
    return struct.unpack(">II", data[16:24]) if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24 else (0, 0)


def _details(run: Run, table: Table) -> str:
    config = run.config.get("config") or run.config
    blocks = []
    if run.records and not table.labels:
        blocks.append(details("Measured cells", to_html(table)))
    blocks += [
        details(
            "Configuration",
            f"<pre>{escape(json.dumps(config, indent=2, ensure_ascii=False))}</pre>" if config else "",
        ),
        details("Environment", facts_table(run.results.get("environment") or {})),
        details("Timing", facts_table(run.results.get("timing") or {})),
    ]
    if fingerprint := run.results.get("config_fingerprint"):
        blocks.append(f'<p class="soft">Configuration fingerprint <code>{escape(str(fingerprint))}</code></p>')
    return "".join(blocks)


def details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def facts_table(facts: Mapping[str, Any]) -> str:
    """Returns names and values as a table; seconds are also given as a duration."""
    rows = []
    for key, value in facts.items():
        if isinstance(value, Mapping | list | tuple):
            text = json.dumps(value, ensure_ascii=False)
        elif isinstance(value, float):
            text = format_number(value)
        else:
            text = str(value)
        if key.endswith("_seconds") and as_number(value) >= 60:
            text += f" ({duration(value)})"
        rows.append(f'<tr><td>{escape(readable(str(key)))}</td><td class="text">{escape(text)}</td></tr>')
    return f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>' if rows else ""
