"""Nothing of a run is lost or mixed: unfinished evaluations, locks, unusable checkpoints, other data, damaged logs."""

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest
import toy

import launch
from jaxrepro import loop, run
from jaxrepro.checkpoint import Checkpoints
from jaxrepro.config import CheckpointConfig, TrainConfig, parse
from jaxrepro.config_file import make_config, set_value
from jaxrepro.data import make_source, table_from_arrays
from jaxrepro.errors import MissingData, UserError
from jaxrepro.metrics import Mean
from jaxrepro.progress import Interrupt
from jaxrepro.writers import cut_metrics, log_state


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    config = toy.config()
    loop.train(config, toy.build(config), workdir)
    return workdir


def abstract(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)


def saved(folder, **options):
    with Checkpoints(folder / "checkpoints", CheckpointConfig(**options)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"w": jax.random.normal(jax.random.key(step), 5000)})
    return {"w": jnp.zeros(5000)}


def truncate_all(folder):
    for path in (folder / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_where_no_checkpoint_is_sound_the_run_does_not_begin_at_step_0_in_silence(tmp_path):
    tree = saved(tmp_path)
    truncate_all(tmp_path)
    for _ in range(2):  # the same command says the same again
        with (
            Checkpoints(tmp_path / "checkpoints", CheckpointConfig(), say=lambda _: None) as checkpoints,
            pytest.raises(UserError, match=r"no checkpoint of .* is sound .* --restart begins anew"),
        ):
            checkpoints.restore_latest(abstract(tree))
    assert sorted(p.name for p in (tmp_path / "damaged_checkpoints").iterdir()) == ["1", "2"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ({"w": jnp.zeros(5001)}, r"w is float32\[5000\] there and float32\[5001\] here"),
        ({"v": jnp.zeros(5000)}, r"v is absent there and float32\[5000\] here"),
    ],
)
def test_the_checkpoint_of_another_program_is_refused_and_stays_where_it_is(tmp_path, program, message):
    saved(tmp_path)
    with (
        Checkpoints(tmp_path / "checkpoints", CheckpointConfig()) as checkpoints,
        pytest.raises(UserError, match=message),
    ):
        checkpoints.restore_latest(abstract(program))
    assert not (tmp_path / "damaged_checkpoints").exists()


def test_a_checkpoint_that_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
    tree = saved(tmp_path)
    with Checkpoints(tmp_path / "checkpoints", CheckpointConfig()) as checkpoints:

        def refuse(*arguments, **options):
            try:
                raise PermissionError(errno.EACCES, "Permission denied", "checkpoints/2/state")
            except PermissionError as error:
                raise ValueError("wrapped by a library") from error

        monkeypatch.setattr(checkpoints._manager, "restore", refuse)
        with pytest.raises(UserError, match="cannot read checkpoints/2/state: Permission denied"):
            checkpoints.restore_latest(abstract(tree))
    assert not (tmp_path / "damaged_checkpoints").exists()


def test_a_disk_without_room_for_a_checkpoint_is_one_line_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with (
        Checkpoints(tmp_path / "checkpoints", CheckpointConfig()) as checkpoints,
        pytest.raises(UserError, match=r"no room for a checkpoint of 0.0 MiB .* then the same command continues"),
    ):
        checkpoints.save(1, {"w": jnp.zeros(5000)})
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_the_best_checkpoint_is_known_from_descriptions_that_carry_a_digest(tmp_path):
    options = {"best": "test/error", "keep": 2}
    values = {1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0, 5: 4.0}
    with Checkpoints(tmp_path / "checkpoints", CheckpointConfig(**options)) as checkpoints:
        for step, value in values.items():
            checkpoints.save(step, {"w": jnp.full(10, float(step))}, value)
    tree = abstract({"w": jnp.zeros(10)})
    with Checkpoints(tmp_path / "checkpoints", CheckpointConfig(**options)) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]
        assert checkpoints.restore_best(tree)[0] == 2
    description = next(p for p in (tmp_path / "checkpoints" / "2" / "meta").rglob("*") if b'"metric"' in p.read_bytes())
    text = description.read_text()
    assert '"metric":' in text
    description.write_text(re.sub(r'("metric": ?)1\.0', r"\g<1>9.0", text))
    with Checkpoints(tmp_path / "checkpoints", CheckpointConfig(**options), say=lambda _: None) as checkpoints:
        assert checkpoints.restore_best(tree)[0] == 5, "a changed number is damage, not another best"


@pytest.mark.parametrize("position", range(0, 200, 7))
def test_no_flip_in_the_log_crashes_a_resume_or_goes_unsaid(finished, tmp_path, position):
    data = bytearray((finished / "metrics.jsonl").read_bytes())
    promised = log_state(bytes(data))
    data[position] ^= 0xFF
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(data)
    assert "was damaged" in cut_metrics(path, 40, promised)
    for line in path.read_bytes().splitlines():
        assert json.loads(line)["step"] <= 40
    path.write_bytes(bytes(data[: position + 1]))
    assert "was damaged" in cut_metrics(path, 40, promised)
    path.unlink()
    assert "was damaged" in cut_metrics(path, 40, promised)


