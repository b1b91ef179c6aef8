"""Training of Synbols' tables 1 and 2: one step, whole runs, resuming, and what users get wrong; on tiny networks."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import launching
import numpy as np
import optax
import pytest
from contexts import at, at_end
from slow_maps import quickly
from tiny_supervised import plateau, tiny

from jaxrepro import loop
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import DataConfig, OptimConfig, PlateauConfig, Precision, TrainConfig
from jaxrepro.data.classes import class_names
from jaxrepro.data.pil_augment import PlusConfig
from jaxrepro.errors import UserError
from jaxrepro.experiments import synbols_supervised as supervised
from jaxrepro.experiments.synbols_supervised import TaskConfig, Weights
from jaxrepro.models.classifiers import ClassifierConfig

KEY = jax.random.key(0)

prepare = jax.jit(supervised.prepare, static_argnums=0, compiler_options=QUICK_COMPILE)


# Images


def test_pixels_go_to_minus_one_and_one_and_other_sizes_are_resized():
    images = jnp.array([[[[0]], [[255]]], [[[255]], [[0]]]], jnp.uint8).reshape(1, 2, 2, 1)
    images = jnp.repeat(jnp.repeat(images, 4, axis=1), 4, axis=2)
    config = tiny()
    np.testing.assert_allclose(prepare(config, images)[0, :, :, 0][[0, 0], [0, 7]], [-1, 1])
    digit = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1)), jnp.uint8)
    larger = prepare(dataclasses.replace(config, task=TaskConfig(image_size=32)), digit)
    from PIL import Image

    pillow = Image.fromarray(np.asarray(digit[0, :, :, 0])).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_allclose((larger[0, :, :, 0] + 1) * 127.5, np.asarray(pillow), atol=1.01)


def test_augmentation_is_in_training_only_and_with_plus_only():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)), jnp.uint8)
    plain = prepare(tiny(), images)
    plus = tiny(augment=PlusConfig(plus=True))
    np.testing.assert_array_equal(prepare(tiny(), images, KEY), plain)
    np.testing.assert_array_equal(prepare(plus, images), plain)
    assert (jnp.abs(prepare(plus, images, KEY) - plain).max((1, 2, 3)) > 0.1).all()


def test_grey_images_are_warped_but_keep_their_colours():
    plus = tiny(augment=PlusConfig(plus=True, max_rotation=0.0, max_shear=0.0, max_translation=0.0, scale=(1.0, 1.0)))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)), jnp.uint8)
    np.testing.assert_allclose(prepare(plus, images, KEY), prepare(plus, images), atol=1e-5)


# One step


@pytest.fixture(scope="module")
def built():
    """A tiny experiment with an L2 term that shows, its first state, and a batch."""
    experiment = supervised.build(tiny(optim=plateau(l2=1.0)))
    state = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    rows = jnp.asarray(experiment.source.block(0, 0, 1)[0])
    return experiment, state, experiment.draw(state, experiment.source.arrays, rows, at())


@pytest.fixture(scope="module")
def update(built):
    return jax.jit(built[0].update)


def with_reductions(state, number):
    return state.replace(plateau=state.plateau.replace(num_reductions=jnp.int32(number)))


def distance(a, b):
    return float(optax.tree_utils.tree_norm(jax.tree.map(lambda x, y: x - y, a, b)))


def test_a_step_is_that_of_adam_with_l2_in_the_gradient_of_every_parameter(built, update):
    _, state, batch = built
    config, params = tiny(), state.variables["params"]
    network = supervised.make_network(config, 26)
    images = supervised.prepare(config, batch["image"])

    def loss(p):
        logits, _ = network.apply({**state.variables, "params": p}, images, True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    total = jax.tree.map(lambda g, p: g + 1.0 * p, jax.jit(jax.grad(loss))(params), params)
    expected = jax.tree.map(lambda p, g: p - 4e-4 * g / (jnp.abs(g) + 1e-8), params, total)  # Adam's first step
    new, _ = update(state, batch, at())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=4e-6), new.variables["params"], expected)


def test_the_rate_is_a_tenth_after_a_reduction(built, update):
    _, state, batch = built
    steps, rates = [], []
    for reductions in range(4):
        new, metrics = update(with_reductions(state, reductions), batch, at())
        steps.append(distance(new.variables["params"], state.variables["params"]))
        rates.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(rates, [4e-4, 4e-5, 4e-6, 4e-7], rtol=1e-5)
    np.testing.assert_allclose(np.array(steps[:3]) / steps[0], [1, 0.1, 0.01], rtol=0.02)


def test_a_seed_that_has_stopped_waits_for_the_others_unchanged(built, update):
    _, state, batch = built
    stopped = with_reductions(state, 4)
    new, metrics = update(stopped, batch, at())
    jax.tree.map(np.testing.assert_array_equal, new, stopped)
    assert np.isfinite(float(metrics["loss"].value))


def test_the_transition_judges_the_loss_of_the_validation_set(built):
    experiment, state, _ = built
    transition = experiment.transitions[0]
    assert transition.when.every == experiment.source.steps_per_epoch == 3
    assert transition.before_evaluation
    assert transition.when.end
    new, metrics = jax.jit(transition.fn)(state, transition.arrays, at(3))
    config = tiny()
    network = supervised.make_network(config, 26)
    images = supervised.prepare(config, transition.arrays["image"])
    logits = quickly(lambda v: network.apply(v, images, False), state.variables)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, transition.arrays["label"])
    np.testing.assert_allclose([new.plateau.best, metrics["loss"]], losses.mean(), rtol=1e-5)
    right = logits.argmax(-1) == transition.arrays["label"]
    np.testing.assert_allclose(metrics["accuracy"], 100 * right.mean(), rtol=1e-5)


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("name", ["MLP", "WRN-28-4"])
def test_other_models_take_a_step_in_bfloat16_with_parameters_in_float32(name):
    model = ClassifierConfig(name)
    experiment = supervised.build(
        tiny(model=model, precision=Precision.BFLOAT16, augment=PlusConfig(plus=name != "MLP"))
    )
    shapes = jax.eval_shape(experiment.init, at(), ())
    x = jax.ShapeDtypeStruct((16,), jnp.int32)
    batch = jax.eval_shape(lambda x: {k: a[x] for k, a in map_arrays(experiment).items()}, x)
    new, metrics = jax.eval_shape(experiment.update, shapes, batch, at())
    assert jax.tree.map(lambda a: a.dtype, new) == jax.tree.map(lambda a: a.dtype, shapes)
    assert {a.dtype for a in jax.tree.leaves(new.variables)} == {jnp.dtype(jnp.float32)}
    assert {a.dtype for a in jax.tree.leaves(metrics)} == {jnp.dtype(jnp.float32)}


def map_arrays(experiment):
    return jax.tree.map(jnp.asarray, experiment.source.arrays)


# Whole runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose rate is reduced after every epoch without improvement and which stops early."""
    workdir = tmp_path_factory.mktemp("supervised")
    config = tiny(
        train=TrainConfig(duration="40 epochs", batch_size=16),
        optim=plateau(lr=0.01, plateau=PlateauConfig(patience=1)),
    )
    return config, workdir, loop.train(config, supervised.build(config), workdir)


