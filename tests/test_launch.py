"""The command line: its exit codes, its messages, and the files of a run."""

import json
import subprocess
import sys

import launching
import pytest

import launch
from jaxrepro.report.runs import read_run


def test_help_shows_the_flags_and_exits_with_zero():
    done = launching.call_main("--help")
    assert done.returncode == 0
    assert "--workdir" in done.stdout
    assert "--config.optim.lr=3e-4" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config=configs/yoto_cifra.py"], "did you mean 'configs/yoto_cifar.py'"),
        (["--config=configs/yoto_cifar.py:smokey"], "did you mean 'smoke'"),
        (["--config=configs/yoto_cifar.py:smoke", "--wrkdir=x"], "wrkdir"),
        (["--config=configs/yoto_cifar.py:smoke", "--mode=trian"], "trian"),
        (["--config=configs/yoto_cifar.py:smoke", "smoke"], "unexpected argument 'smoke'"),
        (["--config=configs/yoto_cifar.py:smoke", "--config.optim.lrr=1"], "did you mean 'lr'"),
        (["--config=configs/yoto_cifar.py:smoke", "--config.optim.lr=abc"], "it must be float"),
        (
            ["--config=configs/yoto_cifar.py:smoke", "--config.optim.lr=-1.0"],
            "config.optim.lr is -1.0; it must be positive",
        ),
        (["--config=configs/yoto_cifar.py:smoke", "--config.beta.low=0.0"], "config.beta.low is 0.0"),
        (
            ["--config=configs/yoto_cifar.py:smoke", "--config.model.num_blocks=4"],
            "config.model.image_shape is (32, 32, 1)",
        ),
        (["--config=configs/yoto_cifar.py:smoke", "--config.data.source=npz:/no/such.npz"], "/no/such.npz"),
        (["--config=configs/yoto_cifar.py:smoke", "--config.data.source=folder:/no/such"], "/no/such"),
        (["--config=configs/yoto_cifar.py:smoke", "--config.data.test=tst"], "did you mean 'test'"),
        (["--config=configs/yoto_cifar.py:smoke", "--sweep_index=99"], "--sweep_index is 99"),
        (["--config=configs/yoto_cifar.py:smoke", "--num_processes=2"], "must be given together"),
        (["--config=configs/yoto_cifar.py:smoke", "--config.optim.lr"], "has no value"),
        (["--config=configs/yoto_cifar.py:smoke", "--restart", "--mode=eval"], "leave one of them out"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = launching.call_main(*arguments, *([f"--workdir={tmp_path / 'run'}"] if arguments else []))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_the_real_command_exits_with_2_and_no_traceback(tmp_path):
    command = [sys.executable, "launch.py", "--config=configs/yoto_cifar.py:smoke", "--config.optim.lr=no"]
    done = subprocess.run(command, cwd=launching.ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_print_shows_config_and_parameters_and_touches_nothing(tmp_path):
    workdir = tmp_path / "run"
    done = launching.call_main(
        "--config=configs/yoto_cifar.py", "--mode=print", f"--workdir={workdir}", "--config.model.width=1"
    )
    assert done.returncode == 0
    assert "tfds:cifar10" in done.stdout
    assert "width: 1" in done.stdout
    assert "encoder_output/kernel" in done.stdout
    assert not workdir.exists()


def test_a_sweep_is_listed_with_its_folders():
    done = launching.call_main("--config=configs/yoto_cifar.py", "--mode=print", "--sweep")
    assert done.returncode == 0
    assert len(done.stdout.strip().splitlines()) == 15
    assert "runs/yoto_cifar-paper/sweep/model.width=2,beta.fixed=16.0" in done.stdout


SEEDS = {"train.duration": "20 steps", "seeds": "(0,1,2)", "log.tensorboard": True}


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A finished run of three seeds in a folder that held another one."""
    workdir = tmp_path_factory.mktemp("tiny") / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text('{"config": {"model": {"width": 7}}}')
    done = launching.run_here(workdir, SEEDS, "--restart")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_leaves_the_files_of_the_contract(tiny_run):
    workdir, done = tiny_run
    for name in ("config.json", "metrics.jsonl", "results.json", "report.html", "figures/frontier.png", "tensorboard"):
        assert (workdir / name).exists(), name
    assert str(workdir / "report.html") in done.stderr
    found = launching.results(workdir)
    assert {"experiment", "preset", "config_fingerprint", "step", "metrics", "records", "environment", "timing"} <= set(
        found
    )
    assert found["step"] == 20
    assert not list(workdir.rglob("*.tmp*"))


def test_the_report_reads_exactly_what_the_run_wrote_and_says_how_long_it_took(tiny_run):
    workdir, _ = tiny_run
    run = read_run(workdir)
    assert set(json.loads((workdir / "config.json").read_text())) == {"preset", "command", "data", "config", "digest"}
    assert run.results.to_json() == launching.results(workdir)
    assert run.results.timing.seconds > 0
    assert run.results.timing.steps == 20
    assert "Finished at step 20, 3 seeds (0, 1, 2), in " in (workdir / "report.html").read_text()


def test_several_seeds_are_reported_with_mean_and_std(tiny_run):
    workdir, _ = tiny_run
    loss = launching.results(workdir)["metrics"]["train/loss"]
    assert len(set(loss["values"])) == 3
    assert loss["mean"] == pytest.approx(sum(loss["values"]) / 3)
    assert {r["seed"] for r in launching.results(workdir)["records"]} == {0, 1, 2}
    assert "±" in (workdir / "report.html").read_text()


def test_the_same_command_again_says_that_it_is_finished(tiny_run):
    workdir, _ = tiny_run
    done = launching.run_here(workdir, SEEDS)
    assert done.returncode == 0
    assert "already finished" in done.stderr


def test_another_model_or_data_in_the_same_folder_is_refused_with_the_fields(tiny_run):
    workdir, _ = tiny_run
    done = launching.run_here(workdir, SEEDS | {"model.width": 2, "data.source": "mnist5k"})
    assert done.returncode == 2
    assert "config.model.width was 1, now 2" in done.stderr
    assert "config.data.source" in done.stderr
    assert done.stderr.count("\n") == 1


def test_evaluation_mode_rewrites_results_from_the_checkpoint(tiny_run):
    workdir, _ = tiny_run
    before = launching.results(workdir)
    (workdir / "figures" / "samples_seed0.png").unlink()
    done = launching.run_here(workdir, SEEDS, "--mode=eval")
    assert done.returncode == 0, done.stderr
    assert launching.results(workdir)["records"] == before["records"]
    assert (workdir / "figures" / "samples_seed0.png").exists()


def test_restart_moves_the_old_run_aside(tiny_run):
    workdir, done = tiny_run
    old = workdir.with_name("run.old-1")
    assert f"the old run is now {old}" in done.stderr
    assert json.loads((old / "config.json").read_text())["config"]["model"]["width"] == 7
    assert json.loads((workdir / "config.json").read_text())["config"]["model"]["width"] == 1


def test_a_sweep_runs_its_points_and_skips_the_finished(tmp_path):
    tiny = {"train.duration": "10 steps"}
    done = launching.run_here(tmp_path / "run", tiny, "--sweep_index=1")
    assert done.returncode == 0, done.stderr
    point = tmp_path / "run" / "sweep" / "model.width=1,beta.fixed=1.0"
    assert {r["row"] for r in launching.results(point)["records"]} == {"fixed beta=1 1x"}
    again = launching.run_here(tmp_path / "run", tiny, "--sweep_index=1")
    assert "already finished" in again.stderr


def test_a_sweep_skips_a_point_whose_data_is_missing_and_lists_it_at_the_end(monkeypatch, capsys, tmp_path):
    import jaxrepro.run
    from jaxrepro.errors import MissingData

    ran = []

    def fake(config, workdir, **options):
        if workdir.name == "mnist":
            raise MissingData("cannot download tfds:mnist: no network")
        ran.append(workdir.name)
        return True

    monkeypatch.setattr(jaxrepro.run, "run", fake)
    if not launch.FLAGS.is_parsed():
        launch.FLAGS(["launch.py"])
    points = [({}, tmp_path / name) for name in ("mnist", "letters")]
    assert launch.run_points(points, lambda point: None) == launch.FAILED
    assert ran == ["letters"]
    lines = capsys.readouterr().err.splitlines()
    assert "1 of 2 points did not finish; the same command tries them again:" in lines
    assert lines[-1] == "  mnist: cannot download tfds:mnist: no network" or "mnist: cannot download" in "\n".join(
        lines
    )
    with pytest.raises(MissingData):
        launch.run_points(points[:1], lambda point: None)
