"""The MNIST-scale protocol: schedule, realisations, the best epoch, resuming; on networks of a few channels."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest
from contexts import at, at_end

from jaxrepro import config_file, loop
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LogConfig,
    OptimConfig,
    Precision,
    TrainConfig,
    parse,
)
from jaxrepro.data import mnist_scale
from jaxrepro.errors import UserError
from jaxrepro.evaluators import equivariance, scale_error
from jaxrepro.experiments import sesn
from jaxrepro.models.scale.methods import COLUMNS, MODELS, make_model
from jaxrepro.report.papers.sesn import partner
from jaxrepro.training.precision import apply_in
from jaxrepro.training.selection import LARGEST

KEY = jax.random.key(0)


def config_of(preset="paper"):
    return parse(sesn.Config, config_file.load(f"configs/sesn_mnist_scale.py:{preset}"))


def tiny(**changes):
    defaults = {
        "experiment": "sesn",
        "name": "sesn_mnist_scale",
        "train": TrainConfig(duration="4 epochs", batch_size=16),
        "optim": OptimConfig(lr=0.01, schedule="drops", drops=("50%", "75%")),
        "data": DataConfig(source="mnist5k"),
        "realisation": sesn.RealisationConfig(num_train=120, num_valid=40, num_test=50),
        "model": sesn.MethodsConfig(method="CNN", channels=(3, 3, 3), hidden=4, dropout=0.2),
        "augment": sesn.AugmentConfig(zoom=(0.5, 2.0)),
        "eval": EvalConfig(every="1 epochs", batch_size=32),
        "log": LogConfig(every="1 epochs"),
        "checkpoint": CheckpointConfig(every="1 epochs"),
    }
    return sesn.Config(**defaults | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of CNN: its folder, results, experiment and data."""
    workdir = tmp_path_factory.mktemp("sesn")
    config = tiny()
    experiment = sesn.build(config)
    return workdir, loop.train(config, experiment, workdir), experiment


@pytest.fixture(scope="module")
def first(finished):
    """The state that the run began with."""
    return jax.jit(finished[2].init, compiler_options=QUICK_COMPILE)(at(), ())["cnn"]


@pytest.fixture(scope="module")
def validate(finished):
    """The validation of the run: (state, arrays, context) -> (state, metrics)."""
    return jax.jit(finished[2].transitions[0].fn, compiler_options=QUICK_COMPILE)


def test_the_learning_rate_drops_tenfold_after_epochs_20_and_40():
    config = config_of()
    steps_per_epoch = 79  # of 10,000 images in batches of 128, the last of 16
    total = 60 * steps_per_epoch
    task = sesn.make_rivals(config, total, steps_per_epoch).tasks["SESN Scalar"]
    rates = jax.jit(jax.vmap(task.optimizer.rate))(jnp.arange(total))
    np.testing.assert_allclose(rates, 0.01 * np.repeat([1.0, 0.1, 0.01], 20 * steps_per_epoch), rtol=1e-5)


def test_the_paper_trains_79_steps_an_epoch_and_4740_in_all():
    arrays = {"image": np.zeros((1, 10_000, 28, 28, 1), np.uint8), "label": np.zeros((1, 10_000), np.int32)}
    source = mnist_scale.make_source(arrays, seeds=(0,), batch_size=config_of().train.batch_size)
    assert source.steps_per_epoch == 79
    last = source.block(0, 78, 1)[0]
    assert len(set(last)) == 16
    assert set(source.block(0, 0, 79).ravel()) == set(range(10_000))


def test_every_seed_sees_its_own_realisation_only():
    arrays = {"image": np.zeros((2, 20, 28, 28, 1), np.uint8), "label": np.arange(40).reshape(2, 20)}
    source = mnist_scale.make_source(arrays, seeds=(5, 3), batch_size=8)
    assert source.arrays["label"].shape == (40,)
    assert set(source.block(5, 0, 3).ravel()) == set(range(20))
    assert set(source.block(3, 0, 3).ravel()) == set(range(20, 40))


