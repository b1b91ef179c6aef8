"""DCGAN's training step against a second implementation of everything in it, and the promises around it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contexts import at
from dcgan_reference import reference_generator, reference_step, second_convolution

from jaxrepro import config_file, loop
from jaxrepro.checkpoint import Checkpoints
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import CheckpointConfig, DataConfig, LogConfig, OptimConfig, Precision, TrainConfig, parse
from jaxrepro.data import table_from_arrays
from jaxrepro.data.square import Fit, read_squares, square
from jaxrepro.errors import UserError
from jaxrepro.evaluators.dcgan import DCGANEvalConfig, fixed_variables
from jaxrepro.evaluators.features import FeaturesConfig
from jaxrepro.experiments import dcgan
from jaxrepro.losses import gan as losses
from jaxrepro.models.dcgan import DCGANConfig
from jaxrepro.training.adversarial import LossStatistics
from jaxrepro.training.optim import make_optimizer

KEY = jax.random.key(0)
BATCH = 6


def tiny(**changes):
    defaults = {
        "experiment": "dcgan",
        "name": "dcgan",
        "train": TrainConfig(duration="6 steps", batch_size=BATCH),
        "optim": OptimConfig(lr=2e-4, b1=0.5),
        "data": DataConfig(source="mnist5k", train="train[:120]", test="test[:100]"),
        "model": DCGANConfig(image_size=8, image_channels=1, map_size=2, base_width=4, latent=8),
        "log": LogConfig(every="2 steps"),
        "checkpoint": CheckpointConfig(every="2 steps"),
        "eval": DCGANEvalConfig(every="end", batch_size=50, num_samples=100),
    }
    return dcgan.Config(**defaults | changes)


@functools.cache
def program(config):
    """Returns (jitted init, jitted update) of a config."""
    optimizer = make_optimizer(config.optim, 100)
    init = jax.jit(lambda key: dcgan.init_state(config, optimizer, key), compiler_options=QUICK_COMPILE)
    return init, jax.jit(dcgan.make_update(config, optimizer))


def batch(seed=0):
    return {"image": np.random.default_rng(seed).integers(0, 256, (BATCH, 8, 8, 1), np.uint8)}


def params_of(state):
    return {"generator": state.generator.params, "discriminator": state.discriminator.params}


def test_two_steps_equal_a_second_implementation_of_networks_losses_and_optimizers():
    config = tiny()
    init, update = program(config)
    state = init(KEY)
    params = params_of(state)
    opt_states = {name: optax.adam(2e-4, b1=0.5).init(p) for name, p in params.items()}
    reference = jax.jit(functools.partial(reference_step, config.optim.lr))
    for i in range(2):
        key = jax.random.fold_in(KEY, i)
        z = dcgan.draw_latents(config.model, key, BATCH)
        loss_d, loss_g, params, opt_states = reference(params, opt_states, batch(i), z)
        state, metrics = update(state, batch(i), at(i, key))
        np.testing.assert_allclose(metrics["loss_discriminator"], loss_d, rtol=1e-5)
        np.testing.assert_allclose(metrics["loss_generator"], loss_g, rtol=1e-5)
        np.testing.assert_allclose(metrics["learning_rate"], config.optim.lr, rtol=1e-6)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=2e-5), params_of(state), params
        )  # a step is 2e-4, and Adam makes much of the rounding of small gradients


def test_losses_equal_numpy_and_the_clamped_ones_stop_at_100():
    real, fake = np.array([0.3, -1.0, 250.0]), np.array([2.0, -0.5, 300.0])
    expected_d = np.mean(np.log1p(np.exp(-real))) + np.mean(np.logaddexp(0, fake))
    np.testing.assert_allclose(losses.discriminator_loss(real, fake), expected_d, rtol=1e-6)
    np.testing.assert_allclose(losses.generator_loss(-fake), np.mean(np.logaddexp(0, fake)), rtol=1e-6)
    clamped = np.minimum(np.logaddexp(0, fake), 100).mean()
    np.testing.assert_allclose(losses.generator_loss(-fake, losses.LIMIT), clamped, rtol=1e-6)
    np.testing.assert_allclose(losses.discriminator_loss(jnp.zeros(3), jnp.zeros(3)), 2 * np.log(2), rtol=1e-6)


def test_real_and_fake_batches_are_normalised_apart():
    """Other real images change nothing about the fakes' scores, as they would in a common batch norm."""
    init, update = program(tiny())
    state = init(KEY)
    scores = [update(state, batch(seed), at())[1] for seed in (0, 1)]
    assert scores[0]["fake_score"] == scores[1]["fake_score"]
    assert scores[0]["real_score"] != scores[1]["real_score"]


