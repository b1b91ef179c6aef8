"""One device, eight devices and two processes compute the same run."""

import socket
import subprocess

import launching
import numpy as np
import pytest

SHORT = {"train.duration": "20 steps", "train.batch_size": 16, "optim.lr": 1e-4}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one") / "run"
    done = launching.run_here(workdir, SHORT)
    assert done.returncode == 0, done.stderr
    return workdir


def assert_close(workdir, expected):
    """1e-4 relative to the largest value of each leaf, for parameters and Adam's moments, and of every record."""
    reference = launching.final_params(expected)
    for name, value in launching.final_params(workdir).items():
        scale = max(np.abs(reference[name]).max(), 1e-8)
        np.testing.assert_allclose(value / scale, reference[name] / scale, atol=1e-4, err_msg=name)
    ours, theirs = (launching.results(w)["records"] for w in (workdir, expected))
    np.testing.assert_allclose([r["value"] for r in ours], [r["value"] for r in theirs], rtol=1e-4)


def test_eight_devices_match_one(one_device, tmp_path):
    done = launching.run_process(tmp_path / "run", SHORT, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert done.returncode == 0, done.stderr
    assert launching.results(tmp_path / "run")["environment"]["device"].startswith("8 x")
    assert_close(tmp_path / "run", one_device)


@pytest.mark.slow
def test_parameters_split_over_a_model_axis_match_one_device(one_device, tmp_path):
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = launching.run_process(tmp_path / "run", SHORT | {"parallel.model_axis": 2}, **env)
    assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "run", one_device)


@pytest.mark.slow
def test_a_batch_that_does_not_split_over_the_devices_is_computed_by_each_with_a_line_of_warning(tmp_path):
    changes, eight = SHORT | {"train.batch_size": 1}, "--xla_force_host_platform_device_count=8"
    runs = {"one": launching.run_here(tmp_path / "one", changes)}
    runs["eight"] = launching.run_process(tmp_path / "eight", changes, XLA_FLAGS=eight)
    assert [done.returncode for done in runs.values()] == [0, 0], runs["eight"].stderr
    assert launching.results(tmp_path / "eight")["environment"]["device"].startswith("8 x")
    assert_close(tmp_path / "eight", tmp_path / "one")
    warnings = {k: [line for line in done.stderr.splitlines() if "batch_size" in line] for k, done in runs.items()}
    assert warnings["one"] == []
    assert len(warnings["eight"]) == 1
    assert "config.train.batch_size is 1, which 8 devices cannot share" in warnings["eight"][0]
    assert "such as 8, would be split" in warnings["eight"][0]


@pytest.mark.slow
def test_two_processes_match_one(one_device, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    processes = [
        subprocess.Popen(
            launching.command(
                tmp_path / "run",
                SHORT,
                f"--coordinator_address=127.0.0.1:{port}",
                "--num_processes=2",
                f"--process_id={i}",
            ),
            cwd=launching.ROOT,
            env=launching.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    printed = [p.communicate(timeout=200)[1] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], printed
    assert launching.results(tmp_path / "run")["environment"]["processes"] == 2
    assert_close(tmp_path / "run", one_device)


@pytest.mark.slow
def test_seeds_sharded_over_devices_match_a_solo_run(one_device, tmp_path):
    changes = SHORT | {"seeds": "(0,1)", "parallel.seeds": "shard"}
    done = launching.run_process(tmp_path / "run", changes, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert done.returncode == 0, done.stderr
    reference = launching.final_params(one_device)
    for name, value in launching.final_params(tmp_path / "run").items():
        scale = max(np.abs(reference[name]).max(), 1e-8)
        np.testing.assert_allclose(value[0] / scale, reference[name][0] / scale, atol=1e-4, err_msg=name)
