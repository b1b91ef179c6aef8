"""The STL-10 protocol: schedule, sweep, both reported errors, portions, side by side; on networks of a few channels."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contexts import at

from jaxrepro import config_file, loop
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LogConfig,
    OptimConfig,
    TrainConfig,
    parse,
)
from jaxrepro.data.pictures import AugmentConfig, PicturesConfig
from jaxrepro.errors import UserError
from jaxrepro.evaluators import equivariance, scale_error
from jaxrepro.experiments import sesn_stl10
from jaxrepro.models.scale.residual_methods import METHODS, ResidualConfig
from jaxrepro.report.comparison import compare
from jaxrepro.report.reference import load_reference

KEY = jax.random.key(0)
CONFIG = "configs/sesn_stl10.py"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """An archive of squares and stripes in two sizes: train 24, test 12, 8×8."""
    rng, arrays = np.random.default_rng(0), {}
    for split, num in (("train", 24), ("test", 12)):
        images = rng.integers(0, 40, (num, 8, 8, 3), np.uint8)
        labels = np.arange(num) % 2
        images[labels == 1, ::2] += 200
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    path = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    np.savez(path, **arrays)
    return f"npz:{path}"


def tiny(source, **changes):
    defaults = {
        "experiment": "sesn_stl10",
        "name": "sesn_stl10",
        "train": TrainConfig(duration="4 epochs", batch_size=8),
        "optim": OptimConfig(name="sgd", lr=0.05, momentum=0.9, nesterov=True, l2=5e-4),
        "data": DataConfig(source=source),
        "task": PicturesConfig(image_size=8, num_classes=2),
        "augment": AugmentConfig(padding=1, cutout=2),
        "model": ResidualConfig(method="WRN", width=1, dropout=0.1),
        "eval": EvalConfig(every="2 epochs", batch_size=12),
        "log": LogConfig(every="1 epochs"),
        "checkpoint": CheckpointConfig(every="2 epochs"),
    }
    return sesn_stl10.Config(**defaults | changes)


def config_of(preset="paper"):
    return parse(sesn_stl10.Config, config_file.load(f"{CONFIG}:{preset}"))


def test_the_rate_falls_to_a_fifth_after_epochs_300_400_600_and_800():
    config, epoch = config_of(), 40  # 5,000 images in batches of 128, the last of 8
    assert -(-5_000 // config.train.batch_size) == epoch
    rivals = sesn_stl10.make_rivals(config, 10, 5_000, 1_000 * epoch, epoch)
    rates = jax.vmap(rivals.tasks["SESN-B"].optimizer.rate)(jnp.arange(1_000) * epoch)
    expected = 0.1 * 0.2 ** np.repeat([0, 1, 2, 3, 4], [300, 100, 200, 200, 200])
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_weights_decay_in_the_gradient_of_every_parameter():
    optim = config_of().optim
    assert (optim.l2, optim.weight_decay, optim.no_decay, optim.nesterov) == (5e-4, 0.0, (), True)


def test_the_sweep_is_the_nine_methods_times_three_seeds():
    points = config_file.sweep_points(CONFIG)
    assert len(points) == 27
    assert {p["model.method"] for p in points} == set(METHODS)
    assert {p["model.method"] for p in config_file.sweep_points(f"{CONFIG}:small")} == {"WRN", "SESN-B", "SESN-C"}
    assert len(config_file.sweep_points(f"{CONFIG}:smoke")) == 9


def test_the_table_has_the_methods_in_its_order():
    rows = dict.fromkeys(r.row for r in load_reference("sesn_stl10"))
    assert list(rows) == list(METHODS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures):
    workdir = tmp_path_factory.mktemp("stl10")
    config = tiny(pictures)
    experiment = sesn_stl10.build(config)
    return workdir, loop.train(config, experiment, workdir), experiment


@pytest.mark.slow
def test_the_last_epoch_is_reported_and_the_best_one_only_logged(finished):
    workdir, results, _ = finished
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    tests = [line for line in lines if line["split"] == "test"]
    assert [line["step"] for line in tests if "best_error" in line] == [6, 12]
    errors = [line["error"] for line in tests if "best_error" in line]
    assert [line["best_error"] for line in tests if "best_error" in line] == list(np.minimum.accumulate(errors))
    (cell,) = [r for r in results.records if r["table"] == "table3" and r["metric"] == "error"]
    assert cell["value"] == pytest.approx(errors[-1], abs=1e-4)
    assert cell["facts"]["num_train"] == 24


@pytest.mark.slow
def test_a_run_on_other_pictures_stands_apart_from_the_published_numbers(finished):
    _, results, _ = finished
    table = next(t for t in compare(results.records, load_reference("sesn_stl10")) if t.metric == "error")
    (column,) = [c for c in table.others if c.startswith("STL-10: ")]
    assert "2 instead of 10 classes, 24 instead of 5,000 training images" in column
    assert "width 1 instead of 8" in column
    assert table.number("WRN", "STL-10", "ours") is None
    assert table.number("WRN", "STL-10", "paper").value == 11.48
    assert table.number("WRN", "STL-10", "reproduction").value == 11.98


@pytest.mark.slow
def test_a_run_leaves_the_error_by_scale(finished):
    _, results, _ = finished
    curve = {r["column"]: r["value"] for r in results.records if r["table"] == scale_error.TABLE}
    assert len(curve) == len(scale_error.ZOOMS)
    (cell,) = [r for r in results.records if r["table"] == "table3" and r["metric"] == "error"]
    assert curve["scale 1.00"] == pytest.approx(cell["value"], abs=1e-4)


@pytest.mark.slow
def test_the_networks_train_on_the_same_batches_and_portions_give_about_the_same_step(pictures):
    both = tiny(
        pictures, model=ResidualConfig(method="WRN", beside=("Harm WRN",), width=1, stem_strides=1, dropout=0.0)
    )
    metrics = {}
    for portions in (1, 2):
        experiment = sesn_stl10.build(dataclasses.replace(both, memory=sesn_stl10.MemoryConfig(portions)))
        state = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
        rows = jnp.asarray(experiment.source.block(0, 0, 1)[0])
        batch = experiment.draw(state, experiment.source.arrays, rows, at())
        _, metrics[portions] = jax.jit(experiment.update, compiler_options=QUICK_COMPILE)(state, batch, at())
    assert set(metrics[1]) == {"loss", "error", "learning_rate", "harm_wrn/loss", "harm_wrn/error"}
    one, two = (float(m["loss"].value) for m in metrics.values())
    assert one == pytest.approx(two, rel=0.5)
    assert one != two, "statistics are those of the portions"


def test_the_equivariance_error_takes_colour_images_and_draws_them():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))
    same = equivariance.Measured("same", "a", lambda v, x: [x.astype(jnp.float32)])
    records, drawn = equivariance.compare([same], {"a": ()}, images)
    assert {r.metric for r in records} == {"stage 1"}
    assert drawn["feature_maps"].axes[0].images[0].get_array().shape == (16, 16, 3)


def test_an_empty_image_has_no_equivariance_error_and_the_others_keep_theirs():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))
    same = equivariance.Measured("same", "a", lambda v, x: [x.astype(jnp.float32)])
    with_empty = jnp.concatenate([images, jnp.zeros_like(images[:1])])
    plain, filled = ([r.value for r in equivariance.compare([same], {"a": ()}, x)[0]] for x in (images, with_empty))
    np.testing.assert_allclose(filled, plain, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny("x", task=PicturesConfig(image_size=30)), "image_size is 30; WRN halves images until they are 4"),
        (
            lambda: tiny("x", memory=sesn_stl10.MemoryConfig(3)),
            "micro_batches is 3; it must divide train.batch_size, 8",
        ),
        (lambda: sesn_stl10.MemoryConfig(0), "micro_batches is 0"),
        (
            lambda: tiny("x", model=ResidualConfig(method="Harm WRN"), task=PicturesConfig(image_size=12)),
            "multiple of 8",
        ),
    ],
)
def test_impossible_configs_name_the_key(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_network_takes_a_finite_step(pictures, method):
    experiment = sesn_stl10.build(tiny(pictures, model=ResidualConfig(method=method, width=1)))
    state = jax.jit(experiment.init, compiler_options=QUICK_COMPILE)(at(), ())
    batch = experiment.draw(state, experiment.source.arrays, jnp.arange(8), at())
    new, metrics = jax.jit(experiment.update, compiler_options=QUICK_COMPILE)(state, batch, at())
    assert math.isfinite(float(metrics["loss"].value))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new["rivals"]))
    params = [next(iter(s["rivals"].values())).variables["params"] for s in (state, new)]
    jax.tree.map(lambda a, b: np.testing.assert_raises(AssertionError, np.testing.assert_array_equal, a, b), *params)