def test_a_sound_log_is_cut_to_its_step_without_a_word(finished, tmp_path):
    data = (finished / "metrics.jsonl").read_bytes()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(data + b'{"step": 50, "split": "train", "seed": 0}\n{"step": 6')
    assert cut_metrics(path, 40, log_state(data)) == ""
    assert path.read_bytes() == data


def test_the_data_of_a_run_have_a_digest_and_other_data_are_refused(tmp_path):
    experiment = toy.build(toy.config())
    before = run.data_digest(experiment, 0)
    assert run.data_digest(toy.build(toy.config()), 0) == before
    arrays = {k: a.copy() for k, a in experiment.source.arrays.items()}
    arrays["y"][3] += 1e-3
    changed = dataclasses.replace(experiment, source=dataclasses.replace(experiment.source, arrays=arrays))
    after = run.data_digest(changed, 0)
    assert after != before
    run.check_data({"data": before}, before, tmp_path)
    run.check_data(None, after, tmp_path)
    with pytest.raises(UserError, match=r"the data of .* has changed since the run began"):
        run.check_data({"data": before}, after, tmp_path)


def test_a_running_folder_is_not_moved_aside(tmp_path):
    folder = tmp_path / "run"
    with run.locked(folder):
        (folder / "config.json").write_text("{}")
        with pytest.raises(UserError, match="another process is running"):
            run.move_aside(folder)
        assert folder.exists()
    assert run.move_aside(folder) == tmp_path / "run.old-1"


def test_a_signal_inside_an_evaluator_ends_it_at_once_and_the_same_call_continues(finished, tmp_path):
    config = toy.config()
    experiment = toy.build(config)
    times = []

    def evaluate(state, arrays, context):
        times.append(context.step)
        if len(times) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the signal came too late")
        return experiment.evaluators[0].fn(state, arrays, context)

    slow = dataclasses.replace(experiment.evaluators[0], fn=evaluate)
    slow = dataclasses.replace(experiment, evaluators=(slow,))
    with pytest.raises(KeyboardInterrupt):
        loop.train(config, slow, tmp_path)
    loop.train(config, slow, tmp_path)
    assert times == [20, 40, 40]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_a_signal_at_the_end_of_a_point_stops_the_sweep(monkeypatch, capsys, tmp_path):
    ran = []

    def fake(config, workdir, *, interrupt, **options):
        ran.append(workdir.name)
        interrupt.requested = True  # as if it had come when nothing was left but the page
        return True

    monkeypatch.setattr(run, "run", fake)
    launch.FLAGS(["launch.py"])
    points = [({}, tmp_path / name) for name in ("a", "b")]
    assert launch.run_points(points, lambda point: None, Interrupt()) == launch.INTERRUPTED
    assert ran == ["a"]
    assert "the same command continues" in capsys.readouterr().err


def test_a_run_stops_early_only_where_something_is_due_also_after_a_resume(tmp_path):
    """The flag is up from step 12; a checkpoint falls at 13, an evaluation at 20."""
    config = toy.config(checkpoint=CheckpointConfig(every="13 steps"))
    plain = toy.build(config)

    def update(state, batch, context):
        state, metrics = plain.update(state, batch, context)
        return {**state, "stopped": context.step >= 11}, metrics

    experiment = dataclasses.replace(plain, update=update, transitions=())
    assert loop.train(config, experiment, tmp_path / "whole").step == 20

    def interrupting(seed, start, length):
        if start == 13:
            raise SystemExit
        return experiment.source.block(seed, start, length)

    cut = dataclasses.replace(experiment, source=dataclasses.replace(experiment.source, block=interrupting))
    with pytest.raises(SystemExit):
        loop.train(config, cut, tmp_path / "cut")
    assert loop.train(config, experiment, tmp_path / "cut").step == 20
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_metric_that_would_hide_the_step_is_refused_and_an_empty_mean_is_no_divergence(tmp_path):
    config = toy.config()
    experiment = toy.build(config)

    def update(state, batch, context):
        state, metrics = experiment.update(state, batch, context)
        return state, metrics | {"rare": Mean.of(jnp.ones(8), jnp.zeros(8))}

    loop.train(config, dataclasses.replace(experiment, update=update), tmp_path / "rare")
    line = json.loads((tmp_path / "rare" / "metrics.jsonl").read_text().splitlines()[0])
    assert "rare" not in line

    def hiding(state, batch, context):
        return state, {"step": 1.0}

    with pytest.raises(ValueError, match="a metric of 'train' is named 'step'"):
        loop.train(config, dataclasses.replace(experiment, update=hiding), tmp_path / "hiding")


