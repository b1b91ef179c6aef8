"""Our records joined with the published ones, cell by cell: a table that says "missing" where a number is missing.

    table = join(run.records, load_reference("sesn"))
    print(to_markdown(table))

Lines follow the order of the publication; several seeds become mean ± sample standard deviation.
"""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxrepro.errors import UserError
from jaxrepro.report.reference import PublishedRecord
from jaxrepro.report.runs import Run, as_number

MISSING = "missing"
EMPTY_IN_SOURCE = "not reported"
NOT_FINITE = "not finite"
DIVERGED = "diverged"
OURS = "ours"
ACRONYMS = {
    word.lower(): word
    for word in ("KL", "NLL", "MAE", "GAME", "ECE", "AUC", "OOD", "YOTO", "DCGAN", "SESN", "MAML", "Synbols")
}
MAX_PIVOT_COLUMNS = 8
GROUP = ' class="group"'


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
      value: mean over seeds; None when no number was reported or it is not finite.
      std: sample standard deviation over seeds (ours) or the printed spread (published); None without one.
      num_seeds: of ours; None for published numbers.
      note: conditions and doubts.
      diverged: of ours, whether training ended in numbers that are not finite.
    """

    value: float | None
    std: float | None = None
    num_seeds: int | None = None
    note: str = ""
    diverged: bool = False

    def text(self, decimals: int | None = None) -> str:
        """Returns the number; ours with `decimals`, those of the published numbers beside it, where given."""
        if self.value is None:
            return DIVERGED if self.diverged else EMPTY_IN_SOURCE if self.num_seeds is None else NOT_FINITE
        if self.num_seeds is None:
            return format_published(self.value, self.std)
        coarse = decimals is None or (self.std and self.std < 0.5 * 10**-decimals)
        if coarse:
            return format_number(self.value, self.std)
        spread = "" if self.std is None else f" ± {self.std:.{decimals}f}"
        return f"{self.value:.{decimals}f}{spread}"


@dataclass(frozen=True)
class Line:
    """The numbers of one cell of the paper: ours and each publication's, by column label; absent = missing."""

    table: str
    row: str
    column: str
    metric: str
    unit: str | None
    cells: Mapping[str, Cell] = field(default_factory=dict)

    def text(self, label: str) -> str:
        if label not in self.cells:
            return MISSING
        published = [c for s, c in self.cells.items() if s != OURS and c.value is not None]
        decimals = [num_decimals(v) for c in published for v in (c.value, c.std) if v is not None]
        return self.cells[label].text(max(decimals, default=None))


@dataclass(frozen=True)
class Table:
    """Joined lines, ordered as published, ours without a counterpart after them.

    Attributes:
      lines: one per (table, row, column, metric).
      labels: the publications that appear ("paper", "repository (v2)"), in order.
    """

    lines: tuple[Line, ...]
    labels: tuple[str, ...]

    def parts(self) -> list[tuple[str, "Table"]]:
        """Splits into one table per (table, metric), each with the publications it has; returns (title, table)."""
        groups: dict[tuple[str, str], list[Line]] = {}
        for line in self.lines:
            groups.setdefault((line.table, line.metric), []).append(line)
        parts = []
        for (name, metric), lines in groups.items():
            unit = next((line.unit for line in lines if line.unit), None)
            title = f"{readable(name)}: {readable(metric)}" + (f" ({unit})" if unit else "")
            labels = tuple(s for s in self.labels if any(s in line.cells for line in lines))
            parts.append((title, Table(tuple(lines), labels)))
        return parts


def readable(name: str) -> str:
    """Returns a name in words: "table2" -> "Table 2", "loss_mean" -> "loss mean", "kl" -> "KL"."""
    words = re.sub(r"^(table|figure) *(?=[0-9])", r"\1 ", name.replace("_", " "), flags=re.IGNORECASE)
    words = " ".join(ACRONYMS.get(word.lower(), word) for word in words.split(" "))
    return words[0].upper() + words[1:] if words.lower().startswith(("table ", "figure ")) else words


