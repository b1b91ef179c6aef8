"""What the machine refuses, and what it cannot hold, is one line and exit code 2."""

import dataclasses
import errno
import os
import subprocess
import sys

import finished_runs
import jax
import launching
import pytest
import toy
from ml_collections import ConfigDict

import launch
from jaxrepro import config_file, loop, machine
from jaxrepro.checkpoint import NonFiniteError
from jaxrepro.cluster import Distributed, join
from jaxrepro.config import DataConfig, TrainConfig, parse
from jaxrepro.data.cache import data_dir
from jaxrepro.errors import UserError
from jaxrepro.report import html
from jaxrepro.report.comparison import compare
from jaxrepro.report.grids import to_markdown
from jaxrepro.writers import write_atomically


def wrapped(cause):
    error = RuntimeError("a library gave up")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device"),
        (wrapped(PermissionError(errno.EACCES, "Permission denied", "a/b")), "a/b: Permission denied"),
        (
            ValueError("INTERNAL: writing /r/checkpoints/7: [OS error 28: ENOSPC No space left on device]"),
            "/r/checkpoints/7: No space left on device",
        ),
        (wrapped(MemoryError()), "out of memory; choose a smaller"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes"), "out of memory (4096 bytes at once)"),
        (ValueError("a bug"), ""),
        (OSError(errno.EINVAL, "Invalid argument"), ""),
    ],
)
def test_what_the_machine_refuses_is_found_behind_the_errors_of_libraries(error, line):
    fault = machine.machine_fault(error)
    assert fault.startswith(line) if line else fault == ""


def test_such_an_error_is_one_line_and_exit_code_2_and_a_bug_keeps_its_traceback(monkeypatch, capsys):
    def fail(argv):
        raise wrapped(OSError(errno.EDQUOT, "Disk quota exceeded", "runs/x"))

    monkeypatch.setattr(launch, "launch", fail)
    assert launch.main(["launch.py"]) == 2
    assert capsys.readouterr().err == "error: runs/x: Disk quota exceeded\n"
    monkeypatch.setattr(launch, "launch", lambda argv: {}["a bug"])
    with pytest.raises(KeyError):
        launch.main(["launch.py"])


def test_a_full_disk_leaves_no_temporary_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.json", "old")

    def fail(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "replace", fail)
    with pytest.raises(OSError):
        write_atomically(tmp_path / "a.json", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [1, 8])
def test_a_run_on_a_full_disk_is_one_line_and_goes_on_when_there_is_room_again(tmp_path, kilobytes):
    whole = launching.run_process(tmp_path / "whole")  # fills the caches, too
    assert whole.returncode == 0, whole.stderr
    # A limit on the size of files is what the system offers for a full disk without one.
    command = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *launching.command(tmp_path / "run")]
    done = subprocess.run(command, cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    done = launching.run_process(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_without_a_home_folder_the_variable_to_set_is_named(monkeypatch):
    monkeypatch.delenv("JAXREPRO_DATA")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where neither $HOME nor the user is known
    with pytest.raises(UserError, match="no such home folder; set JAXREPRO_DATA"):
        data_dir()


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("lr", "1" + "0" * 400, r"config.lr is 1000.*… \(401 characters\) \(int\); it must be float"),
        ("lr", "1e999", "config.lr is inf; it must be finite"),
        ("lr", "(" * 150 + ")" * 150, "config.lr is .* it must be float"),
        ("train.batch_size", str(2**63), f"config.train.batch_size is {2**63}; it must lie between"),
        ("train.batch_size", "2000000", "batch_size is 2000000; it must be positive, and at most 1,000,000"),
    ],
)
def test_a_number_that_nothing_can_hold_is_one_line(path, text, message):
    config = config_file.make_config(toy.config(), "paper", {})

    def apply():
        config_file.override(config, path, text)
        parse(toy.Config, config)

    with pytest.raises(UserError, match=message) as raised:
        apply()
    assert len(str(raised.value)) < 300