def test_running_statistics_take_the_real_batch_then_the_fakes():
    config = tiny(updates="alternating")
    init, update = program(config)
    state = init(KEY)
    new, _ = update(state, batch(), at(1))  # the discriminator's turn
    p = state.discriminator.params
    z = dcgan.draw_latents(config.model, KEY, BATCH)
    fakes = jax.jit(reference_generator)(state.generator.params, z)
    expected = np.zeros(8)
    for images in (batch()["image"] / 127.5 - 1, fakes):
        x = second_convolution(p, images)
        expected = 0.9 * expected + 0.1 * x.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(new.discriminator.batch_stats["norms_0"]["mean"], expected, rtol=1e-4, atol=1e-7)


def test_alternating_steps_change_one_network_and_leave_the_other_to_the_bit():
    init, update = program(tiny(updates="alternating"))
    states = [init(KEY)]
    for i in range(3):
        states.append(update(states[-1], batch(i), at(i).fold(i))[0])
    for i, changed in enumerate(("generator", "discriminator", "generator")):
        for name in ("generator", "discriminator"):
            before, after = getattr(states[i], name), getattr(states[i + 1], name)
            same = jax.tree.map(np.array_equal, (before.params, before.opt_state), (after.params, after.opt_state))
            assert all(jax.tree.leaves(same)) == (name != changed)
    counts = {name: float(s.count) for name, s in states[-1].losses.items()}
    assert counts == {"generator": 2, "discriminator": 1}


@pytest.mark.slow
def test_every_step_of_both_networks_has_the_logged_rate_and_the_l2_term():
    """Two programs of plain descent that differ in L2 alone: the discriminator's step precedes, so it shows exactly."""
    states, rates = [], []
    for l2 in (0.0, 0.1):
        optim = OptimConfig(name="sgd", lr=0.5, momentum=0.0, l2=l2, schedule="linear_tail")
        init, update = program(tiny(optim=optim, updates="alternating"))
        start = init(KEY)
        for step in (0, 75):  # the generator's turn, then the discriminator's, both from the start
            new, metrics = update(start, batch(), at(step))
            states.append(params_of(new)["generator" if step == 0 else "discriminator"])
            rates.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(rates, [0.5, 0.25, 0.5, 0.25], rtol=1e-6)
    for i, name in enumerate(("generator", "discriminator")):
        difference = jax.tree.map(lambda a, b: a - b, states[i], states[2 + i])
        expected = jax.tree.map(lambda p, r=rates[i]: r * 0.1 * p, params_of(start)[name])
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-6), difference, expected)


def test_the_mnist_preset_lets_the_rate_fall_linearly_over_the_last_half_and_has_l2():
    config = parse(dcgan.Config, config_file.load("configs/dcgan.py:mnist"))
    optimizer = make_optimizer(config.optim, 100)
    rates = [float(optimizer.rate(step)) for step in range(100)]
    np.testing.assert_allclose(rates, 2e-4 * np.minimum(1, (100 - np.arange(100)) / 50), rtol=1e-5)
    assert config.optim.l2 == 2.5e-5


def test_loss_statistics_are_mean_and_minimum():
    statistics, values = LossStatistics.empty(), np.array([3.0, 0.5, 7.0, 2.0])
    for value in values:
        statistics = statistics.add(jnp.float32(value))
    np.testing.assert_allclose([statistics.mean, statistics.lowest], [values.mean(), values.min()], rtol=1e-6)