def format_number(value: float, std: float | None = None) -> str:
    """Returns "12.35 ± 0.21": two significant digits of the deviation, four of a lone value."""
    if not math.isfinite(value):
        return NOT_FINITE
    if std is not None and math.isfinite(std) and std > 0:
        if not 1e-5 <= max(abs(value), std) < 1e7:
            return f"{value:.3e} ± {std:.1e}"
        decimals = min(max(1 - math.floor(math.log10(std)), 0), 6)
        return f"{value:.{decimals}f} ± {std:.{decimals}f}"
    tail = " ± 0" if std == 0 else ""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value)}{tail}"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}{tail}"
    return f"{value:.{min(max(3 - math.floor(math.log10(abs(value))), 0), 6)}f}{tail}"


def format_published(value: float, std: float | None) -> str:
    """Returns a number as it was printed, value and spread with the same decimals."""
    if std is None:
        return f"{value:g}" if abs(value) < 1e6 else f"{value:,.0f}"
    decimals = max(num_decimals(value), num_decimals(std))
    return f"{value:.{decimals}f} ± {std:.{decimals}f}"


def num_decimals(value: float) -> int:
    text = repr(float(value))
    return 0 if text.endswith(".0") or "e" in text else len(text.split(".")[1])


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the sample standard deviation (n - 1), None for one value."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def join(records: Iterable[Mapping], published: Iterable[PublishedRecord], *, complete: bool = False) -> Table:
    """Joins our records with published ones by (table, row, column, metric).

    Args:
      records: dicts with table, row, column, metric, value and, optionally, seed, unit and diverged (a message); one
        per seed.
      published: of one experiment.
      complete: also take the published cells that we have not measured, from every table and metric of which we
        have measured something. Otherwise only the cells of `records`.

    Returns:
      The table; ours is the mean ± sample standard deviation over seeds.
    """
    ours: dict[tuple, dict] = {}
    for r in records:
        cell = tuple(str(r[k]) for k in ("table", "row", "column", "metric"))
        entry = ours.setdefault(cell, {"values": {}, "unit": None, "diverged": ""})
        entry["values"][r.get("seed")] = as_number(r["value"])
        entry["unit"] = entry["unit"] or r.get("unit")
        entry["diverged"] = entry["diverged"] or r.get("diverged", "")
    measured = {(cell[0], cell[3]) for cell in ours}
    lines: dict[tuple, tuple[str | None, dict[str, Cell]]] = {}
    labels: list[str] = []
    for p in published:
        if p.cell in ours or (complete and (p.table, p.metric) in measured):
            cells = lines.setdefault(p.cell, (p.unit, {}))[1]
            cells[p.label] = Cell(p.value, p.std, note=p.note)
            if p.label not in labels:
                labels.append(p.label)
    for cell, entry in ours.items():
        unit, cells = lines.setdefault(cell, (entry["unit"], {}))
        values, diverged = list(entry["values"].values()), entry["diverged"]
        cells[OURS] = our_cell(values, entry["unit"], unit)
        if diverged:
            cells[OURS] = Cell(None, None, len(values), note=f"diverged: {diverged}", diverged=True)
    return Table(tuple(Line(*cell, unit, cells) for cell, (unit, cells) in lines.items()), tuple(sorted(labels)))


def our_cell(values: Sequence[float], unit: str | None, published_unit: str | None) -> Cell:
    """Returns the mean over seeds in the published unit; a unit that cannot be converted is named in the note."""
    note = ""
    if unit and published_unit and unit != published_unit:
        if (unit, published_unit) == ("fraction", "percent"):
            values = [100 * v for v in values]
        else:
            note = f"ours is in {unit}, published in {published_unit}"
    mean, std = mean_and_std(values)
    finite = math.isfinite(mean)
    return Cell(mean if finite else None, std if finite else None, len(values), note)