def lines_of(workdir, split):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]


def test_a_run_ends_with_the_epoch_of_the_last_reduction(finished):
    _, workdir, results = finished
    rates = [line["learning_rate"] for line in lines_of(workdir, "train")]
    assert len(rates) == results.step / 3 < 40
    # Of 0.01 no rounding error postpones the end: three rates.
    np.testing.assert_allclose(sorted(set(np.round(np.log10(rates), 2))), [-4, -3, -2], atol=0.01)
    assert "test/accuracy" in results.metrics
    valid = lines_of(workdir, "valid")
    assert [line["step"] for line in valid] == list(range(3, results.step + 1, 3)), "validated once after every epoch"


def test_a_run_reports_its_cell_and_that_it_had_fewer_images(finished):
    _, _, results = finished
    record, size = results.records
    assert (record["table"], record["row"], record["column"]) == (
        "table1", "Conv-4 GAP", "Synbols Default 100k"
    )  # fmt: skip
    assert record["value"] == results.metrics["test/accuracy"][0]
    assert 0 <= record["value"] <= 100
    assert (size["metric"], size["value"]) == ("num_params", 348)


def test_a_run_draws_confusion_and_mistakes(finished):
    _, workdir, _ = finished
    assert {"confusion.png", "mistakes.png"} <= {p.name for p in (workdir / "figures").glob("*.png")}