def cells_of_sweep(preset):
    cells = set()
    for point in config_file.sweep_points(f"configs/sesn_mnist_scale.py:{preset}"):
        config = config_file.load(f"configs/sesn_mnist_scale.py:{preset}")
        for path, value in point.items():
            config_file.set_value(config, path, value)
        typed = parse(sesn.Config, config)
        cells.add((typed.model.method, sesn.cell_column(typed, typed.model.method)))
    return cells


def test_the_sweep_has_every_cell_of_table_2_and_what_the_reproduction_pools_with_it():
    cells = {(method, column) for method in MODELS for column in COLUMNS}
    assert len(config_file.sweep_points("configs/sesn_mnist_scale.py")) == 40
    assert cells_of_sweep("paper") == cells
    assert cells_of_sweep("report") == cells | {(row, partner(row, column)) for row, column in cells}


def test_a_setting_of_sesn_outside_the_table_is_no_cell_of_it():
    config = dataclasses.replace(config_of(), augment=sesn.AugmentConfig((0.5, 2.0)))
    assert sesn.cell_column(config, "CNN") == "28x28+"
    assert sesn.cell_column(config, "SESN Scalar") == "28x28 settings, with zoom"


def test_sesn_and_cnn_train_beside_each_other_on_the_same_batches():
    model = sesn.MethodsConfig(method="SESN Scalar", beside=("CNN",), channels=(2, 2, 2), hidden=4)
    experiment = sesn.build(tiny(model=model, train=TrainConfig(duration="6 steps", batch_size=8)))
    before = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    update, state = jax.jit(experiment.update, compiler_options=QUICK_COMPILE), before
    for step in range(2):
        rows = jnp.asarray(experiment.source.block(0, step, 1)[0])
        batch = experiment.draw(state, experiment.source.arrays, rows, at(step))
        state, metrics = update(state, batch, at(step).fold(step))
    assert set(metrics) == {"loss", "error", "learning_rate", "cnn/loss", "cnn/error"}
    assert float(metrics["learning_rate"]) == pytest.approx(0.01)
    assert 1.0 < float(metrics["loss"].value) < 10.0
    for name in ("sesn_scalar", "cnn"):
        old, new = before[name].variables, state[name].variables
        jax.tree.map(
            lambda a, b: np.testing.assert_raises(AssertionError, np.testing.assert_array_equal, a, b), old, new
        )
    assert state["sesn_scalar"].best.value == LARGEST


def test_every_seed_is_validated_on_its_own_realisation():
    experiment = sesn.build(tiny(seeds=(0, 1), train=TrainConfig(duration="6 steps", batch_size=8)))
    (validation,) = experiment.transitions
    state = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    validate = jax.jit(validation.fn, compiler_options=QUICK_COMPILE)
    for place in (0, 1):
        images, labels = (validation.arrays[k][place] for k in ("image", "label"))
        after, metrics = validate(state, validation.arrays, at(15, seed_index=place))
        expected = 100 * (1 - slow_accuracy(state["cnn"].variables, images, labels))
        np.testing.assert_allclose([metrics["error"], after["cnn"].best.value], expected, atol=1e-4)


def test_the_best_epoch_is_kept_only_when_it_is_strictly_better(finished, first, validate):
    (validation,) = finished[2].transitions
    other = first.replace(variables=jax.tree.map(lambda a: a + 1, first.variables))
    error = float(validate({"cnn": other}, validation.arrays, at(8))[1]["error"])
    for before, kept, after in ((error - 1, first, error - 1), (error, first, error), (error + 1, other, error)):
        state = {"cnn": other.replace(best=first.best.replace(value=jnp.float32(before)))}
        new, _ = validate(state, validation.arrays, at(8))
        jax.tree.map(np.testing.assert_array_equal, new["cnn"].best.kept, kept.variables)
        np.testing.assert_allclose(new["cnn"].best.value, after, rtol=1e-6)


