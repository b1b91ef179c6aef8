import json
import subprocess
import sys

import pytest

from jaxrepro.report.__main__ import main


@pytest.fixture
def run_dir(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    cell = {
        "table": "table2",
        "row": "CNN",
        "column": "28x28",
        "metric": "error",
        "unit": "percent",
        "value": 2.5,
        "seed": 0,
    }
    results = {"experiment": "sesn", "preset": "paper", "step": 10, "metrics": {}, "records": [cell]}
    (run_dir / "results.json").write_text(json.dumps(results))
    return run_dir


def error_of(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_tables_are_printed_without_out(run_dir, capsys):
    assert main([str(run_dir)]) == 0
    printed = capsys.readouterr().out
    assert "| CNN | 28x28 | 2.5" in printed
    assert "missing" in printed  # the cells of the paper's table that no run measured


def test_tables_and_figures_are_written(run_dir, tmp_path, capsys):
    yoto_dir, out = tmp_path / "yoto", tmp_path / "out"
    yoto_dir.mkdir()
    cells = [
        {"table": "figure 1a", "row": row, "column": "beta=2", "metric": metric, "value": 3.0, "seed": 0}
        for row in ("YOTO 1x", "fixed beta=2 1x")
        for metric in ("kl", "reconstruction")
    ]
    (yoto_dir / "results.json").write_text(json.dumps({"experiment": "yoto", "preset": "paper", "records": cells}))
    assert main([str(run_dir), str(yoto_dir), f"--out={out}"]) == 0
    written = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    figures = {"figures/yoto_frontier.png", "figures/yoto_full_loss_difference.png"}
    assert written == {"tables.md", "tables.html", "tables.json", *figures}
    assert {line.removeprefix(f"{out}/") for line in capsys.readouterr().out.splitlines()} == written
    assert json.loads((out / "tables.json").read_text())["sesn"][0]["ours"]["value"] == 2.5
    assert (out / "tables.html").read_text().count("data:image/png") == 2


def test_a_missing_folder_is_one_line_and_code_2(tmp_path, capsys):
    assert "nowhere does not exist" in error_of(capsys, tmp_path / "nowhere")


def test_an_unfinished_run_says_how_to_finish_it(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"command": "python launch.py --config=configs/sesn.py"}))
    error = error_of(capsys, tmp_path)
    assert "is not finished" in error
    assert error.endswith("python launch.py --config=configs/sesn.py")


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
    assert "is not a run folder" in error_of(capsys, tmp_path)


def test_damaged_results_are_named(run_dir, capsys):
    (run_dir / "results.json").write_text('{"experiment": ')
    assert "results.json is not JSON" in error_of(capsys, run_dir)


def test_the_command_runs_as_a_module_without_importing_jax(run_dir):
    code = (
        "import sys, runpy; sys.argv = ['report', sys.argv[1]]\n"
        "try: runpy.run_module('jaxrepro.report', run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "loaded = {'jax', 'flax', 'matplotlib', 'tensorflow'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code, str(run_dir)], check=True, capture_output=True, timeout=60)
