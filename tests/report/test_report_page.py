import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from jaxrepro.errors import UserError
from jaxrepro.report.curves import draw_curves, mean_over_seeds
from jaxrepro.report.page import duration, write_page
from jaxrepro.report.runs import read_curves

RESULTS = {
    "experiment": "sesn",
    "preset": "smoke",
    "config_fingerprint": "0123abcd",
    "step": 1200,
    "metrics": {"test/error": {"mean": 2.5, "std": 0.25, "values": [2.25, 2.75]}, "train/loss": 0.125},
    "records": [
        {
            "table": "table2",
            "row": "CNN",
            "column": "28x28",
            "metric": "error",
            "unit": "percent",
            "value": v,
            "seed": s,
        }
        for s, v in enumerate((2.25, 2.75))
    ],
    "environment": {"device": "CPU <2 cores>", "jax": "0.10.2"},
    "timing": {"total_seconds": 200.0},
}


def write_run(folder, results=RESULTS, lines=(), config=None):
    (folder / "figures").mkdir(parents=True)
    config = config or {"preset": "smoke", "command": ["python", "launch.py"], "config": {"seeds": [0, 1]}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    return folder


def lines_of_two_seeds():
    return [
        {"step": s, "split": "train", "seed": i, "loss": 10.0 / s + i, "kl": None} for s in (1, 2, 3) for i in (0, 1)
    ]


def test_the_page_shows_metrics_published_numbers_and_where_they_come_from(tmp_path):
    text = write_page(write_run(tmp_path / "run", lines=lines_of_two_seeds())).read_text()
    assert "2.50 ± 0.25" in text
    assert "2.56 ± 0.04" in text  # the paper's
    assert "Finished at step 1,200, 2 seeds (0, 1), in 3 min 20 s." in text
    assert "launch.py" in text
    assert "0123abcd" in text


def test_the_page_is_self_contained(tmp_path):
    run_dir = write_run(tmp_path / "run", lines=lines_of_two_seeds())
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(run_dir / "figures" / "prior_samples.png")
    text = write_page(run_dir).read_text()
    assert text.count('src="data:image/png;base64,') == 2  # the curves and the picture
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http" not in text
    assert "<figcaption>Prior samples</figcaption>" in text


def test_everything_read_from_the_run_is_escaped(tmp_path):
    evil = "<script>alert(1)"
    results = RESULTS | {
        "experiment": evil,
        "preset": evil,
        "metrics": {f"test/{evil}": 1.0},
        "environment": {evil: evil},
    }
    run_dir = write_run(tmp_path / "run", results, config={"command": evil, "config": {"name": evil}})
    Image.new("RGB", (4, 4)).save(run_dir / "figures" / "a.png")
    (run_dir / "figures" / "captions.json").write_text(json.dumps({"a": evil}))
    assert "<script" not in write_page(run_dir).read_text()


def test_results_can_be_handed_over_before_they_are_written(tmp_path):
    run_dir = write_run(tmp_path / "run", results=None)
    with pytest.raises(UserError, match=r"not finished .* python launch.py"):
        write_page(run_dir)
    assert "2.50 ± 0.25" in write_page(run_dir, results=RESULTS).read_text()


def test_a_bare_run_still_gives_a_page(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "results.json").write_text(json.dumps({"experiment": "new", "metrics": {"test/loss": None}, "step": 3}))
    text = write_page(run_dir).read_text()
    assert "not finite" in text
    assert "<img" not in text


def test_writing_again_replaces_the_page_and_leaves_nothing_else(tmp_path):
    run_dir = write_run(tmp_path / "run", lines=lines_of_two_seeds())
    first = write_page(run_dir).read_text()
    assert write_page(run_dir).read_text() == first
    assert {p.name for p in run_dir.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "results.json",
        "figures",
        "report.html",
    }


def test_pictures_of_several_seeds_share_their_caption(tmp_path):
    run_dir = write_run(tmp_path / "run")
    for seed in (0, 1):
        Image.new("RGB", (4, 4)).save(run_dir / "figures" / f"samples_seed{seed}.png")
    (run_dir / "figures" / "captions.json").write_text('{"samples": "From the prior"}')
    text = write_page(run_dir).read_text()
    assert "From the prior (seed 0)" in text
    assert "From the prior (seed 1)" in text


def test_curves_of_several_seeds_are_read_from_lines_and_from_lists(tmp_path):
    path = tmp_path / "metrics.jsonl"
    by_line = [{"step": 5, "split": "test", "seed": s, "loss": v} for s, v in ((0, 1.0), (1, 3.0))]
    as_list = {"step": 5, "split": "test", "loss": [1.0, 3.0]}
    for lines in (by_line, [as_list]):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        curve = read_curves(path)["loss"]["test"]
        assert (curve.steps, curve.values) == ([5], [[1.0], [3.0]])
        assert mean_over_seeds(curve) == ([2.0], [pytest.approx(2**0.5)])


def test_values_that_are_not_finite_become_gaps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "split": "train", "a": 1e999, "b": null, "c": NaN, "d": 2}\n')
    curves = read_curves(path)
    assert [math.isnan(curves[name]["train"].values[0][0]) for name in "abcd"] == [True, True, True, False]


def test_a_last_line_cut_off_is_ignored_and_one_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "split": "train", "loss": 2}\n{"step": 2, "spl')
    assert read_curves(path)["loss"]["train"].steps == [1]
    path.write_text('{"step": 1, "spl\n{"step": 2, "split": "train", "loss": 2}\n')
    with pytest.raises(UserError, match="line 1"):
        read_curves(path)


def test_panels_have_the_right_scale_band_and_empty_notice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": s, "split": "train", "seed": i, "wide": 10.0 ** (-s) * (1 + i), "narrow": s + 1.0, "bad": None}
        for s in range(4)
        for i in (0, 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    wide, narrow, bad = draw_curves(read_curves(path)).axes[:3]
    assert (wide.get_yscale(), narrow.get_yscale()) == ("log", "linear")
    assert len(wide.collections) == 1  # the band over seeds
    assert wide.get_xlabel() == "step"
    assert bad.texts[0].get_text() == "no finite values"
    assert draw_curves({}) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.26, "4.3 s"), (48.2, "48 s"), (119.7, "2 min"), (7500, "2 h 5 min"), (273600, "3 d 4 h")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
