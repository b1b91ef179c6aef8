"""The loop over a toy experiment: order, periods, exact resume, early stop, interruption, divergence, seeds."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from jaxrepro import loop, rng
from jaxrepro.checkpoint import Checkpoints, NonFiniteError
from jaxrepro.config import CheckpointConfig, Keep, ParallelConfig, TrainConfig
from jaxrepro.errors import UserError


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def final_state(workdir, config, experiment):
    run = loop.Run(config, experiment)
    with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        return jax.tree.map(np.asarray, checkpoints.restore_latest(run.program.abstract_state())[1])


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


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
    state, losses = experiment.init(rng.key(seed, "init")), []
    for step in range(24):
        rows = experiment.source.block(seed, step, 1)[0]
        draw_key, update_key = jax.random.split(rng.key(seed, "train", step))
        state, metrics = experiment.update(state, experiment.draw(state, arrays, rows, draw_key), update_key)
        losses.append(float(metrics["loss"]))
        if step + 1 == transition.every:
            state = transition.fn(state, arrays, rng.key(seed, "transition/round", step + 1))
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
    assert_equal_trees(final_state(tmp_path, config, experiment), final_state(whole, config, experiment))


def test_the_number_of_steps_per_call_does_not_change_the_result(finished, tmp_path):
    whole, config, experiment, _ = finished
    one = toy.config(parallel=ParallelConfig(steps_per_call=1))
    loop.train(one, toy.build(one), tmp_path)
    assert_equal_trees(final_state(tmp_path, one, experiment), final_state(whole, config, experiment))


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


def test_a_loss_that_is_not_finite_names_the_interval_and_keeps_the_last_good_checkpoint(tmp_path):
    config = toy.config()
    with pytest.raises(NonFiniteError, match="between steps 20 and 30"):
        loop.train(config, toy.build(config, poison_at=22), tmp_path)
    with Checkpoints(tmp_path / "checkpoints", config.checkpoint) as checkpoints:
        assert checkpoints.steps() == [15]
    assert lines(tmp_path)[-1] == {"step": 30, "split": "train", "seed": 0, "loss": None}


@pytest.mark.parametrize("mode", ["unroll", "vmap"])
def test_several_seeds_in_one_program_match_solo_runs(mode, tmp_path):
    together = toy.config(seeds=(3, 5), parallel=ParallelConfig(seeds=mode))
    loop.train(together, toy.build(together), tmp_path / "together")
    states = final_state(tmp_path / "together", together, toy.build(together))
    for i, seed in enumerate((3, 5)):
        solo = toy.config(seeds=(seed,))
        loop.train(solo, toy.build(solo), tmp_path / str(seed))
        expected = final_state(tmp_path / str(seed), solo, toy.build(solo)).state["params"]["w"][0]
        np.testing.assert_allclose(states.state["params"]["w"][i], expected, rtol=1e-5)
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

    def update(state, batch, key):
        state, metrics = experiment.update(state, batch, key)
        return {**state, "count": state["count"].astype("float32")}, metrics

    with pytest.raises(TypeError, match="update changes count from int32"):
        loop.train(config, type(experiment)(**{**vars(experiment), "update": update}), tmp_path)


def test_evaluating_an_empty_folder_says_to_train_first(tmp_path):
    config = toy.config()
    with pytest.raises(UserError, match="train first"):
        loop.evaluate(config, toy.build(config), tmp_path)
