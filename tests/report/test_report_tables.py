import json
from pathlib import Path

import pytest

from jaxrepro.errors import UserError
from jaxrepro.report.reference import REFERENCE_DIR, PublishedRecord, PublishedSource, load_reference, parse_record
from jaxrepro.report.runs import Run
from jaxrepro.report.tables import format_number, join, merge_runs, readable, to_html, to_json, to_markdown


def published(**changes):
    base = {
        "document": "sesn",
        "experiment": "sesn",
        "source": PublishedSource.PAPER,
        "version": None,
        "table": "table2",
        "row": "CNN",
        "column": "28x28",
        "metric": "error",
        "unit": "percent",
        "value": 2.56,
        "std": 0.04,
        "note": "",
    }
    return PublishedRecord(**base | changes)


def ours(value, seed=0, **changes):
    cell = {"table": "table2", "row": "CNN", "column": "28x28", "metric": "error", "unit": "percent"}
    return cell | {"value": value, "seed": seed} | changes


def run(name, records, **results):
    return Run(Path(name), {"experiment": "sesn", "preset": "paper", "records": records} | results, {})


def row_of(markdown, *words):
    (line,) = [line for line in markdown.splitlines() if all(w in line for w in words) and line.startswith("|")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_published_record_is_valid_and_no_cell_is_published_twice_by_one_source():
    records = load_reference()
    assert len(records) > 700
    cells = [(r.experiment, r.source, r.version, *r.cell) for r in records]
    assert len(set(cells)) == len(cells)
    assert {r.experiment for r in records} >= {"dcgan", "sesn", "synbols_supervised"}


def test_each_reference_file_holds_one_experiment_of_its_name():
    for path in REFERENCE_DIR.glob("*.json"):
        assert {r["experiment"] for r in json.loads(path.read_text())} == {path.stem}


def test_known_published_numbers_are_found():
    (cell,) = [
        r for r in load_reference("sesn") if r.cell == ("table2", "CNN", "28x28", "error") and r.source == "paper"
    ]
    assert (cell.value, cell.std, cell.unit) == (2.56, 0.04, "percent")
    assert load_reference("no_such_experiment") == []


@pytest.mark.parametrize("change", [{"value": "2.5"}, {"row": ""}, {"source": "blog"}, {"extra": 1}, {"std": True}])
def test_a_malformed_published_record_is_refused(change):
    good = {k: getattr(published(), k) for k in PublishedRecord.__dataclass_fields__}
    parse_record(good)
    with pytest.raises(ValueError):
        parse_record(good | change)


def test_join_averages_our_seeds_and_sets_them_beside_each_publication():
    table = join(
        [ours(2.0, 0), ours(3.0, 1)], [published(), published(source=PublishedSource.REPRODUCTION, value=2.2, std=None)]
    )
    (line,) = to_json(table)
    assert line["ours"]["value"] == 2.5
    assert line["ours"]["std"] == pytest.approx(0.5**0.5)
    assert line["ours"]["num_seeds"] == 2
    assert (line["paper"]["value"], line["reproduction"]["value"]) == (2.56, 2.2)
    assert row_of(to_markdown(table), "CNN") == ["CNN", "28x28", "2.50 ± 0.71", "2.56 ± 0.04", "2.2"]


def test_missing_cells_say_missing_and_are_neither_blank_nor_zero():
    others = [
        published(row="SiCNN"),
        published(source=PublishedSource.REPRODUCTION, value=None, std=None, note="not run"),
    ]
    table = join([ours(2.0)], [*others, published(table="table3")], complete=True)
    markdown = to_markdown(table)
    assert row_of(markdown, "SiCNN") == ["SiCNN", "28x28", "missing", "2.56 ± 0.04", "missing"]
    assert row_of(markdown, "CNN", "not reported") == ["CNN", "28x28", "2", "missing", "not reported"]
    assert "Table 3" not in markdown  # nothing of it was measured
    assert to_json(table)[0]["ours"] == "missing"
    assert to_html(table).count("missing") == 3


def test_without_complete_only_our_cells_appear():
    table = join([ours(2.0)], [published(), published(row="SiCNN")])
    assert [line.row for line in table.lines] == ["CNN"]


def test_versions_of_the_data_stay_apart():
    both = [published(version="v1"), published(source=PublishedSource.REPOSITORY, version="v2", value=9.0)]
    assert join([ours(2.0)], both).labels == ("paper (v1)", "repository (v2)")


def test_units_are_converted_or_named():
    (line,) = to_json(join([ours(0.025, unit="fraction")], [published()]))
    assert line["ours"]["value"] == pytest.approx(2.5)
    (line,) = to_json(join([ours(0.025, unit="nats")], [published()]))
    assert "nats" in line["ours"]["note"]


def test_a_value_that_is_not_finite_is_named():
    table = join([ours(float("nan"), 0), ours(1.0, 1)], [published()])
    assert "not finite" in to_markdown(table)
    assert to_json(table)[0]["ours"]["value"] is None
    json.dumps(to_json(table), allow_nan=False)


def test_our_records_without_publication_become_a_grid_in_natural_order():
    cells = [ours(float(b), row="YOTO 1x", column=f"beta={b}") for b in (64, 256)]
    cells += [ours(1.0, row=f"fixed beta={b} 1x", column="beta=64") for b in (256, 64)]
    markdown = to_markdown(join(cells, []))
    assert row_of(markdown, "YOTO") == ["", "YOTO 1x", "fixed beta=64 1x", "fixed beta=256 1x"]
    assert row_of(markdown, "beta=256 |", "256") == ["beta=256", "256", "missing", "missing"]


def test_html_of_a_table_is_escaped():
    text = to_html(join([ours(1.0, row="<script>", column='"a" & b')], [published(note="<i>")]))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "a&quot; &amp; b" in text


def test_a_pipe_in_a_name_does_not_break_markdown():
    assert r"a\|b" in to_markdown(join([ours(1.0, row="a|b")], []))


def test_merged_runs_of_several_seeds_keep_every_record():
    merged = merge_runs([run("a", [ours(1.0, 0)]), run("b", [ours(2.0, 1)])])
    assert [r["value"] for r in merged] == [1.0, 2.0]


def test_the_same_cell_and_seed_from_two_runs_needs_a_choice():
    runs = [
        run("a", [ours(1.0)], metrics={"valid/loss": 0.5}),
        run("b", [ours(2.0)], metrics={"valid/loss": {"mean": 0.3}}),
    ]
    with pytest.raises(UserError, match="a and b both give table2, CNN"):
        merge_runs(runs)
    assert [r["value"] for r in merge_runs(runs, "valid/loss:min")] == [2.0]
    assert [r["value"] for r in merge_runs(runs[::-1], "valid/loss:max")] == [1.0]
    with pytest.raises(UserError, match="has no metric 'valid/nll'"):
        merge_runs(runs, "valid/nll:min")


def test_presets_are_not_mixed():
    with pytest.raises(UserError, match="presets of sesn differ"):
        merge_runs([run("a", []), run("b", [], preset="smoke")])


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (12.3456, 0.21, "12.35 ± 0.21"),
        (2551.2, 35.0, "2551 ± 35"),
        (0.12345, None, "0.1235"),
        (3, None, "3"),
        (-1234.5678, None, "-1235"),
        (1e-7, None, "1.000e-07"),
        (2.5, 0.0, "2.500 ± 0"),
        (float("nan"), None, "not finite"),
    ],
)
def test_numbers_show_their_meaningful_digits(value, std, text):
    assert format_number(value, std) == text


def test_names_become_words():
    assert [readable(n) for n in ("table2", "figure 1a", "loss_mean", "kl")] == [
        "Table 2",
        "Figure 1a",
        "loss mean",
        "KL",
    ]
