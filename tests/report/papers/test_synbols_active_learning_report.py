"""Figure 6 of Synbols, and which runs its tables join with the published numbers."""

import json

import pytest
from finished_runs import record, results_of, write_run

from jaxrepro.report.__main__ import main
from jaxrepro.report.papers.synbols_active_learning import figures_of_runs, points_of
from jaxrepro.report.runs import read_run

PUBLISHED = {
    "num_classes": 26, "num_pool": 70_000, "num_test": 10_000, "trunk": "ImageNet", "image_side": 32,
    "num_labels": 7_000, "data_set": "missing-symbol-paper", "faults": "none",
}  # fmt: skip


def write(folder, method, nll, column="10% Missing", facts=PUBLISHED):
    """Writes a run of two seeds that was tested with 2,000 and 2,100 labels."""
    log = [
        (step, "test", {f"{method}/labels": [labels, labels], f"{method}/nll": values})
        for step, labels, values in zip((630, 1290), (2000, 2100), nll, strict=True)
    ]
    cells = [
        record(method, f"{column} @10%", v, i, table="table3", metric="nll", unit="nats", facts=facts)
        for i, v in enumerate(nll[-1])
    ]
    config = {"task": {"column": column}, "version": "v1"}
    return write_run(folder, results_of("synbols_active_learning", cells), config=config, log=log)


@pytest.fixture
def runs(tmp_path):
    bald = write(tmp_path / "bald", "BALD", [[3.0, 3.2], [2.0, 2.4]])
    russian = PUBLISHED | {"trunk": "Russian letters"}
    random = write(tmp_path / "random", "Random", [[3.0, 3.2], [2.5, 2.7]])
    write(tmp_path / "russian", "Random", [[3.0, 3.2], [2.5, 2.7]], facts=russian)
    other = write(tmp_path / "other", "BALD", [[1.0, 1.2], [0.9, 0.7]], column="No Noise")
    return [bald, random, other]


def test_figure_6_has_a_panel_a_column_and_the_mean_of_the_seeds(runs):
    found = [read_run(folder) for folder in runs]
    lines = points_of(found)
    assert lines == {
        "10% Missing": {
            "BALD": {2000: [3.0, 3.2], 2100: [2.0, 2.4]},
            "Random": {2000: [3.0, 3.2], 2100: [2.5, 2.7]},
        },
        "No Noise": {"BALD": {2000: [1.0, 1.2], 2100: [0.9, 0.7]}},
    }
    figure = figures_of_runs(found)["figure_6"]
    panels = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in panels] == ["10% Missing", "No Noise"]
    line = next(line for line in panels[0].get_lines() if line.get_label() == "BALD")
    assert line.get_xdata().tolist() == [2000, 2100]
    assert line.get_ydata() == pytest.approx([3.1, 2.2])
    assert figures_of_runs([]) == {}


def test_methods_that_begin_with_different_trunks_are_no_rivals_in_one_panel(runs, tmp_path):
    lines = points_of([read_run(folder) for folder in (runs[0], runs[2], tmp_path / "russian")])
    assert {panel: set(methods) for panel, methods in lines.items()} == {
        "10% Missing\ntrunk: ImageNet": {"BALD"},
        "10% Missing\ntrunk: Russian letters": {"Random"},
        "No Noise": {"BALD"},
    }


def test_a_run_with_another_trunk_stands_beside_the_published_number(runs, tmp_path):
    runs = [runs[0], str(tmp_path / "russian"), runs[2]]
    assert main([*runs, f"--out={tmp_path / 'report'}"]) == 0
    text = (tmp_path / "report" / "tables.md").read_text()
    assert "trunk Russian letters instead of ImageNet" in text
    assert "1.43" in text, "the published BALD on 10% Missing"
    assert (tmp_path / "report" / "figures" / "synbols_active_learning_figure_6.png").exists()
    json.loads((tmp_path / "report" / "tables.json").read_text())
