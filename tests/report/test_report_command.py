"""The command: what it writes, and one line for every mistake."""

import json
import subprocess
import sys

import pytest
from finished_runs import record, results_of, write_run

from jaxrepro import digests
from jaxrepro.report.__main__ import main

TASK = {"num_classes": 10, "num_train": 10_000, "num_valid": 2_000, "num_test": 50_000}


@pytest.fixture
def run_dir(tmp_path):
    write_run(tmp_path / "run", results_of(records=[record("CNN", "28x28", 2.5, facts=TASK)]))
    return tmp_path / "run"


def error_of(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_tables_are_printed_without_out(run_dir, capsys):
    assert main([str(run_dir)]) == 0
    printed = capsys.readouterr().out
    assert "Preset paper; 1 run." in printed
    assert "| CNN | ours | 2.50 (+0.06) | not run |" in printed  # a cell of the paper's table that no run measured


def test_tables_and_figures_are_written(run_dir, tmp_path, capsys):
    cells = [
        record(row, "beta=2", 3.0, table="figure 1a", metric=metric, unit="nats per image")
        for row in ("YOTO 1x", "fixed beta=2 1x")
        for metric in ("kl", "reconstruction")
    ]
    yoto, out = write_run(tmp_path / "yoto", results_of("yoto", cells)), tmp_path / "out"
    assert main([str(run_dir), yoto, f"--out={out}"]) == 0
    written = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    figures = {"figures/yoto_frontier.png", "figures/yoto_full_loss_difference.png"}
    assert written == {"tables.md", "tables.html", "tables.json", *figures}
    assert {line.removeprefix(f"{out}/") for line in capsys.readouterr().out.splitlines()} == written
    assert json.loads((out / "tables.json").read_text())["sesn"][0]["ours"]["value"] == 2.5
    page = (out / "tables.html").read_text()
    assert page.count("data:image/png") == 2
    assert "Figure 1b. Full loss" in page  # the paper's own caption


def test_a_missing_folder_is_one_line_and_code_2(tmp_path, capsys):
    assert "nowhere does not exist" in error_of(capsys, tmp_path / "nowhere")


def test_an_unfinished_run_says_how_to_finish_it(tmp_path, capsys):
    error = error_of(capsys, write_run(tmp_path / "run", command="python launch.py --config=configs/sesn.py"))
    assert "is not finished" in error
    assert error.endswith("python launch.py --config=configs/sesn.py")


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
    assert "is not a run folder" in error_of(capsys, tmp_path)


def test_damaged_results_are_named(run_dir, capsys):
    (run_dir / "results.json").write_text('{"experiment": ')
    assert "results.json is not JSON" in error_of(capsys, run_dir)


@pytest.mark.parametrize(
    "text",
    [b'{"a": 1}', b"[1]", b"3", b'{"config": null, "command": ""}', b'{"config": {"experiment": 3}}', b"\xff\xfe"],
)
def test_a_damaged_config_is_named(run_dir, capsys, text):
    (run_dir / "config.json").write_bytes(text)
    assert "config.json" in error_of(capsys, run_dir)


@pytest.mark.parametrize("text", ["{}", "[]", '{"message": 3}', "{"])
def test_a_damaged_note_of_divergence_is_named(run_dir, capsys, text):
    (run_dir / "results.json").unlink()
    (run_dir / "diverged.json").write_text(text)
    assert "diverged.json" in error_of(capsys, run_dir)


@pytest.mark.parametrize(
    "change",
    [
        *({"records": value} for value in (3, [3], None, {})),
        *({name: value} for name in ("seeds", "notes", "metrics", "environment") for value in (None, 3)),
        *({"seeds": value} for value in ([], ["a"], [[1]])),
        *({"metrics": {"loss": value}} for value in ("low", {}, [1])),
        *({"timing": value} for value in (None, {"seconds": "long"})),
        *({"step": None}, {"experiment": 3}, {"final": "yes"}),
    ],
)
def test_a_field_of_the_results_that_no_run_writes_is_named(run_dir, capsys, change):
    path = run_dir / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    error = error_of(capsys, run_dir)
    assert "results.json" in error
    assert "--mode=eval" in error


@pytest.mark.parametrize(
    "change", [{"facts": 3}, {"facts": None}, {"seed": [1]}, {"row": 3}, {"unit": 1}, {"value": []}]
)
def test_a_field_of_a_record_that_no_run_writes_is_named(run_dir, capsys, change):
    path = run_dir / "results.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(digests.seal(found | {"records": [found["records"][0] | change]})))
    assert f"field {next(iter(change))} of a record" in error_of(capsys, run_dir)


def test_an_out_that_cannot_be_written_is_named(run_dir, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/report"):
        assert f"--out={out} cannot be written" in error_of(capsys, run_dir, f"--out={out}")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("select", ["nonsense", "nonsense:min", "valid/loss", "valid/loss:least", ":min", ""])
def test_a_selection_by_nothing_is_refused_even_where_there_is_nothing_to_choose(run_dir, capsys, select):
    assert "--select" in error_of(capsys, run_dir, f"--select={select}")


def test_the_command_runs_as_a_module_without_importing_jax(run_dir):
    code = (
        "import sys, runpy; sys.argv = ['report', sys.argv[1]]\n"
        "try: runpy.run_module('jaxrepro.report', run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "loaded = {'jax', 'flax', 'matplotlib', 'tensorflow', 'jinja2'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code, str(run_dir)], check=True, capture_output=True, timeout=60)