def test_a_run_tests_the_parameters_of_its_best_epoch_once(finished):
    workdir, results, experiment = finished
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    valid = [line["error"] for line in lines if line["split"] == "valid"]
    assert len(valid) == 4
    assert [line["split"] for line in lines].count("test") == 1
    kept = launching.final_params(workdir)["state/cnn/best/value"][0]
    np.testing.assert_allclose(kept, min(valid), atol=1e-4)
    chosen = nest(checkpoint_of(workdir, "best/kept"))
    test = experiment.evaluators[0].arrays
    expected = 100 * (1 - slow_accuracy(chosen, test["image"][0], test["label"][0]))
    found = next(r for r in results.records if r["metric"] == "error")
    assert (found["table"], found["row"], found["column"]) == ("table2", "CNN", "28x28+")
    np.testing.assert_allclose(found["value"], expected, atol=1e-4)


def test_the_test_takes_the_last_epoch_into_account(finished, first, validate):
    """At the last step the validation comes before the test."""
    workdir, _, experiment = finished
    (validation,), (test,) = experiment.transitions, experiment.evaluators
    assert validation.before_evaluation
    assert validation.when.next(48, 50) == 50
    trained = nest(checkpoint_of(workdir, "variables"))

    def error(value):
        mixed = first.replace(variables=trained, best=first.best.replace(value=jnp.float32(value)))
        after, _ = validate({"cnn": mixed}, validation.arrays, at(32))
        return test.fn(after, test.arrays, at_end(32)).metrics["error"]

    images, labels = (test.arrays[k][0] for k in ("image", "label"))
    expected = [100 * (1 - slow_accuracy(v, images, labels)) for v in (trained, first.variables)]
    assert expected[0] != expected[1]
    np.testing.assert_allclose([error(LARGEST), error(-1)], expected, atol=1e-4)


def test_every_line_of_training_tells_the_rate_of_its_epoch(finished):
    workdir, _, _ = finished
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    rates = [line["learning_rate"] for line in lines if line["split"] == "train"]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-4], rtol=1e-5)


def checkpoint_of(workdir, which):
    """Returns {path: array} of one set of variables in the last checkpoint."""
    prefix = f"state/cnn/{which}/"
    state = launching.final_params(workdir)
    return {k.removeprefix(prefix): v[0] for k, v in state.items() if k.startswith(prefix)}


def nest(flat):
    """Returns {"a/b": x} as {"a": {"b": x}}."""
    nested = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        node = nested
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = jnp.asarray(value)
    return nested


@functools.cache
def predictor():
    """Returns CNN's logits as a function of (variables, images)."""
    network = sesn.networks(tiny())["cnn"]
    return jax.jit(lambda variables, images: network.apply(variables, images, False), compiler_options=QUICK_COMPILE)


def slow_accuracy(variables, images, labels):
    """Accuracy of CNN's variables, image by image."""
    right = [
        int(predictor()(variables, (image[None] / 255 - 0.0607) / 0.2161).argmax()) == label
        for image, label in zip(images.astype(np.float32), labels, strict=True)
    ]
    return np.mean(right)


