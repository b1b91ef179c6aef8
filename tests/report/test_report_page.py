"""report.html of runs that the program's own writers wrote."""

import math
import re

import numpy as np
import pytest
from finished_runs import record, results_of, write_run
from PIL import Image

from jaxrepro.errors import UserError
from jaxrepro.report.curves import draw_curves
from jaxrepro.report.page import verdict, write_page
from jaxrepro.report.results import Timing, summary
from jaxrepro.report.runs import read_curves

RESULTS = results_of(
    records=[record("CNN", "28x28", v, s, facts={"num_classes": 10}) for s, v in enumerate((2.25, 2.75))],
    preset="smoke",
    step=1200,
    metrics={"test/error": summary([2.25, 2.75]), "train/loss": 0.125},
    environment={"device": "CPU <2 cores>", "jax": "0.10.2"},
    timing=Timing(seconds=200.0, steps=1200, resumed_at_step=0),
)
LOG = [(s, "train", {"loss": [10.0 / s, 10.0 / s + 1], "kl": [math.nan, math.nan]}) for s in (1, 2, 3)]


def test_the_page_shows_metrics_published_numbers_and_where_they_come_from(tmp_path):
    write_run(tmp_path, RESULTS, command="python launch.py --config=configs/sesn.py", log=LOG)
    text = write_page(tmp_path).read_text()
    assert "2.50 ± 0.35" in text
    assert "2.56 ± 0.04" in text  # the paper's
    assert "Finished at step 1,200, 2 seeds (0, 1), in 3 min 20 s." in text
    assert "2 May 2026, 14:05" in text
    assert "launch.py" in text
    assert "0123abcd4567" in text


def test_a_run_that_was_interrupted_says_whose_time_it_shows():
    resumed = Timing(seconds=48.0, steps=700, resumed_at_step=500)
    assert (
        verdict(results_of(step=1200, timing=resumed))
        == "Finished at step 1,200, seed 0; its last 700 steps took 48 s."
    )
    assert verdict(results_of(step=1200)) == "Finished at step 1,200, seed 0."
    assert verdict(results_of(step=500, final=False)) == "Evaluated, unfinished, at step 500, seed 0."


def test_the_page_is_self_contained(tmp_path):
    write_run(tmp_path, RESULTS, log=LOG)
    (tmp_path / "figures").mkdir()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "figures" / "prior_samples.png")
    text = write_page(tmp_path).read_text()
    assert text.count('src="data:image/png;base64,') == 2  # the curves and the picture
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http" not in text
    assert "<figcaption>Prior samples</figcaption>" in text


def test_everything_read_from_the_run_is_escaped(tmp_path):
    evil = "<script>alert(1)"
    records = [record(evil, evil, 1.0, table=evil, metric=evil)]
    results = results_of(evil, records, preset=evil, metrics={f"test/{evil}": 1.0}, environment={evil: evil})
    write_run(tmp_path, results, command=evil, config={"name": evil})
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "figures" / "<script.png")
    text = write_page(tmp_path).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 6


def test_results_can_be_handed_over_before_they_are_written(tmp_path):
    write_run(tmp_path, preset="smoke")
    with pytest.raises(UserError, match=r"not finished .* python launch.py"):
        write_page(tmp_path)
    assert "2.50 ± 0.35" in write_page(tmp_path, RESULTS).read_text()


def test_a_bare_run_of_an_unknown_paper_still_gives_a_page(tmp_path):
    write_run(tmp_path, results_of("new", metrics={"test/loss": math.nan}))
    text = write_page(tmp_path).read_text()
    assert "not finite" in text
    assert "<img" not in text
    assert "Beside the published" not in text


def test_writing_again_replaces_the_page_and_leaves_nothing_else(tmp_path):
    write_run(tmp_path, RESULTS, log=LOG)
    first = write_page(tmp_path).read_text()
    assert write_page(tmp_path).read_text() == first
    files = {"config.json", "metrics.jsonl", "results.json", "figures", "report.html"}
    assert {p.name for p in tmp_path.iterdir()} == files


def test_pictures_of_several_seeds_share_their_papers_caption(tmp_path):
    write_run(tmp_path, RESULTS)
    (tmp_path / "figures").mkdir()
    for seed in (0, 1):
        Image.new("RGB", (4, 4)).save(tmp_path / "figures" / f"feature_maps_seed{seed}.png")
    text = write_page(tmp_path).read_text()
    for seed in (0, 1):
        assert re.search(rf"The loudest channel .* picture agree\. \(seed {seed}\)", text)


def test_curves_have_a_line_per_seed_with_its_mean_and_spread(tmp_path):
    write_run(tmp_path, RESULTS, log=[(5, "test", {"loss": [1.0, 3.0]})])
    curve = read_curves(tmp_path / "metrics.jsonl")["loss"]["test"]
    assert (curve.steps, curve.values) == ([5], [[1.0], [3.0]])
    assert curve.over_seeds() == ([2.0], [pytest.approx(2**0.5)])


def test_values_that_are_not_finite_become_gaps(tmp_path):
    values = {"a": [math.inf], "b": [math.nan], "c": [2.0]}
    write_run(tmp_path, results_of(), log=[(1, "train", values)])
    curves = read_curves(tmp_path / "metrics.jsonl")
    assert [math.isnan(curves[name]["train"].values[0][0]) for name in "abc"] == [True, True, False]


def test_a_last_line_cut_off_is_ignored_and_one_in_the_middle_is_named(tmp_path):
    write_run(tmp_path, results_of(), log=[(1, "train", {"loss": [2.0]})])
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 2, "spl')
    assert read_curves(path)["loss"]["train"].steps == [1]
    path.write_text('{"step": 1, "spl\n' + whole)
    with pytest.raises(UserError, match="line 1"):
        read_curves(path)


@pytest.mark.parametrize("text", [b"3\n", b"{}\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_log_that_no_run_writes_is_named(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_bytes(text)
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        read_curves(tmp_path / "metrics.jsonl")


def test_panels_have_the_right_scale_band_and_empty_notice(tmp_path):
    log = [
        (s, "train", {"wide": [10.0**-s, 2 * 10.0**-s], "narrow": [s + 1.0] * 2, "bad": [math.nan] * 2})
        for s in range(4)
    ]
    write_run(tmp_path, RESULTS, log=log)
    wide, narrow, bad = draw_curves(read_curves(tmp_path / "metrics.jsonl")).axes[:3]
    assert (wide.get_yscale(), narrow.get_yscale()) == ("log", "linear")
    assert len(wide.collections) == 1  # the band over seeds
    assert wide.get_xlabel() == "step"
    assert bad.texts[0].get_text() == "no finite values"
    assert draw_curves({}) is None


def test_what_is_measured_once_has_no_panel_unless_there_is_nothing_else(tmp_path):
    log = [(step, "train", {"loss": [1.0] * 2}) for step in range(3)]
    log += [(2, "test", {"accuracy": [0.5] * 2, "loss": [2.0] * 2})]
    write_run(tmp_path / "a", RESULTS, log=log)
    panels = draw_curves(read_curves(tmp_path / "a" / "metrics.jsonl")).axes
    assert [ax.get_title(loc="left") for ax in panels if ax.get_visible() and ax.axison] == ["loss"]
    write_run(tmp_path / "b", RESULTS, log=log[-1:])
    assert draw_curves(read_curves(tmp_path / "b" / "metrics.jsonl")) is not None