def test_stopped_and_resumed_in_the_middle_of_the_schedule_a_run_ends_with_the_same_bits(finished, tmp_path):
    config, workdir, results = finished
    cut = dataclasses.replace(config, train=TrainConfig(duration="4 epochs", batch_size=16))
    assert results.step > 4 * 3
    loop.train(cut, supervised.build(cut), tmp_path)
    again = loop.train(config, supervised.build(config), tmp_path)
    assert again.timing["resumed_at_step"] == 12  # its last validation is that of the whole run
    assert again.metrics == results.metrics
    assert again.records == results.records
    assert lines_of(tmp_path, "train") == lines_of(workdir, "train")
    assert lines_of(tmp_path, "valid") == lines_of(workdir, "valid")
    expected, found = launching.final_params(workdir), launching.final_params(tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_the_best_epoch_is_tested_where_it_is_asked_for(tmp_path):
    """With a rate that ruins the network, its first validation is the best one."""
    config = tiny(tested=Weights.BEST, optim=OptimConfig(lr=3.0), train=TrainConfig(duration="4 epochs", batch_size=16))
    experiment = supervised.build(config)
    state = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    transition = experiment.transitions[0]
    first, _ = jax.jit(transition.fn)(state, transition.arrays, at(3))
    jax.tree.map(np.testing.assert_array_equal, first.best.kept, state.variables)
    worse = first.replace(variables=jax.tree.map(lambda a: 30 * a + 5, first.variables))
    after, _ = jax.jit(transition.fn)(worse, transition.arrays, at(6))
    jax.tree.map(np.testing.assert_array_equal, after.best.kept, state.variables)
    (test,) = experiment.evaluators
    arrays = jax.tree.map(jnp.asarray, test.arrays)
    tested = [test.fn(s, arrays, at_end(6)).metrics["loss"] for s in (after, first, after.replace(best=None))]
    assert tested[0] == pytest.approx(tested[1])
    assert tested[0] != pytest.approx(tested[2])


def test_the_partition_out_of_distribution_is_drawn(tmp_path):
    source = "synbols:default-bw?num_samples=60&resolution=8&auxiliary=false&split=stratified_rotation"
    config = tiny(experiment="synbols_ood", name="synbols_ood", data=DataConfig(source=source))
    experiment = supervised.build(config)
    tables = supervised.load(config)
    rotation = {split: table.arrays()["rotation"] for split, table in tables.items()}
    assert rotation["valid"].max() <= rotation["train"].min()
    assert rotation["train"].max() <= rotation["test"].min()
    (test,) = experiment.evaluators
    state = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    found = test.fn(state, jax.tree.map(jnp.asarray, test.arrays), at_end())
    assert set(found.pictures) == {"confusion", "mistakes", "most_confused", "split"}
    assert found.records[0].table == "table2"


# What users get wrong


def test_a_column_that_the_data_lacks_is_a_users_error():
    with pytest.raises(UserError, match=r"config.task.label: 'fonts'; did you mean 'font'"):
        supervised.build(tiny(task=TaskConfig(label="fonts", image_size=8)))


def test_images_without_a_symbol_cannot_be_classified():
    table = {"train": np.array([0, -1, 2])}
    from jaxrepro.data import table_from_arrays

    tables = {k: table_from_arrays(k, {"label": v}) for k, v in table.items()}
    with pytest.raises(UserError, match="images without a class"):
        class_names(tables, "label")


def test_channels_are_for_conv4_only():
    with pytest.raises(UserError, match="Conv-4 only"):
        ClassifierConfig("MLP", channels=(1, 2, 3, 4))