def test_initial_weights_have_the_articles_deviation_and_scales_lie_about_one():
    params = params_of(program(tiny())[0](KEY))
    leaves = [(path[-1].key, np.ravel(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    kernels, scales, biases = (
        np.concatenate([v for k, v in leaves if k == name]) for name in ("kernel", "scale", "bias")
    )
    assert abs(kernels.std() / 0.02 - 1) < 0.1
    assert abs(kernels.mean()) < 0.003
    assert abs(scales.mean() - 1) < 0.03
    assert scales.std() > 0.005
    assert not biases.any()


def test_images_are_shortened_to_the_size_and_cut_in_the_middle():
    images = np.zeros((1, 218, 178, 3), np.uint8)
    images[:, 105:113] = 200  # a bar across the middle
    small = square(jnp.asarray(images), 64)
    assert small.shape == (1, 64, 64, 3)
    bright = np.flatnonzero(np.asarray(small)[0, :, 0, 0] > 50)
    assert abs(bright.mean() - 31.5) < 1
    cropped = square(jnp.asarray(images), 64, Fit.CROP)
    np.testing.assert_array_equal(cropped, images[:, 77:141, 57:121])
    with pytest.raises(ValueError, match="cannot cut"):
        square(jnp.asarray(images), 200, Fit.CROP)


def test_samples_do_not_depend_on_each_other_and_use_the_statistics_of_a_full_batch():
    config = tiny()
    init, _ = program(config)
    state, sampler = init(KEY), dcgan.make_sampler(config)
    generate = jax.jit(sampler.generate)
    fixed = state.fixed_latents
    everything = generate(state, fixed, jnp.zeros(len(fixed), jnp.int32))
    alone = generate(state, fixed[3:4], jnp.zeros(1, jnp.int32))
    np.testing.assert_array_equal(alone[0], everything[3])
    by_batch = jax.jit(reference_generator)(state.generator.params, fixed)
    np.testing.assert_allclose(np.asarray(everything, float), (by_batch + 1) * 127.5, atol=0.51)


def test_features_are_normalised_by_the_mean_statistics_of_whole_training_batches():
    config = tiny()
    init, _ = program(config)
    state = init(KEY)
    images = np.random.default_rng(0).integers(0, 256, (2 * BATCH + 1, 8, 8, 1), np.uint8)
    critic = dcgan.make_critic(config)
    found = fixed_variables(critic, critic.trained(state), jnp.asarray(images))
    means, variances = [], []
    for part in (images[:BATCH], images[BATCH : 2 * BATCH]):
        x = second_convolution(state.discriminator.params, part / 127.5 - 1)
        means.append(x.mean(axis=(0, 1, 2)))
        variances.append(x.var(axis=(0, 1, 2)))
    statistics = found["batch_stats"]["norms_0"]
    np.testing.assert_allclose(statistics["mean"], np.mean(means, 0), atol=1e-7)
    np.testing.assert_allclose(statistics["var"], np.mean(variances, 0), rtol=1e-4)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    """Nothing that training needs lies outside the state that a checkpoint holds."""
    config = tiny()
    init, update = program(config)

    def train(state, steps):
        for i in steps:
            state, _ = update(state, batch(i), at(i).fold(i))
        return state

    whole, half = train(init(KEY), range(6)), train(init(KEY), range(4))
    with Checkpoints(tmp_path, config.checkpoint) as checkpoints:
        checkpoints.save(4, half)
        checkpoints.wait()
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), half)
        step, restored = checkpoints.restore_latest(abstract)
    jax.tree.map(np.testing.assert_array_equal, train(restored, range(step, 6)), whole)


def ablation(point, **changes):
    config = config_file.load("configs/dcgan_ablations.py:smoke")
    for path, value in {**point, **changes}.items():
        config_file.set_value(config, path, value)
    return parse(dcgan.Config, config)


POINTS = config_file.sweep_points("configs/dcgan_ablations.py:report")
SMALL = {"model.base_width": 1, "train.batch_size": 4}


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("point", POINTS, ids=lambda p: p["row"])
def test_every_modification_is_one_named_change_that_builds(point):
    config, baseline = ablation(point, **SMALL), ablation({}, **SMALL)
    assert config == dataclasses.replace(ablation(point, **SMALL), row=point["row"])
    assert len(point) == (1 if point["row"] == "Baseline" else 2)
    assert (config != dataclasses.replace(baseline, row=config.row)) == (point["row"] != "Baseline")
    optimizer = make_optimizer(config.optim, 2)
    state = jax.eval_shape(lambda: dcgan.init_state(config, optimizer, KEY))
    images = jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.uint8)
    new, _ = jax.eval_shape(dcgan.make_update(config, optimizer), state, {"image": images}, at())
    assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(lambda a: (a.shape, a.dtype), state)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS, ids=lambda p: p["row"])
