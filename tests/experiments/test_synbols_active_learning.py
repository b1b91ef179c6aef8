"""Rounds, labels, resuming, several seeds and methods in one program, cells; on a tiny network."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from jaxrepro import config_file, loop
from jaxrepro.checkpoint import Checkpoints
from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig, parse
from jaxrepro.data.active import FaultConfig, Flag
from jaxrepro.data.sources import facts_of_source
from jaxrepro.errors import UserError
from jaxrepro.evaluators.active_learning import round_of
from jaxrepro.experiments import synbols_active_learning as active
from jaxrepro.experiments.synbols_active_learning import ActiveConfig, TaskConfig
from jaxrepro.models.trunk import IMAGENET, TrunkConfig
from jaxrepro.report.reference import differences, load_reference
from jaxrepro.training.active import METHODS
from jaxrepro.training.calibration import CalibrationConfig

SOURCE = "synbols:missing-symbol-paper?num_samples=100&resolution=8&auxiliary=false&masks=true"
ROUND_ENDS = (6, 14, 24)  # of 12, 16 and 20 labels, two epochs of batches of 4


def tiny(**changes):
    defaults = {
        "experiment": "synbols_active_learning",
        "name": "synbols_active_learning",
        "seeds": (5,),
        "train": TrainConfig(duration="24 steps", batch_size=4),
        "optim": OptimConfig(lr=1e-2),
        "data": DataConfig(source=SOURCE),
        "active": ActiveConfig(("BALD",), initial=12, queries=4, epochs=2, passes=3),
        "trunk": TrunkConfig(weights="", blocks=((2,), (4,)), hidden_size=8, pooled=2),
        "task": TaskConfig(column="10% Missing", num_pool=70, flag=Flag.MISSING),
        "calibration": CalibrationConfig(epochs=1),
        "eval": EvalConfig(every="end", batch_size=35),
        "log": LogConfig(every="5 steps"),
        "checkpoint": CheckpointConfig(every="5 steps"),
    }
    return active.Config(**defaults | changes)


def run(config, workdir, experiment=None):
    """Returns (results, final state of all seeds)."""
    experiment = experiment or active.build(config)
    results = loop.train(config, experiment, workdir)
    program = loop.Run(config, experiment).program
    with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        return results, jax.tree.map(np.asarray, checkpoints.restore_latest(program.abstract_state())[1].state)


@pytest.fixture(scope="module")
def solo(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("solo")
    return workdir, *run(tiny(), workdir)


def lines(workdir, split):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["split"] == split]


def test_every_round_is_tested_with_the_labels_it_was_trained_on(solo):
    workdir, _, state = solo
    tested = lines(workdir, "test")
    assert [line["step"] for line in tested] == list(ROUND_ENDS)
    assert [line["BALD/labels"] for line in tested] == [12, 16, 20]
    learner = state["BALD"]
    assert learner.round.tolist() == [3]
    np.testing.assert_allclose(learner.history["nll"][0, :3], [line["BALD/nll"] for line in tested], rtol=1e-6)
    assert (learner.history["nll"][0, 3:] == 0).all()
    assert learner.pool.num_labelled.tolist() == [20]
    assert len(set(learner.pool.order[0, :20].tolist())) == 20
    assert not np.array_equal(*(learner.params["Conv_0"]["kernel"][0], learner.initial["Conv_0"]["kernel"][0]))


def test_a_run_reports_its_cells_and_draws_its_pictures(solo):
    workdir, results, state = solo
    cells = {(r["table"], r["column"], r["metric"]): r["value"] for r in results.records}
    assert cells["table7", "10% Missing @20%", "nll"] == pytest.approx(float(state["BALD"].history["nll"][0, 0]))
    share = cells["text", "10% Missing", "blank_query_share"]
    asked = state["BALD"].pool.order[0, 12:20]
    parts, *_ = active.active_parts(SOURCE, official_test=False, flag=Flag.MISSING)
    assert share == 100 * parts["pool"]["missing"][asked].mean()
    pictures = {"test_nll", "reliability", "query_share", "first_queries_bald"}
    assert pictures <= {p.stem for p in (workdir / "figures").glob("*.png")}


def interrupted(config, at):
    """Returns an experiment that gets a signal when the batches from a step on are asked for."""
    experiment = active.build(config)

    def block(seed, start, length):
        if start == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return experiment.source.block(seed, start, length)

    return dataclasses.replace(experiment, source=dataclasses.replace(experiment.source, block=block))


def test_stopped_in_the_middle_of_a_round_a_run_asks_the_same_questions_and_ends_with_the_same_bits(solo, tmp_path):
    """Also: what it asked for so far can be looked at, after an acquisition whose labels nothing was tested with."""
    workdir, results, state = solo
    config = tiny()
    assert loop.train(config, interrupted(config, 10), tmp_path) is None
    seen = loop.evaluate(config, active.build(config), tmp_path)
    assert 6 < seen.step < 24
    assert {r["facts"]["num_labels"] for r in seen.records if r["table"] == "table7"} == {12}
    assert (tmp_path / "figures" / "query_share.png").exists()
    again, found = run(config, tmp_path)
    assert 6 < again.timing["resumed_at_step"] < 24
    jax.tree.map(np.testing.assert_array_equal, found, state)
    assert again.records == results.records
    assert (tmp_path / "metrics.jsonl").read_bytes() == (workdir / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_seeds_and_methods_that_share_a_program_ask_what_they_ask_alone(solo, tmp_path):
    """Also: all methods of a seed begin with the same labels, and a calibrated one with the same first round."""
    _, _, alone = solo
    methods = ActiveConfig(("BALD Calibrated", "BALD"), initial=12, queries=4, epochs=2, passes=3)
    results, state = run(tiny(seeds=(3, 5), active=methods), tmp_path)
    assert results is not None, "the run was interrupted"
    together, solo_learner, calibrated = state["BALD"], alone["BALD"], state["BALD Calibrated"]
    np.testing.assert_array_equal(together.pool.order[1], solo_learner.pool.order[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b[0], atol=1e-5), together.params, solo_learner.params)
    np.testing.assert_array_equal(together.pool.order[:, :12], calibrated.pool.order[:, :12])
    assert not np.array_equal(together.pool.order[0], together.pool.order[1])
    np.testing.assert_allclose(calibrated.history["nll"][:, 0], together.history["nll"][:, 0], rtol=1e-6)
    assert (calibrated.history["calibrated_nll"][:, :3] > 0).all()
    eye = np.eye(26, dtype=np.float32)
    assert not np.allclose(calibrated.calibration.weight[0], eye)
    np.testing.assert_array_equal(together.calibration.weight[0], eye)


# The tables


def config_of(point, preset="paper"):
    config = config_file.load(f"configs/synbols_active_learning.py:{preset}")
    for path, value in point.items():
        config_file.set_value(config, path, value)
    return parse(active.Config, config)


def test_the_sweep_reaches_every_cell_of_the_paper_three_times():
    points = config_file.sweep_points("configs/synbols_active_learning.py")
    assert len({config_file.point_name(p) for p in points}) == len(points) == 5 * 7 * 3
    cells = {}
    for point in points:
        config = config_of(point)
        rounds = active.rounds_of(config)
        num_rounds = active.num_rounds(config, config.task.num_pool)
        for percent, table in {5: "table7", 10: "table3", 20: "table7"}.items():
            if round_of(percent, rounds, num_rounds, config.task.num_pool) is None:
                assert (config.task.column, percent) == ("CIFAR10", 5), "2,000 labels are more than 5 % of its pool"
                continue
            cell = (table, config.active.methods[0], f"{config.task.column} @{percent}%", "nll")
            cells.setdefault(cell, set()).update(config.seeds)
    printed = {p.cell for p in load_reference("synbols_active_learning", "v1") if p.metric == "nll"}
    assert printed <= set(cells)
    assert all(len(seeds) == 3 for seeds in cells.values())
    assert {c for c in set(cells) - printed if "CIFAR10" not in c[2]} == set(), "the paper prints CIFAR10 at 10 % only"


def test_only_runs_from_imagenet_on_the_whole_pool_join_the_published_columns():
    cell = next(p for p in load_reference("synbols_active_learning", "v1") if p.column == "No Noise @10%")
    facts = {"num_classes": 26, "num_pool": 70_000, "num_test": 10_000, "trunk": IMAGENET, "num_labels": 7000}
    facts |= {"data_set": "default", "image_side": 32, "faults": "none"}
    assert differences(cell.facts, facts) == []
    other = differences(cell.facts, facts | {"num_pool": 7_000, "trunk": "Russian letters"})
    assert other == ["7,000 instead of 70,000 images in the pool", "trunk Russian letters instead of ImageNet"]


@pytest.mark.parametrize("preset", ["paper", "small"])
def test_the_data_of_every_point_of_the_sweep_are_those_of_its_column(preset):
    """What a column of the table is measured on stands in its facts: its data set, and the faults put into it."""
    published = {p.column: p.facts for p in load_reference("synbols_active_learning", "v1")}
    for point in config_file.sweep_points(f"configs/synbols_active_learning.py:{preset}"):
        config = config_of(point, preset)
        known = published[f"{config.task.column} @10%"]
        assert facts_of_source(config.data.source)["data_set"] == known["data_set"]
        assert config.faults.text == known["faults"]


def test_data_of_another_column_does_not_join_the_one_that_the_config_names():
    published = load_reference("synbols_active_learning", "v1")
    facts = next(p.facts for p in published if p.column == "Label Noise @10%")
    permuted = FaultConfig(label_share=0.15, permuted=True)
    assert differences(facts, {**facts, "faults": permuted.text}) == [
        "faults labels of 15 % of the images permuted instead of labels of 10 % of the images drawn anew"
    ]
    facts = next(p.facts for p in published if p.column == "No Noise @10%")
    other = {**facts, "data_set": "camouflage", "image_side": 16, "num_labels": 6000}
    assert len(differences(facts, other)) == 3


# What users get wrong


def refused(message, **changes):
    with pytest.raises(UserError, match=message):
        active.build(tiny(**changes))


def test_what_does_not_fit_the_pool_is_a_users_error():
    wrong = ActiveConfig(("BALD",), initial=71, queries=4, epochs=2)
    refused("initial is 71, but the pool of .* has 70 images", active=wrong)
    refused("'1000 steps', .* more labels than the pool of 70", train=TrainConfig(duration="1000 steps", batch_size=4))
    refused(r"in the middle of round 2; 2 rounds are '14 steps'", train=TrainConfig(duration="9 steps", batch_size=4))


def test_images_that_the_poolings_leave_nothing_of_are_a_users_error():
    deep = TrunkConfig(weights="", blocks=((2,), (2,), (2,), (2,)), hidden_size=8, pooled=2)
    refused(r"images are 8×8 pixels, but 4 blocks .* need 16×16", trunk=deep)


def test_parts_of_a_source_that_is_divided_by_shares_are_refused():
    refused("train is 'train\\[:50%\\]'.*shares of the whole", data=DataConfig(source=SOURCE, train="train[:50%]"))


def test_unknown_methods_and_schedules_are_a_users_error():
    with pytest.raises(UserError, match="'BAALD'; did you mean 'BALD'"):
        ActiveConfig(methods=("BAALD",))
    with pytest.raises(UserError, match="rounds need 'constant'"):
        tiny(optim=OptimConfig(schedule="cosine"))
    assert set(METHODS) == {"BALD", "P-Entropy", "Random", "BALD Calibrated", "Entropy Calibrated"}


def test_weights_that_are_missing_or_damaged_are_a_users_error(tmp_path):
    def trunk(weights):
        return TrunkConfig(weights=str(weights), blocks=((2,), (4,)), hidden_size=8, pooled=2)

    refused("trunk.npz does not exist; train the trunk: python launch.py", trunk=trunk(tmp_path))
    damaged = tmp_path / "vgg16.safetensors"
    damaged.write_bytes(b"damaged")
    refused("not a sound safetensors file .*--config.trunk.weights=vgg16.safetensors", trunk=trunk(damaged))
    refused("does not exist; put the weights of VGG-16", trunk=trunk(tmp_path / "other.safetensors"))