def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    whole, results, experiment = finished
    asked = iter([False] * 2 + [True] + [False] * 100)
    monkeypatch.setattr(loop.Interrupt, "agreed", lambda self: next(asked))
    assert loop.train(tiny(), experiment, tmp_path) is None
    resumed = loop.train(tiny(), experiment, tmp_path)
    assert resumed.records == results.records
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    expected, found = launching.final_params(whole), launching.final_params(tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_run_leaves_records_of_the_equivariance_error_and_the_picture(finished):
    workdir, results, _ = finished
    curve = [r for r in results.records if r["table"] == "equivariance error"]
    assert {r["metric"] for r in curve} == {"stage 1", "stage 2"}
    assert all(0 < r["value"] < np.inf for r in curve)
    assert (workdir / "figures" / "feature_maps.png").stat().st_size > 10_000


def test_a_run_leaves_its_test_error_by_the_scale_of_the_digits(finished):
    _, results, experiment = finished
    curve = [r for r in results.records if r["table"] == "error by scale"]
    assert len(curve) == scale_error.BINS
    scales = experiment.evaluators[0].arrays["scale"][0]
    edges = np.linspace(scales.min(), scales.max(), scale_error.BINS + 1)
    counts, _ = np.histogram(scales, edges)
    whole = next(r["value"] for r in results.records if r["metric"] == "error" and r["table"] == "table2")
    np.testing.assert_allclose(np.average([r["value"] for r in curve], weights=counts), whole, rtol=1e-5)
    assert float(curve[0]["column"].removeprefix("scale ")) == pytest.approx((edges[0] + edges[1]) / 2, abs=0.01)


def test_the_control_of_the_equivariance_error_has_the_filters_of_one_scale():
    control, model = (make_model(m, 28, channels=(2, 2, 2)) for m in ("SESN Vector, one scale", "SESN Vector"))
    assert control.basis.scales == model.basis.scales[:1]
    shapes = [jax.eval_shape(lambda n=n: n.init(KEY, jnp.zeros((1, 28, 28, 1)), False)) for n in (control, model)]
    assert jax.tree.map(jnp.shape, shapes[0]) == jax.tree.map(jnp.shape, shapes[1])


def test_only_training_images_are_zoomed():
    config = tiny()
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8))
    np.testing.assert_allclose(sesn.prepare(config, images), (images / 255 - 0.0607) / 0.2161, atol=1e-5)
    zoomed = jax.jit(sesn.prepare, static_argnums=0)(config, images, KEY) * 0.2161 + 0.0607
    assert not np.allclose(zoomed, images / 255, atol=0.1)
    np.testing.assert_allclose(zoomed * 255, np.round(zoomed * 255), atol=1e-2)  # 8-bit pictures
    plain = dataclasses.replace(config, augment=sesn.AugmentConfig())
    np.testing.assert_array_equal(sesn.prepare(plain, images, KEY), sesn.prepare(plain, images))


def test_bfloat16_computes_close_to_float32_with_float32_parameters():
    config = tiny()
    narrow = dataclasses.replace(config, precision=Precision.BFLOAT16)
    variables = jax.jit(sesn.init_variables, static_argnums=0, compiler_options=QUICK_COMPILE)(config, KEY)["cnn"]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = sesn.prepare(config, jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)))
    network = sesn.networks(config)["cnn"]
    run = jax.jit(lambda v, x, c: apply_in(c.precision, network, v, x, train=False), static_argnums=2)
    wide, short = (run(variables, images, c) for c in (config, narrow))
    assert short.dtype == jnp.float32, "logits are float32, so that they do not tie"
    np.testing.assert_allclose(short, wide, atol=0.05 * float(np.abs(wide).max()))
    assert not np.array_equal(short, wide)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (lambda: sesn.MethodsConfig(method="SESN scalar"), "did you mean 'SESN Scalar'"),
        (lambda: sesn.MethodsConfig(resolution=32), r"resolution is 32; it must be one of \(28, 56\)"),
        (lambda: sesn.MethodsConfig(method="CNN", beside=("CNN",)), "twice"),
        (lambda: sesn.AugmentConfig(zoom=(2.0, 0.5)), r"zoom is \(2.0, 0.5\)"),
        (lambda: tiny(eval=EvalConfig(every="10%")), "validates after every epoch: write '1 epochs'"),
        (lambda: sesn.RealisationConfig(min_scale=2.0), "min_scale is 2.0"),
        (lambda: tiny(data=DataConfig(source="mnist5k", train="train[:50%]")), r"see config\.realisation\.num_train"),
    ],
)
def test_impossible_configs_name_the_key(section, message):
    with pytest.raises(UserError, match=message):
        section()


def test_the_equivariance_error_is_zero_for_the_identity_and_large_for_features_at_a_fixed_distance():
    images = jnp.asarray(mnist_scale.read_pool("mnist5k")["image"][::500])
    shifted = equivariance.Measured("shifted", "b", lambda v, x: [jnp.roll(x.astype(jnp.float32), 5, axis=1)])
    same = equivariance.Measured("same", "a", lambda v, x: [100.0 + x.astype(jnp.float32)])
    records, pictures = equivariance.compare([same, shifted], {"a": (), "b": ()}, images)
    found = {(r.row, r.column): r.value for r in records}
    assert all(found["same", f"scale {s:g}"] < 0.02 for s in equivariance.SCALES)
    assert all(found["shifted", f"scale {s:g}"] > 0.3 for s in equivariance.SCALES if s < 0.8)
    assert set(pictures) == {"feature_maps"}