def merge_runs(runs: Sequence[Run], select: str | None = None) -> list[dict]:
    """Returns the records of several runs of one experiment; a cell measured twice needs `select`.

    Args:
      runs: finished runs.
      select: "METRIC:min" or "METRIC:max": of runs that give the same cell and seed, such as those of a search over
        learning rates, the one whose final METRIC is best is taken.

    Raises:
      UserError: presets or versions of the data differ, the same cell and seed comes from two runs and `select` is
        None, or a run lacks METRIC.
    """
    for what in ("preset", "version"):
        if len({getattr(run, what) for run in runs}) > 1:
            names = "; ".join(f"{run.run_dir} has {getattr(run, what)}" for run in runs[:4])
            raise UserError(
                f"{what}s of {runs[0].experiment} differ ({names}); report the runs of one {what} at a time"
            )
    chosen: dict[tuple, tuple[Run, dict]] = {}
    for run in runs:
        for r in run.records:
            key = (*(r[k] for k in ("table", "row", "column", "metric")), r.get("seed"))
            rival = chosen.get(key)
            if rival is not None and rival[0] is not run:
                if select is None:
                    raise UserError(
                        f"{rival[0].run_dir} and {run.run_dir} both give {', '.join(key[:4])} for seed {key[4]}; "
                        "leave one out, or choose by a validation metric with --select=valid/loss:min"
                    )
                if score(rival[0], select) <= score(run, select):
                    continue
            chosen[key] = (run, r)
    return [r for _, r in chosen.values()]


def score(run: Run, select: str) -> float:
    """Returns the final metric of a run, negated for "max": smaller is better; infinite where it is not finite."""
    name, _, direction = select.partition(":")
    if direction not in ("min", "max"):
        raise UserError(f"--select={select} must be METRIC:min or METRIC:max, such as valid/loss:min")
    metrics = run.results.get("metrics") or {}
    if name not in metrics:
        raise UserError(
            f"{run.run_dir} has no metric {name!r} to select by; it has {', '.join(sorted(metrics)) or 'none'}"
        )
    value = metrics[name]
    value = as_number(value["mean"] if isinstance(value, Mapping) else value)
    if math.isnan(value):
        return math.inf
    return value if direction == "min" else -value


def diverged_records(runs: Sequence[Run], published: Iterable[PublishedRecord]) -> list[dict]:
    """Returns records without a value for the cells that diverged runs would have filled.

    These are the cells of the run's row (`config.row`) in the published tables, and those that the other runs measured
    for their own rows; a run whose config names no row has none.
    """
    published = list(published)
    own = [(r["table"], r["column"], r["metric"]) for run in runs for r in run.records if run.row == r["row"]]
    found = []
    for run in runs:
        if not (run.diverged and run.row):
            continue
        cells = dict.fromkeys([(p.table, p.column, p.metric) for p in published if p.row == run.row] + own)
        found += [
            {"table": t, "row": run.row, "column": c, "metric": m, "value": None, "diverged": run.diverged}
            for t, c, m in cells
        ]
    return found


@dataclass(frozen=True)
class Grid:
    """A table as it is shown: headings and rows; the first `num_labels` columns name the row, the others are numbers.

    A number is (line, column label), or None where the paper's table has no such cell.
    """

    heads: list[str]
    rows: list[tuple[list[str], list[tuple[Line, str] | None]]]
    num_labels: int


def grid_of(table: Table) -> Grid:
    """Lays a table of one metric out: ours beside the published numbers, or, without any, rows against columns."""
    models = sorted({line.row for line in table.lines}, key=natural_order)
    if table.labels or len(models) > MAX_PIVOT_COLUMNS:
        labels = (OURS, *table.labels)
        rows = [([line.row, line.column], [(line, s) for s in labels]) for line in table.lines]
        return Grid(["row", "column", *labels], rows, 2)
    lines = {(line.row, line.column): line for line in table.lines}
    columns = list(dict.fromkeys(line.column for line in table.lines))
    rows = [([c], [(lines[m, c], OURS) if (m, c) in lines else None for m in models]) for c in columns]
    return Grid(["", *models], rows, 1)