def test_a_shorter_duration_does_not_touch_a_longer_run(tmp_path):
    (tmp_path / "checkpoints" / "60").mkdir(parents=True)
    run.check_folder(tmp_path, 60)
    with pytest.raises(UserError, match=r"holds a run of 60 steps, more than the 30"):
        run.check_folder(tmp_path, 30)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("checkpoints", lambda p: p.write_text(""), "checkpoints is a file; a run has a folder there"),
        ("checkpoints", lambda p: p.symlink_to("nowhere"), "checkpoints is a link to nothing"),
        ("figures", lambda p: p.write_text(""), "figures is a file; a run has a folder there"),
        ("results.json", lambda p: p.mkdir(), "results.json is a folder; a run has a file there"),
        ("metrics.jsonl", lambda p: p.mkdir(), "metrics.jsonl is a folder; a run has a file there"),
    ],
)
def test_what_stands_in_the_wrong_place_of_a_run_folder_is_named_at_once(tmp_path, name, make, message):
    run.check_kinds(tmp_path)
    make(tmp_path / name)
    with pytest.raises(UserError, match=re.escape(message)):
        run.check_kinds(tmp_path)


@pytest.mark.parametrize("workdir", ["/proc/self/run", "/dev/null/run"])
def test_a_folder_that_cannot_be_made_is_one_line(workdir):
    with pytest.raises(UserError, match=f"cannot write {workdir}/.lock"), run.locked(Path(workdir)):
        pass


def test_a_file_in_place_of_the_run_folder_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="File exists; give another --workdir"), run.locked(tmp_path / "run"):
        pass


@pytest.mark.parametrize("content", [b'{"a": 1}', b"[1]", b"{}", b"\xff\xfe", b'{"config": null}', b"{"])
def test_a_damaged_config_of_a_run_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged .* --restart"):
        run.read_config(tmp_path / "config.json")


def test_an_early_stop_counts_as_finished_and_a_shorter_run_is_another_length(tmp_path):
    config = toy.config(train=TrainConfig(duration="40 steps", batch_size=8))
    results = loop.train(config, toy.build(config, stop_at=20), tmp_path)
    assert results.step == 24
    np.testing.assert_equal(results.timing["resumed_at_step"], 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(preset)\n    pass\n", "line 1: expected ':'"),
        ("x = 1\nimport no_such_module\n", "line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("y = 1 / 0\n", "line 1: ZeroDivisionError"),
        ("def get_config(preset):\n    return preset.x\n", "line 2: AttributeError"),
        ("def get_config():\n    pass\n", "TypeError: get_config() takes 0 positional arguments"),
        ("def get_config(preset):\n    return {}\n", "gives no config"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    ],
)
def test_a_broken_config_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    done = launching.call_main(f"--config={path}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_full_disk_or_a_folder_that_may_not_be_written_is_one_line(monkeypatch, capsys):
    def fail(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl")

    monkeypatch.setattr(launch, "launch", fail)
    assert launch.main(["launch.py"]) == 2
    assert capsys.readouterr().err == "error: runs/x/metrics.jsonl: No space left on device\n"


def reading(config):
    """An experiment that reads what the config says, as the real ones do."""
    rows = np.arange(300, dtype=np.float32).reshape(50, 6)
    table = table_from_arrays("rows", {"x": rows})
    limit = config.data.resident_limit_mb
    source, draw = make_source(table, config.train.batch_size, columns=("x",), resident_limit_mb=limit)
    (evaluator,) = toy.build(config).evaluators
    evaluator = dataclasses.replace(evaluator, arrays=rows[: config.eval.num_examples or None])
    return dataclasses.replace(toy.build(config), source=source, draw=draw, evaluators=(evaluator,))


@pytest.mark.parametrize("key", ["eval.num_examples", "data.resident_limit_mb"])
def test_settings_that_may_change_when_a_run_goes_on_are_no_other_data(tmp_path, key):
    def digest_of(config, rows=reading):
        return run.data_digest(rows(parse(toy.Config, config)), 0)

    def now(rows):
        module = SimpleNamespace(Config=toy.Config, build=rows)
        return run.data_to_compare(old, digest_of(later, rows), later, module)

    def other(config):
        experiment = reading(config)
        return dataclasses.replace(experiment, given=(np.ones(3, np.float32),))

    first, later = (make_config(toy.config(), "paper", {}) for _ in range(2))
    set_value(first, "data.resident_limit_mb", 100)
    set_value(later, "data.resident_limit_mb", 100)
    set_value(later, key, 0 if key.startswith("data") else 7)
    old = {"data": digest_of(first), "config": run.plain(first)}
    assert digest_of(later) != old["data"]
    run.check_data(old, now(reading), tmp_path)
    with pytest.raises(UserError, match="has changed since the run began"):
        run.check_data(old, now(other), tmp_path)


def test_a_sweep_is_evaluated_past_a_point_that_was_not_trained_yet(tmp_path):
    with pytest.raises(MissingData, match="holds no latest checkpoint to evaluate; train first"):
        loop.evaluate(toy.config(), toy.build(toy.config()), tmp_path)
