"""Table 2: red and bold as the paper prints them, and the i.i.d. column from the runs of table 1."""

import re

import pytest
from finished_runs import record, results_of, run_of

from jaxrepro.report.__main__ import make_parts
from jaxrepro.report.comparison import compare
from jaxrepro.report.grids import grid_of, to_markdown
from jaxrepro.report.html import fill
from jaxrepro.report.papers import find, synbols_ood
from jaxrepro.report.reference import load_reference

TABLE1 = {"num_classes": 26, "num_train": 60_000, "num_test": 20_000, "partition": "random", "validated_on": "valid"}
ROTATION = TABLE1 | {"partition": "stratified_rotation"}


def made(folder, experiment, column, value, *, row="MLP", preset="paper", version="v1", facts=TABLE1, seed=3, loss=0.0):
    table = "table1" if experiment == "synbols_supervised" else "table2"
    records = [record(row, column, value, seed, table=table, metric="accuracy", facts=facts)]
    results = results_of(experiment, records, preset=preset, metrics={"valid/loss": loss})
    return run_of(folder, results, config={"version": version})


def table2_of(parts):
    return next(c for part in parts for c in part.comparisons if (c.table, c.metric) == ("table2", "accuracy"))


def test_runs_of_table_1_fill_the_iid_column(tmp_path):
    ood = made(tmp_path / "ood", "synbols_ood", "Stratified Rotation", 23.0, facts=ROTATION)
    iid = made(tmp_path / "iid", "synbols_supervised", "Synbols Default 100k", 34.0)
    assert table2_of(make_parts([ood])).text("MLP", synbols_ood.IID, "ours") == "not run"
    table = table2_of(make_parts([ood, iid]))
    assert table.text("MLP", synbols_ood.IID, "ours") == "34.00 (+0.23)"
    assert table.marks["MLP", "Stratified Rotation", "ours"] == "low"
    assert "from the runs of table 1" in to_markdown([table])


@pytest.mark.parametrize("change", [{"preset": "small"}, {"version": "v2"}])
def test_runs_of_another_preset_or_version_do_not(tmp_path, change):
    ood = made(tmp_path / "ood", "synbols_ood", "Stratified Rotation", 23.0, facts=ROTATION)
    iid = made(tmp_path / "iid", "synbols_supervised", "Synbols Default 100k", 34.0, **change)
    assert table2_of(make_parts([ood, iid])).text("MLP", synbols_ood.IID, "ours") == "not run"


def test_a_selection_holds_for_the_iid_column_too(tmp_path):
    ood = made(tmp_path / "ood", "synbols_ood", "Stratified Rotation", 23.0, facts=ROTATION, loss=1.0)
    tried = [
        made(tmp_path / str(i), "synbols_supervised", "Synbols Default 100k", value, loss=loss)
        for i, (value, loss) in enumerate([(34.0, 0.2), (35.0, 0.1), (36.0, 0.3)])
    ]
    table = table2_of(make_parts([*tried, ood], "valid/loss:min"))
    assert table.text("MLP", synbols_ood.IID, "ours").startswith("35.00")


def test_an_iid_run_of_its_own_comes_first(tmp_path):
    own = made(tmp_path / "own", "synbols_ood", synbols_ood.IID, 33.0)
    iid = made(tmp_path / "iid", "synbols_supervised", "Synbols Default 100k", 34.0)
    assert table2_of(make_parts([own, iid])).text("MLP", synbols_ood.IID, "ours") == "33.00 (+1.23)"


def test_published_numbers_are_red_and_bold_by_the_papers_rule():
    published = load_reference("synbols_ood", "v1")
    records = [record("MLP", "Stratified Font", 33.0, table="table2", metric="accuracy", facts={})]
    (table,) = compare(records, published, complete=True)
    marks = synbols_ood.mark(table, []).marks
    paper = {(row, column): m for (row, column, label), m in marks.items() if label == "paper (v1)"}
    assert paper["MLP", "Stratified Rotation"] == "low"  # 22.98, i.i.d. 34.23
    assert paper["Conv-4 Flat", "Stratified Font"] == "bold"  # 78.69, i.i.d. 79.13
    assert paper["MLP", "Stratified Scale"] == "bold"  # 35.83: above
    assert ("MLP", "Stratified Font") not in paper  # 33.33: 0.9 below
    # Stratified Char is compared with table 1's Less Variations: 80.35 -> 12.86 and 0.12 -> 0.15.
    assert paper["WRN-28-4+", synbols_ood.CHAR] == "low"
    assert paper["MLP", synbols_ood.CHAR] == "bold"
    assert not [column for _, column in paper if column == synbols_ood.IID]


def test_columns_of_another_task_are_compared_with_their_like():
    few = {"num_train": 12_000, "num_test": 4_000}
    cells = [(synbols_ood.IID, 30.0, TABLE1 | few), ("Stratified Rotation", 20.0, ROTATION | few)]
    records = [record("MLP", c, v, table="table2", metric="accuracy", facts=f) for c, v, f in cells]
    (table,) = compare(records, load_reference("synbols_ood", "v1"), complete=True)
    own = "Stratified Rotation: 12,000 instead of 60,000 training images"
    assert synbols_ood.mark(table, []).marks["MLP", own, "ours"] == "low"


def test_marks_are_seen_in_markdown_and_html():
    published = load_reference("synbols_ood", "v1")
    records = [record("MLP", "Stratified Font", 33.0, table="table2", metric="accuracy", facts={})]
    table = synbols_ood.mark(compare(records, published, complete=True)[0], [])
    text = to_markdown([table])
    assert "22.98 ± 0.60 ▼" in text
    assert "**35.83 ± 0.21**" in text
    assert "▼ (red): more than 5 points below" in text
    part = {"heading": "h", "intro": "i", "pictures": [], "grids": [grid_of(table)]}
    page = fill("tables.html", title="t", experiments=[part])
    assert re.search(r'class="number low"[^>]*>22.98 ± 0.60</td>', page)
    assert re.search(r'class="number bold"[^>]*>35.83 ± 0.21</td>', page)
    assert find("synbols_ood").captions["split"]