def test_every_modification_trains_two_steps_and_fills_its_row(point, tmp_path):
    config = ablation(point, **SMALL, **{"train.duration": "2 steps"})
    experiment = dcgan.build(config)
    table = [e for e in experiment.evaluators if e.name == "losses_table"]
    results = loop.train(config, dataclasses.replace(experiment, evaluators=table), tmp_path)
    assert {(r["row"], r["column"], r["metric"]) for r in results.records} == {
        (point["row"], column, f"loss_{kind}")
        for column in ("generator", "discriminator")
        for kind in ("mean", "lowest")
    }
    assert all(np.isfinite(r["value"]) for r in results.records)


def test_the_rows_are_those_of_the_reports_table():
    from jaxrepro.report.reference import load_reference

    published = {r.row for r in load_reference("dcgan") if r.metric == "loss_mean"}
    assert {p["row"] for p in POINTS} == published | {"Baseline"}


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize(
    "preset", ["paper", "report", "imagenet", "svhn", "mnist", "lsun_bedroom", "lsun_church", "smoke"]
)
def test_every_preset_is_a_possible_config(preset):
    config = parse(dcgan.Config, config_file.load(f"configs/dcgan.py:{preset}"))
    jax.eval_shape(lambda: dcgan.init_params(config, KEY))


def test_features_of_a_conditional_model_are_refused():
    with pytest.raises(UserError, match="unconditional"):
        tiny(
            model=DCGANConfig(num_labels=10),
            eval=DCGANEvalConfig(features=FeaturesConfig(source="same")),
        )


def test_a_source_with_other_channels_or_without_the_judged_column_is_refused():
    with pytest.raises(UserError, match="image_channels is 3"):
        dcgan.build(tiny(model=DCGANConfig(image_size=8, base_width=1)))
    with pytest.raises(UserError, match="did you mean 'label'"):
        dcgan.build(tiny(eval=DCGANEvalConfig(judge="labels")))


def test_bfloat16_keeps_parameters_and_losses_in_float32():
    config = tiny(precision=Precision.BFLOAT16)
    optimizer = make_optimizer(config.optim, 10)
    state = jax.eval_shape(lambda: dcgan.init_state(config, optimizer, KEY))
    new, metrics = jax.eval_shape(dcgan.make_update(config, optimizer), state, batch(), at())
    floats = [a for a in jax.tree.leaves((new, metrics)) if jnp.issubdtype(a.dtype, jnp.floating)]
    assert {a.dtype for a in floats} == {jnp.dtype("float32")}


def test_a_run_that_diverges_stops_and_the_report_says_so(tmp_path, capsys):
    from jaxrepro.checkpoint import NonFiniteError
    from jaxrepro.report.__main__ import main
    from jaxrepro.run import run

    config = config_file.load("configs/dcgan_ablations.py:smoke")
    changes = {"optim.lr": 1e38, "row": "Beta = 0.9", "train.duration": "4 steps", "train.batch_size": 4}
    changes |= {"model.image_size": 4, "model.map_size": 2, "model.base_width": 1, "log.every": "2 steps"}
    for path, value in changes.items():
        config_file.set_value(config, path, value)
    with pytest.raises(NonFiniteError, match="between steps"):
        run(config, tmp_path / "run")
    assert main([str(tmp_path / "run")]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| Beta = 0.9"))
    assert row.count("diverged") == 2, "the discriminator and the generator"


def test_evaluators_see_random_rows_since_sources_may_be_sorted_by_class():
    table = table_from_arrays("sorted", {"image": np.zeros((100, 8, 8, 1), np.uint8), "label": np.arange(100) // 10})
    rows = read_squares(table, 8, columns=["label"], limit=30)
    assert len(rows["label"]) == 30
    assert len(set(rows["label"])) > 5
    assert sorted(read_squares(table, 8, columns=["label"])["label"]) == sorted(np.arange(100) // 10)
    with pytest.raises(UserError, match="holds no classes"):
        read_squares(table_from_arrays("x", {"image": np.zeros((2, 8, 8, 1)), "size": np.ones(2)}), 8, columns=["size"])
