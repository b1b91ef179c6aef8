"""The published numbers, and the facts of their tasks."""

import json

import pytest

from jaxrepro.report.comparison import column_of
from jaxrepro.report.reference import (
    REFERENCE_DIR,
    PublishedRecord,
    PublishedSource,
    differences,
    load_reference,
    parse_record,
    read_tasks,
)

SCHEMA = [
    "document",
    "experiment",
    "source",
    "version",
    "table",
    "row",
    "column",
    "metric",
    "unit",
    "value",
    "std",
    "note",
]


def test_every_published_record_is_valid_and_no_cell_is_published_twice_by_one_source():
    records = load_reference()
    assert len(records) > 700
    cells = [(r.experiment, r.source, r.version, *r.cell) for r in records]
    assert len(set(cells)) == len(cells)
    assert {r.experiment for r in records} >= {"dcgan", "sesn", "synbols_supervised"}


def test_each_reference_file_holds_one_experiment_of_its_name_in_the_one_schema():
    for path in REFERENCE_DIR.glob("*.json"):
        records = json.loads(path.read_text())
        assert {r["experiment"] for r in records} == {path.stem}
        assert all(list(r) == SCHEMA for r in records)


def test_known_published_numbers_are_found():
    (cell,) = [
        r for r in load_reference("sesn") if r.cell == ("table2", "CNN", "28x28", "error") and r.source == "paper"
    ]
    assert (cell.value, cell.std, cell.unit) == (2.56, 0.04, "percent")
    assert cell.facts["num_train"] == 10_000
    assert load_reference("no_such_experiment") == []


@pytest.mark.parametrize("change", [{"value": "2.5"}, {"row": ""}, {"source": "blog"}, {"extra": 1}, {"std": True}])
def test_a_malformed_published_record_is_refused(change):
    names = [k for k in PublishedRecord.__dataclass_fields__ if k != "facts"]
    found = load_reference("sesn")[0]
    good = {k: getattr(found, k) for k in names}
    assert parse_record(good).facts == {}
    with pytest.raises(ValueError):
        parse_record(good | change)


def test_every_task_belongs_to_published_cells():
    """A column that is spelled wrong in a task would join every run."""
    published = {}
    for p in load_reference():
        published.setdefault(p.experiment, set()).add((p.version, p.table, p.column, p.metric))
    for path in (REFERENCE_DIR / "tasks").glob("*.json"):
        for task in read_tasks(path):
            for column in task["columns"]:
                for metric in task["metrics"]:
                    assert (task["version"], task["table"], column, metric) in published[path.stem], (path, task)


def test_every_published_accuracy_of_table_1_and_2_says_its_task_except_columns_that_no_sweep_has():
    unknown = {
        p.column
        for name in ("synbols_supervised", "synbols_ood")
        for p in load_reference(name)
        if p.metric == "accuracy" and not p.facts
    }
    assert unknown == {
        "Compositional Char-Font",
        "Compositional x-y-Translation",
        "Less Variations 1M Stratified Char",
    }


def test_facts_that_differ_are_named_and_those_that_nobody_noted_differ():
    published = {"num_classes": 888, "num_train": 60_000, "partition": "random"}
    assert differences(published, published) == []
    assert differences(published, published | {"num_train": 60_008}) == []  # balanced by class
    assert differences(published, {"num_classes": 10, "num_train": 60_000, "partition": "stratified_font"}) == [
        "10 instead of 888 classes",
        "partition stratified_font instead of random",
    ]
    assert differences({"num_classes": 888}, {}) == ["an unknown number instead of 888 classes"]
    assert differences({}, published) == []


def test_a_cell_joins_if_any_publication_of_its_column_has_its_task():
    made = {"document": "d", "experiment": "e", "version": None, "table": "t", "row": "r", "column": "c"}
    made |= {"metric": "m", "unit": None, "value": 1.0, "std": None, "note": ""}
    first = PublishedRecord(**made, source=PublishedSource.PAPER, facts={"num_classes": 26})
    second = PublishedRecord(**made, source=PublishedSource.REPOSITORY, facts={"num_classes": 48})
    assert column_of({"column": "c", "facts": {"num_classes": 48}}, [first, second]) == "c"
    assert column_of({"column": "c", "facts": {"num_classes": 10}}, [first, second]) == "c: 10 instead of 26 classes"
    assert column_of({"column": "other", "facts": {}}, [first, second]) == "other"
