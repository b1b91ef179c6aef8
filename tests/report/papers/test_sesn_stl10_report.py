"""Figures of SESN on STL-10, from made-up runs."""

from finished_runs import record

from jaxrepro.report import style
from jaxrepro.report.papers import find

FACTS = {"num_classes": 10, "num_train": 5_000, "num_test": 8_000, "width": 8, "image_size": 96, "scales": "natural"}
TABLE = {"table": "table3", "metric": "error", "unit": "percent"}


def error(row, value, seed=0, **facts):
    return record(row, "STL-10", value, seed, **TABLE, facts=FACTS | facts)


def test_table_3_shows_both_publications_and_another_task_hollow():
    paper = find("sesn_stl10")
    cells = [error("WRN", 11.0), error("WRN", 12.0, 1), error("SESN-B", 20.0, width=1)]
    drawn = paper.figures(cells)
    assert set(drawn) == {"table3"} <= set(paper.captions)
    (ax,) = drawn["table3"].axes
    ours = {c.get_label(): c.lines[0] for c in ax.containers}
    assert {label: line.get_markerfacecolor() for label, line in ours.items()} == {
        "ours": style.BLUE,
        "ours, another task": "white",
    }
    assert ours["ours"].get_xdata() == [11.5]
    printed = {(line.get_label(), float(line.get_xdata()[0])) for line in ax.lines if line.get_label()[0] != "_"}
    assert {("paper", 11.48), ("reproduction", 11.98), ("paper", 8.51)} <= printed
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "Harm WRN"


def test_one_method_or_other_pictures_make_no_table():
    draw = find("sesn_stl10").figures
    assert draw([error("WRN", 11.0)]) == {}
    assert draw([error(row, 11.0) | {"column": "letters"} for row in ("WRN", "SESN-B")]) == {}


def test_curves_over_scale_are_drawn_where_there_are_any():
    paper = find("sesn_stl10")
    curve = [
        record(row, f"scale {s}", 10 * s, seed, table="error by scale", metric="error", unit="percent")
        for row in ("WRN", "SESN-B")
        for s in (0.5, 1.0)
        for seed in (0, 1)
    ]
    drawn = paper.figures(curve)
    assert set(drawn) == {"error_by_scale"} <= set(paper.captions)
    (ax,) = drawn["error_by_scale"].axes
    assert {line.get_label(): list(line.get_ydata()) for line in ax.lines} == {
        "WRN": [5.0, 10.0],
        "SESN-B": [5.0, 10.0],
    }