def test_an_integer_too_large_for_a_float_in_a_config_file_is_one_line():
    with pytest.raises(UserError, match=r"config.lr is 1000.* too large for a number with a fraction"):
        parse(toy.Config, ConfigDict({"experiment": "toy", "name": "toy", "lr": 10**400}))


def test_a_state_larger_than_the_memory_is_refused_before_it_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "machine_memory", lambda: 60)
    config = toy.config()
    with pytest.raises(UserError, match=r"the state of this run would take 0.0 GB of memory"):
        loop.train(config, toy.build(config), tmp_path)


def test_the_last_good_checkpoint_is_promised_only_where_there_is_one(monkeypatch, capsys, tmp_path):
    from jaxrepro import run

    def diverge(*arguments, **options):
        raise NonFiniteError("loss is nan at step 3")

    monkeypatch.setattr(run, "run", diverge)
    launch.FLAGS(["launch.py"])
    assert launch.run_points([({}, tmp_path)], lambda point: None) == 1
    assert capsys.readouterr().err == "diverged: loss is nan at step 3\n"
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    assert launch.run_points([({}, tmp_path)], lambda point: None) == 1
    assert "the last good checkpoint stays in" in capsys.readouterr().err


def test_names_are_no_markdown(tmp_path):
    record = finished_runs.record("<b>*x*</b> [a](b) |", "_c_", 1.0, metric="num_params")
    text = to_markdown(compare([record], []))
    assert r"\<b\>\*x\*\</b\> \[a\](b) \|" in text
    assert r"\_c\_" in text


def test_a_damaged_picture_does_not_stop_the_page(tmp_path):
    for name, data in (("cut", b""), ("other", b"GIF89a" + bytes(100))):
        (tmp_path / f"{name}.png").write_bytes(data)
    found = html.read_pictures(sorted(tmp_path.iterdir()), {})
    assert [p.data for p in found] == ["", ""]
    assert "the file is damaged; --mode=eval draws it again" in found[0].caption


def test_the_process_that_lost_another_says_so_in_one_line(monkeypatch, capsys):
    def lose(argv):
        raise RuntimeError("FAILED_PRECONDITION: Gloo all-reduce failed: Connection closed by peer [10.0.0.2]:4711")

    monkeypatch.setattr(launch, "launch", lose)
    monkeypatch.setattr(launch, "leave", sys.exit)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(SystemExit) as left:
        launch.main(["launch.py"])
    assert left.value.code == launch.INTERRUPTED
    assert capsys.readouterr().err == (
        "lost process 1 of this run (Connection closed by peer [10.0.0.2]:4711);"
        " the same command on every host continues from the last checkpoint\n"
    )


@pytest.mark.parametrize(
    ("text", "name"), [("-3", "OMPI_COMM_WORLD_SIZE"), ("abc", "SLURM_NTASKS"), ("0", "SLURM_NTASKS")]
)
def test_a_number_of_processes_that_is_none_is_one_line(monkeypatch, text, name):
    monkeypatch.setenv(name, text)
    with pytest.raises(UserError, match=rf"\${name} is '{text}'; .* sets a number of processes there"):
        join(Distributed.AUTO)


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda':\n no GPU")])
def test_a_kind_of_device_that_is_not_there_is_one_line(monkeypatch, capsys, error):
    def fail():
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    launch.FLAGS.unparse_flags()
    assert launch.main(["launch.py", "--config=configs/yoto_cifar.py:smoke", "--mode=print"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: JAX_PLATFORMS='cuda' cannot be used (")
    assert printed.count("\n") == 1


def test_a_batch_size_is_checked_where_it_is_written():
    with pytest.raises(UserError, match="batch_size is 0"):
        dataclasses.replace(TrainConfig(), batch_size=0)
    with pytest.raises(UserError, match="resident_limit_mb is -5; it must be 0 or more"):
        DataConfig(resident_limit_mb=-5)
