"""Ours beside the published numbers: what is joined, what is not, and how it reads."""

import json

import pytest
from finished_runs import record, results_of, run_of

from jaxrepro.errors import UserError
from jaxrepro.report.__main__ import make_parts
from jaxrepro.report.comparison import compare
from jaxrepro.report.grids import grid_of, to_json, to_markdown
from jaxrepro.report.html import fill
from jaxrepro.report.merge import diverged_records, merge_runs
from jaxrepro.report.reference import PublishedRecord, PublishedSource

TASK = {"num_classes": 10, "num_train": 10_000}


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
        "facts": TASK,
    }
    return PublishedRecord(**base | changes)


def ours(value, seed=0, row="CNN", column="28x28", **changes):
    return record(row, column, value, seed, **{"facts": TASK} | changes)


def lines_of(markdown, *words):
    lines = [line for line in markdown.splitlines() if all(w in line for w in words) and line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def html_of(comparisons):
    part = {"heading": "h", "intro": "i", "pictures": [], "grids": [grid_of(c) for c in comparisons]}
    return fill("tables.html", title="t", experiments=[part])


def test_seeds_are_averaged_and_set_beside_each_publication_with_the_deviation():
    reproduction = published(source=PublishedSource.REPRODUCTION, value=2.2, std=None)
    comparisons = compare([ours(2.0, 0), ours(3.0, 1)], [published(), reproduction])
    (line,) = to_json(comparisons)
    assert line["ours"]["value"] == 2.5
    assert line["ours"]["std"] == pytest.approx(0.5**0.5)
    assert line["ours"]["num_seeds"] == 2
    assert (line["paper"]["value"], line["reproduction"]["value"]) == (2.56, 2.2)
    text = to_markdown(comparisons)
    assert lines_of(text, "CNN") == [["CNN", "2.50 ± 0.71 (+0.06)", "2.56 ± 0.04", "2.2"]]
    assert "in parentheses: paper minus ours" in text
    assert "over 2 seeds" in text


def test_a_table_has_models_in_lines_columns_in_columns_and_trailing_zeros():
    cells = [published(), published(column="56x56", value=2.0, std=0.1), published(row="SiCNN", value=2.4)]
    text = to_markdown(compare([ours(2.5)], cells, complete=True))
    assert lines_of(text, "28x28") == [["", "", "28x28", "56x56"]]
    assert lines_of(text, "ours |") == [
        ["CNN", "ours", "2.50 (+0.06)", "not run"],
        ["SiCNN", "ours", "not run", "–"],
    ]
    assert lines_of(text, "paper |") == [["", "paper", "2.56 ± 0.04", "2.0 ± 0.1"], ["", "paper", "2.40 ± 0.04", "–"]]


def test_not_run_not_reported_and_no_such_cell_are_three_different_words():
    empty = published(source=PublishedSource.REPRODUCTION, value=None, std=None, note="out of memory")
    comparisons = compare([ours(2.0)], [published(row="SiCNN"), empty, published(table="table3")], complete=True)
    text = to_markdown(comparisons)
    assert lines_of(text, "SiCNN") == [["SiCNN", "not run", "2.56 ± 0.04", "–"]]
    assert lines_of(text, "CNN", "not reported") == [["CNN", "2.00", "–", "not reported"]]
    assert "reproduction: out of memory" in text
    assert "Table 3" not in text  # nothing of it was measured
    assert to_json(comparisons)[0]["ours"] == "not run"


def test_a_number_of_another_task_stands_in_a_column_of_its_own_that_names_what_differs():
    other = {"num_classes": 10, "num_train": 500}
    text = to_markdown(compare([ours(13.74, facts=other), ours(2.0, row="SiCNN")], [published()], complete=True))
    assert lines_of(text, "28x28") == [["", "", "28x28", "28x28 (1)"]]
    assert "- (1): 500 instead of 10,000 training images" in text.splitlines()
    assert lines_of(text, "ours |") == [["CNN", "ours", "not run", "13.74"], ["SiCNN", "ours", "2.00", "not run"]]
    assert lines_of(text, "paper |") == [["", "paper", "2.56 ± 0.04", "–"]]
    assert "minus ours" not in text


def test_without_complete_only_what_we_measured_appears_with_the_published_cell_of_another_task():
    table = [published(), published(row="SiCNN"), published(column="56x56")]
    (comparison,) = compare([ours(2.0, facts={"num_classes": 10, "num_train": 1})], table)
    assert comparison.rows == ("CNN",)
    assert comparison.columns == ("28x28", "28x28: 1 instead of 10,000 training images")


def test_a_task_that_the_publication_does_not_state_is_joined_without_a_deviation():
    text = to_markdown(compare([ours(2.0)], [published(facts={})]))
    assert lines_of(text, "CNN") == [["CNN", "2.00", "2.56 ± 0.04"]]


def test_ours_is_never_rounded_to_the_decimals_of_a_published_number_in_scientific_notation():
    """0.192 beside 3.177e-12 was printed as 0: a collapse that did not happen."""
    tiny = published(value=3.177e-12, std=None, facts={})
    assert lines_of(to_markdown(compare([ours(0.192)], [tiny])), "CNN") == [["CNN", "0.1920", "3.177e-12"]]


def test_versions_of_the_data_stay_apart():
    both = [published(version="v1"), published(source=PublishedSource.REPOSITORY, version="v2", value=9.0)]
    (comparison,) = compare([ours(2.0)], both)
    assert comparison.labels == ("ours", "paper (v1)", "repository (v2)")


def test_another_unit_is_named():
    (line,) = to_json(compare([ours(0.025, unit="nats")], [published()]))
    assert line["ours"]["note"] == "ours is in nats, published in percent"


def test_a_value_that_is_not_finite_is_named():
    comparisons = compare([ours(float("nan"), 0), ours(1.0, 1)], [published()])
    assert "not finite" in to_markdown(comparisons)
    assert to_json(comparisons)[0]["ours"]["value"] is None
    json.dumps(to_json(comparisons), allow_nan=False)


def test_our_records_without_publication_become_a_grid_in_natural_order():
    cells = [ours(float(b), row="YOTO 1x", column=f"beta={b}") for b in (256, 64)]
    cells += [ours(1.0, row=f"fixed beta={b} 1x", column="beta=64") for b in (256, 64)]
    text = to_markdown(compare(cells, []))
    assert lines_of(text, "beta=256 |") == [["", "beta=64", "beta=256"]]
    assert [line[0] for line in lines_of(text, "1x")] == ["YOTO 1x", "fixed beta=64 1x", "fixed beta=256 1x"]
    assert lines_of(text, "fixed beta=256") == [["fixed beta=256 1x", "1.000", "–"]]


def test_html_of_a_table_is_escaped():
    text = html_of(compare([ours(1.0, row="<script>", column='"a" & b')], [published(note="<i>")]))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "&#34;a&#34; &amp; b" in text


def test_a_pipe_in_a_name_does_not_break_markdown():
    assert r"a\|b" in to_markdown(compare([ours(1.0, row="a|b")], []))


def test_merged_runs_of_several_seeds_keep_every_record(tmp_path):
    runs = [run_of(tmp_path / name, results_of(records=[ours(v, s)])) for name, v, s in (("a", 1.0, 0), ("b", 2.0, 1))]
    assert [r["value"] for r in merge_runs(runs)] == [1.0, 2.0]


def test_the_same_cell_and_seed_from_two_runs_needs_a_choice(tmp_path):
    metrics = {"a": {"valid/loss": 0.5}, "b": {"valid/loss": {"mean": 0.3, "std": 0.1, "values": [0.2, 0.4]}}}
    values = {"a": 1.0, "b": 2.0}
    runs = [
        run_of(tmp_path / name, results_of(records=[ours(values[name])], metrics=found))
        for name, found in metrics.items()
    ]
    with pytest.raises(UserError, match=r"a and .*b both give table2, CNN"):
        merge_runs(runs)
    assert [r["value"] for r in merge_runs(runs, "valid/loss:min")] == [2.0]
    assert [r["value"] for r in merge_runs(runs[::-1], "valid/loss:max")] == [1.0]
    with pytest.raises(UserError, match="has no metric 'valid/nll'"):
        merge_runs(runs, "valid/nll:min")


def test_presets_are_not_mixed(tmp_path):
    runs = [run_of(tmp_path / "a", results_of()), run_of(tmp_path / "b", results_of(preset="smoke"))]
    with pytest.raises(UserError, match="presets of sesn differ"):
        merge_runs(runs)


def test_a_diverged_run_fills_the_cells_of_its_row_with_that_word(tmp_path):
    run = run_of(tmp_path, config={"row": "CNN"}, diverged="train/loss is not finite between steps 1 and 2")
    records = [ours(2.0, row="SiCNN"), *diverged_records([run], [published()])]
    text = to_markdown(compare(records, [published()]))
    assert lines_of(text, "CNN", "diverged") == [["CNN", "diverged", "2.56 ± 0.04"]]
    assert "diverged: train/loss is not finite" in text


def test_a_diverged_setting_of_a_search_does_not_hide_the_one_that_was_chosen(tmp_path):
    def part_of(select, seeds):
        config = {"row": "CNN"}
        survivor = results_of(records=[ours(2.0)], metrics={"valid/loss": 1.0})
        runs = [run_of(tmp_path / "good", survivor, config=config)]
        for name in ("bad", "worse"):
            runs.append(run_of(tmp_path / name, config=config | {"seeds": seeds}, diverged="train/loss is not finite"))
        (part,) = make_parts(runs, select)
        return next(c for c in part.comparisons if c.table == "table2" and "CNN" in c.rows)

    found = part_of("valid/loss:min", [0])
    number = next(n for (row, _, label), n in found.numbers.items() if (row, label) == ("CNN", "ours") and n.value)
    assert number.note == "chosen beside 2 runs that diverged"
    assert not any(n.diverged for (_, c, _), n in found.numbers.items() if c == "28x28")
    assert any(n.diverged for (_, c, _), n in part_of(None, [0]).numbers.items() if c == "28x28")
    # A seed that nothing replaces is not passed over.
    assert any(n.diverged for (_, c, _), n in part_of("valid/loss:min", [1]).numbers.items() if c == "28x28")


def tried(folder, value, seed, lr, *, loss=1.0, epochs="10 epochs", **other):
    config = {"optim": {"lr": lr}, "train": {"duration": epochs}} | other
    return run_of(folder, results_of(records=[ours(value, seed)], metrics={"valid/loss": loss}), config=config)


def test_seeds_of_different_settings_are_no_mean(tmp_path):
    """ "55.23 ± 49.22, over 2 seeds" was printed without a word."""
    runs = [tried(tmp_path / "a", 2.0, 0, 0.1), tried(tmp_path / "b", 90.0, 1, 10.0, epochs="1 epochs")]
    with pytest.raises(UserError, match=r"a and .*b both give .* differ in optim.lr, train.duration; report them"):
        merge_runs(runs)
    watched = [{"energy": {"watts": w}, "log": {"every": f"{w} steps"}, "seeds": [w]} for w in (1, 2)]
    same = [tried(tmp_path / str(i), 2.0, i, 0.1, **other) for i, other in enumerate(watched)]
    assert len(merge_runs(same)) == 2


def test_a_selection_takes_all_seeds_of_a_cell_from_one_setting(tmp_path):
    points = [(0.1, 0, 0.2), (0.1, 1, 0.3), (0.01, 0, 0.1), (0.01, 1, 0.9)]
    runs = [tried(tmp_path / f"{lr} {seed}", 100 * lr, seed, lr, loss=loss) for lr, seed, loss in points]
    assert [r["value"] for r in merge_runs(runs, "valid/loss:min")] == [10.0, 10.0]
    assert [r["value"] for r in merge_runs(runs, "valid/loss:max")] == [1.0, 1.0]
