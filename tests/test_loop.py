"""The loop over a toy experiment: order, periods, exact resume, early stop, interruption, divergence, seeds."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest
import toy

from jaxrepro import loop, rng
from jaxrepro.checkpoint import Checkpoints, NonFiniteError
from jaxrepro.compiling import options_for_steps
from jaxrepro.config import CheckpointConfig, Keep, ParallelConfig, TrainConfig
from jaxrepro.errors import UserError
from jaxrepro.experiment import Context, Evaluation, Transition, When
from jaxrepro.metrics import Mean


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def final_state(workdir, config, experiment):
    run = loop.Run(config, experiment)
    with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        return jax.tree.map(np.asarray, checkpoints.restore_latest(run.program.abstract_state())[1])


def assert_same_checkpoint(one, other):
    found, expected = (launching.final_params(workdir) for workdir in (one, other))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    config = toy.config()
    experiment = toy.build(config)
    results = loop.train(config, experiment, workdir)
    return workdir, config, experiment, results


def test_periods_are_hit_exactly_and_the_last_step_is_logged_and_evaluated(finished):
    workdir, _, _, results = finished
    train = [line["step"] for line in lines(workdir) if line["split"] == "train"]
    test = [line["step"] for line in lines(workdir) if line["split"] == "test"]
    assert train == [10, 20, 30, 40]
    assert test == [20, 40]
    assert results.step == 40
    assert (workdir / "figures" / "blank.png").exists()


def test_a_run_equals_a_plain_python_loop_with_the_documented_keys(tmp_path):
    """Also: a log line is the mean since the one before, and the last step has no transition."""
    config = toy.config(train=TrainConfig(duration="24 steps", batch_size=8))
    experiment = toy.build(config)
    loop.train(config, experiment, tmp_path)
    seed, (transition,) = config.seeds[0], experiment.transitions
    arrays = jax.tree.map(jnp.asarray, experiment.source.arrays)
    state, losses = experiment.init(Context(0, 0, rng.key(seed, "init")), ()), []
    for step in range(24):
        rows = experiment.source.block(seed, step, 1)[0]
        draw_key, update_key = jax.random.split(rng.key(seed, "train", step))
        batch = experiment.draw(state, arrays, rows, Context(step, 0, draw_key))
        state, metrics = experiment.update(state, batch, Context(step, 0, update_key))
        losses.append(float(metrics["loss"]))
        if step + 1 == transition.when.every:
            state, _ = transition.fn(state, arrays, Context(step + 1, 0, rng.key(seed, "transition/round", step + 1)))
    ours = final_state(tmp_path, config, experiment)
    assert ours.step.tolist() == [24]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5, atol=1e-6), ours.state, state)
    logged = {line["step"]: line["loss"] for line in lines(tmp_path) if line["split"] == "train"}
    wanted = {10: np.mean(losses[:10]), 20: np.mean(losses[10:20]), 24: np.mean(losses[20:])}
    assert logged == pytest.approx(wanted, rel=1e-5)


def test_the_latest_checkpoints_are_kept(finished):
    workdir, config, _, _ = finished
    with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        assert checkpoints.steps() == [30, 40]


def test_an_interrupted_run_continues_to_the_same_bits(finished, tmp_path):
    whole, config, experiment, _ = finished
    block = experiment.source.block

    def interrupting(seed, start, length):  # a signal in the middle of the run, between two periods
        if start == 24:
            os.kill(os.getpid(), signal.SIGTERM)
        return block(seed, start, length)

    source = type(experiment.source)(
        experiment.source.arrays, interrupting, experiment.source.batch_size, experiment.source.num_examples
    )
    interrupted = toy.build(config)
    interrupted = type(interrupted)(**{**vars(interrupted), "source": source})
    assert loop.train(config, interrupted, tmp_path) is None
    assert loop.train(config, toy.build(config), tmp_path).step == 40
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert_same_checkpoint(tmp_path, whole)


def test_the_number_of_steps_per_call_does_not_change_the_result(finished, tmp_path):
    whole, *_ = finished
    one = toy.config(parallel=ParallelConfig(steps_per_call=1))
    loop.train(one, toy.build(one), tmp_path)
    assert_same_checkpoint(tmp_path, whole)


def test_compiling_quickly_changes_a_run_by_rounding_only(finished, tmp_path, monkeypatch):
    whole, *_ = finished
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert options_for_steps(quick=True) == {}  # the level of XLA_FLAGS holds
    monkeypatch.setenv("XLA_FLAGS", "")
    assert options_for_steps(quick=False) == {}
    assert options_for_steps(quick=True)["xla_backend_optimization_level"] == 1
    quick = toy.config(parallel=ParallelConfig(quick_compile=True))
    asked = []
    monkeypatch.setattr(
        "jaxrepro.step.options_for_steps", lambda quick: asked.append(quick) or options_for_steps(quick)
    )
    loop.train(quick, toy.build(quick), tmp_path)
    assert asked == [True]
    found, expected = (launching.final_params(workdir) for workdir in (tmp_path, whole))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_finished_run_without_results_is_evaluated_again_without_new_lines(finished, tmp_path):
    whole, config, _, results = finished
    before = (whole / "metrics.jsonl").read_bytes()
    again = loop.train(config, toy.build(config), whole)
    assert again.step == 40
    assert again.metrics == results.metrics
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_an_early_stop_ends_the_run_after_a_transition_and_resumes_as_stopped(tmp_path):
    config = toy.config()
    results = loop.train(config, toy.build(config, stop_at=20), tmp_path)
    assert results.step == 24  # the first round that ends at or after step 20
    assert lines(tmp_path)[-1]["step"] == 24
    assert lines(tmp_path)[-1]["split"] == "test"
    assert loop.train(config, toy.build(config, stop_at=20), tmp_path).step == 24


def test_a_metric_is_logged_only_where_a_batch_was_counted(tmp_path, capsys):
    config = toy.config()
    toys = toy.build(config)

    def update(state, batch, context):
        state, metrics = toys.update(state, batch, context)
        return state, metrics | {"rare": Mean.of(jnp.float32(7), context.step == 25)}

    loop.train(config, dataclasses.replace(toys, update=update), tmp_path)
    found = {line["step"]: line.get("rare", "not there") for line in lines(tmp_path) if line["split"] == "train"}
    assert found == {10: "not there", 20: "not there", 30: 7, 40: "not there"}
    assert "nan" not in "".join(capsys.readouterr())


def test_a_loss_that_is_not_finite_names_the_interval_and_keeps_the_last_good_checkpoint(tmp_path):
    config = toy.config()
    with pytest.raises(NonFiniteError, match="between steps 20 and 30"):
        loop.train(config, toy.build(config, poison_at=22), tmp_path)
    with Checkpoints(tmp_path / "checkpoints", config.checkpoint) as checkpoints:
        assert checkpoints.steps() == [15]
    assert lines(tmp_path)[-1] == {"step": 30, "split": "train", "seed": 0, "loss": None}


@pytest.fixture(scope="module")
def solo(tmp_path_factory):
    """Final weights by seed, of runs of one seed each."""
    folder = tmp_path_factory.mktemp("solo")
    configs = {seed: toy.config(seeds=(seed,)) for seed in (3, 5)}
    for seed, config in configs.items():
        loop.train(config, toy.build(config), folder / str(seed))
    return {seed: launching.final_params(folder / str(seed))["state/params/w"][0] for seed in configs}


@pytest.mark.parametrize("mode", ["unroll", "vmap"])
def test_several_seeds_in_one_program_match_solo_runs(mode, solo, tmp_path):
    together = toy.config(seeds=(3, 5), parallel=ParallelConfig(seeds=mode))
    loop.train(together, toy.build(together), tmp_path / "together")
    found = launching.final_params(tmp_path / "together")["state/params/w"]
    for i, seed in enumerate((3, 5)):
        np.testing.assert_allclose(found[i], solo[seed], rtol=1e-5)
    by_seed = {line["seed"]: line["loss"] for line in lines(tmp_path / "together") if line["step"] == 10}
    assert by_seed[3] != by_seed[5]


def test_the_best_checkpoint_is_kept_and_can_be_evaluated(tmp_path):
    best = CheckpointConfig(every="5 steps", best="test/error", best_mode="max", evaluate=Keep.BEST)
    config = toy.config(lr=0.3, checkpoint=best, train=TrainConfig(duration="60 steps", batch_size=8))
    loop.train(config, toy.build(config), tmp_path)
    errors = {line["step"]: line["error"] for line in lines(tmp_path) if line["split"] == "test"}
    step = max(errors, key=errors.get)
    assert step == 20, "the error must be highest long before the end for this test to say anything"
    results = loop.evaluate(config, toy.build(config), tmp_path)
    assert results.step == step
    assert results.metrics["test/error"] == pytest.approx([errors[step]])


def test_a_best_metric_that_nobody_evaluates_is_refused(tmp_path):
    config = toy.config(checkpoint=CheckpointConfig(every="5 steps", best="test/acuracy"))
    with pytest.raises(UserError, match=r"'test/acuracy'; evaluated are test/error"):
        loop.train(config, toy.build(config), tmp_path)
    config = toy.config(checkpoint=CheckpointConfig(every="5 steps", best="valid/error"))
    with pytest.raises(UserError, match="valid/error"):
        loop.train(config, toy.build(config), tmp_path)


def test_an_update_that_changes_the_state_names_the_leaf(tmp_path):
    config = toy.config()
    experiment = toy.build(config)

    def update(state, batch, context):
        state, metrics = experiment.update(state, batch, context)
        return {**state, "stopped": state["stopped"].astype("float32")}, metrics

    with pytest.raises(TypeError, match="update changes stopped from bool"):
        loop.train(config, type(experiment)(**{**vars(experiment), "update": update}), tmp_path)


def changed(experiment, **changes):
    return dataclasses.replace(experiment, **changes)


def test_rounds_of_uneven_length_happen_at_their_steps_and_survive_an_interruption(tmp_path):
    config = toy.config(checkpoint=CheckpointConfig(every="7 steps"))
    rounds = (3, 10, 25)
    experiment = toy.build(config)
    (round_,), (evaluator,) = experiment.transitions, experiment.evaluators
    experiment = changed(
        experiment,
        transitions=(dataclasses.replace(round_, when=When(at=rounds)),),
        evaluators=(dataclasses.replace(evaluator, when=When(at=rounds)),),
    )
    loop.train(config, experiment, tmp_path / "whole")
    found = [line["step"] for line in lines(tmp_path / "whole") if line["split"] == "test"]
    assert found == [3, 10, 25], "there is no evaluation at the end unless When.end asks for it"

    def interrupting(seed, start, length):
        if start == 14:
            os.kill(os.getpid(), signal.SIGTERM)
        return experiment.source.block(seed, start, length)

    stopping = changed(experiment, source=dataclasses.replace(experiment.source, block=interrupting))
    assert loop.train(config, stopping, tmp_path / "cut") is None
    loop.train(config, experiment, tmp_path / "cut")
    assert_same_checkpoint(tmp_path / "cut", tmp_path / "whole")


def test_a_transition_before_the_evaluation_logs_its_metrics_and_happens_at_the_last_step_too(tmp_path):
    config = toy.config(train=TrainConfig(duration="22 steps", batch_size=8))
    experiment = toy.build(config)

    def validate(state, arrays, context):
        error = jnp.mean((arrays["x"] @ state["params"]["w"] - arrays["y"]) ** 2)
        return {**state, "params": {"w": jnp.zeros(3)}}, {"error": error, "at": context.step}

    validation = Transition("validation", When(every=10, end=True), validate, before_evaluation=True)
    results = loop.train(config, changed(experiment, transitions=(validation,)), tmp_path)
    found = [line for line in lines(tmp_path) if line["split"] == "valid"]
    assert [(line["step"], line["at"]) for line in found] == [(10, 10), (20, 20), (22, 22)]
    at_zero = float(np.mean((experiment.evaluators[0].arrays["y"]) ** 2))
    assert results.metrics["test/error"] == pytest.approx([at_zero]), "the evaluation sees the state after it"
    assert results.metrics["valid/error"][0] != pytest.approx(at_zero)
    best = dataclasses.replace(config, checkpoint=CheckpointConfig(every="5 steps", best="valid/error"))
    loop.train(best, changed(experiment, transitions=(validation,)), tmp_path / "best")


def test_the_state_begins_with_given_arrays_that_are_no_constants_of_the_program(tmp_path):
    config = toy.config(train=TrainConfig(duration="1 steps", batch_size=8))
    experiment = toy.build(config)
    given = {"w": np.arange(3, dtype=np.float32), "unused": np.zeros((256, 1024), np.float32)}

    def init(context, given):
        state = experiment.init(context, given)
        return {**state, "params": {"w": given["w"] + 0 * given["unused"].sum()}}

    run = loop.Run(config, changed(experiment, init=init, given=given))
    np.testing.assert_array_equal(run.program.init().state["params"]["w"][0], given["w"])
    lowered = run.program._init.lower(run.program.seeds, given)
    assert lowered.compile().memory_analysis().argument_size_in_bytes > given["unused"].nbytes


def test_a_function_of_the_contract_knows_the_step_and_the_place_of_its_seed(tmp_path):
    config = toy.config(seeds=(7, 3), train=TrainConfig(duration="4 steps", batch_size=8))
    experiment = toy.build(config)

    def update(state, batch, context):
        return state, {"loss": context.seed_index * 100.0 + context.step}

    seen = []

    def evaluate(state, arrays, context):
        seen.append((context.step, context.seed_index))
        return Evaluation()

    evaluator = dataclasses.replace(experiment.evaluators[0], fn=evaluate)
    loop.train(config, changed(experiment, update=update, evaluators=(evaluator,)), tmp_path)
    losses = {line["seed"]: line["loss"] for line in lines(tmp_path) if line["split"] == "train"}
    assert losses == {7: 1.5, 3: 101.5}
    assert seen == [(4, 0), (4, 1)]


def test_a_time_that_never_comes_is_refused():
    for arguments in ({}, {"at": (5, 3)}, {"at": (0, 3)}, {"every": -1}):
        with pytest.raises(ValueError, match="When"):
            When(**arguments)


def test_evaluating_an_empty_folder_says_to_train_first(tmp_path):
    config = toy.config()
    with pytest.raises(UserError, match="train first"):
        loop.evaluate(config, toy.build(config), tmp_path)


def test_two_evaluators_or_transitions_of_one_name_are_refused():
    """They would share arrays: the first would be evaluated on those of the second."""
    experiment = toy.build(toy.config())
    with pytest.raises(ValueError, match="two evaluators are called 'error'"):
        changed(experiment, evaluators=2 * experiment.evaluators)
    with pytest.raises(ValueError, match="two transitions are called 'round'"):
        changed(experiment, transitions=2 * experiment.transitions)


def test_two_evaluators_do_not_overwrite_each_others_pictures():
    owners = {}
    for name in ("first", "first", "second"):  # an evaluator draws its own again and again
        loop.check_own(owners, [f"{name}'s"], name)
    with pytest.raises(ValueError, match="evaluators 'first' and 'third' both give \"first's\""):
        loop.check_own(owners, ["first's"], "third")


def test_a_metric_of_some_of_the_seeds_only_is_refused():
    config = toy.config(seeds=(3, 5))

    def evaluate(state, arrays, context):
        return Evaluation({f"error_{context.seed_index}": 1.0})

    run = loop.Run(config, toy.build(config))
    evaluator = dataclasses.replace(run.experiment.evaluators[0], fn=evaluate)
    with pytest.raises(ValueError, match="'error' gives the metric 'error_0' for some of the seeds only"):
        run.evaluate(evaluator, run.program.init(), 1, run.upload())