def natural_order(text: str) -> list:
    """Returns a sort key that puts "beta=64" before "beta=256"."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+(?:\.[0-9]+)?)", text))]


def text_of(number: tuple[Line, str] | None) -> str:
    return MISSING if number is None else number[0].text(number[1])


def seeds_note(table: Table) -> list[str]:
    """Returns how many seeds our numbers are means of."""
    counts = sorted({line.cells[OURS].num_seeds for line in table.lines if OURS in line.cells})
    if counts in ([], [1]):
        return []
    return [f"ours: mean ± sample standard deviation over {' or '.join(map(str, counts))} seeds"]


def to_markdown(table: Table) -> str:
    """Returns one Markdown table per table and metric, with the notes of the numbers below."""
    blocks = []
    for title, part in table.parts():
        grid = grid_of(part)
        rule = "|" + "---|" * grid.num_labels + "---:|" * (len(grid.heads) - grid.num_labels)
        lines = [f"### {title}", "", _markdown_row(grid.heads), rule]
        lines += [_markdown_row([*labels, *map(text_of, numbers)]) for labels, numbers in grid.rows]
        notes = seeds_note(part) + notes_of(part)
        blocks.append("\n".join(lines + ([""] + [f"- {n}" for n in notes] if notes else [])))
    return "\n\n".join(blocks) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def notes_of(table: Table) -> list[str]:
    """Returns the notes of a table's numbers, each once, with the publication and the cells it speaks of."""
    where: dict[tuple[str, str], list[str]] = {}
    counts: dict[str, int] = {}
    for line in table.lines:
        for label, cell in line.cells.items():
            counts[label] = counts.get(label, 0) + 1
            if cell.note:
                where.setdefault((label, cell.note), []).append(f"{line.row}, {line.column}")
    notes = []
    for (label, note), cells in where.items():
        everywhere = len(cells) == counts[label]
        place = "" if everywhere else f" [{cells[0]}]" if len(cells) == 1 else f" [{len(cells)} cells]"
        notes.append(f"{label}{place}: {note}")
    return notes


def to_html(table: Table) -> str:
    """Returns one HTML table per table and metric (a fragment for `page.py`); every text is escaped."""
    return "\n".join(_html_part(title, part) for title, part in table.parts())


def _html_part(title: str, table: Table) -> str:
    grid = grid_of(table)
    heads = [f"<th>{html.escape(h)}</th>" for h in grid.heads[: grid.num_labels]]
    heads += [f'<th class="number">{html.escape(h)}</th>' for h in grid.heads[grid.num_labels :]]
    rows, previous = [], None
    for labels, numbers in grid.rows:
        first = html.escape(labels[0])
        same = labels[0] == previous
        cells = [f'<td><span class="repeat">{first}</span></td>' if same else f"<td>{first}</td>"]
        cells += [f"<td>{html.escape(text)}</td>" for text in labels[1:]]
        cells += [_html_cell(n, strong=bool(table.labels)) for n in numbers]
        rows.append(f"<tr{'' if same else GROUP}>{''.join(cells)}</tr>")
        previous = labels[0]
    notes = "".join(f"<li>{html.escape(n)}</li>" for n in seeds_note(table) + notes_of(table))
    return (
        f'<h3>{html.escape(title)}</h3><div class="scroll"><table>'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _html_cell(number: tuple[Line, str] | None, *, strong: bool) -> str:
    cell = None if number is None else number[0].cells.get(number[1])
    classes = "number" + (" ours" if strong and number is not None and number[1] == OURS else "")
    if cell is None or cell.value is None:
        classes += " absent"
    title = f' title="{html.escape(cell.note)}"' if cell is not None and cell.note else ""
    return f'<td class="{classes}"{title}>{html.escape(text_of(number))}</td>'


def to_json(table: Table) -> list[dict]:
    """Returns the lines as JSON objects; a missing cell is the text "missing", an empty one has value null."""
    labels = (OURS, *table.labels)

    def cell(line: Line, label: str):
        if label not in line.cells:
            return MISSING
        c = line.cells[label]
        return {"value": c.value, "std": c.std, "num_seeds": c.num_seeds, "note": c.note}

    names = ("table", "row", "column", "metric", "unit")
    return [{k: getattr(line, k) for k in names} | {s: cell(line, s) for s in labels} for line in table.lines]
