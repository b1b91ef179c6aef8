"""One step, validation and choice of a classifier against loops over images, on a linear network."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contexts import at

from jaxrepro.config import OptimConfig, PlateauConfig
from jaxrepro.data.batches import epoch_order, epochs_of_whole_batches, whole_epoch_weights
from jaxrepro.layers import BatchNorm
from jaxrepro.training import classification
from jaxrepro.training.classification import Score, Task, chosen_variables, end_of_epoch, init_classifier, train_step
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.selection import LARGEST

KEY = jax.random.key(0)
CLASSES = 3
RULE = PlateauConfig(patience=0, stop_at=0.05)  # two rates


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


def make_task(optim=OptimConfig(name="sgd", lr=0.1, momentum=0.0), **changes):
    options = {"prepare": lambda images, key: images / 255.0, "optimizer": make_optimizer(optim, 100), "batch_size": 4}
    return Task(Linear(), **options | changes)


def plateau_task(**changes):
    optim = OptimConfig(name="sgd", lr=0.1, schedule="plateau", plateau=RULE)
    return make_task(optim, plateau=RULE, **changes)


def rows(num, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (num, 2, 2, 1), np.uint8)),
        "label": jnp.asarray(rng.integers(0, CLASSES, num), jnp.int32),
    }


def prepared(rows):
    return rows | {"image": rows["image"] / 255.0}


def start(task, keep_best=False):
    return init_classifier(task, task.network.init(KEY, jnp.zeros((1, 2, 2, 1)), False), keep_best=keep_best)


def by_hand(variables, rows):
    """Returns cross-entropies [N] and whether the largest logit is right [N], in NumPy."""
    dense, labels = variables["params"]["Dense_0"], np.asarray(rows["label"])
    pixels = np.asarray(rows["image"], float).reshape(len(labels), -1) / 255
    logits = pixels @ np.asarray(dense["kernel"], float) + np.asarray(dense["bias"], float)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return losses, logits.argmax(1) == labels


# A step


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(CLASSES)(BatchNorm()(images.reshape(len(images), -1), train))


def test_portions_of_a_batch_give_the_step_of_the_whole():
    whole, parts, batch = make_task(), make_task(micro_batches=4), prepared(rows(8))
    (new, metrics), (other, portions) = (train_step(task, start(whole), batch, at()) for task in (whole, parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.variables, other.variables)
    assert float(portions["loss"].value) == pytest.approx(float(metrics["loss"].value), rel=1e-6)
    assert float(portions["accuracy"].count) == 8


def test_every_portion_is_normalised_by_its_own_statistics_and_the_running_ones_take_their_mean():
    task, batch = dataclasses.replace(make_task(micro_batches=2), network=Normalised()), prepared(rows(8))
    new, _ = train_step(task, start(task), batch, at())
    pixels = np.asarray(batch["image"]).reshape(8, -1)
    halves = [pixels[0::2], pixels[1::2]]
    stats = new.variables["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.1 * np.mean([h.mean(0) for h in halves], axis=0), rtol=1e-5)
    expected = 0.9 + 0.1 * np.mean([h.var(0, ddof=1) for h in halves], axis=0)
    np.testing.assert_allclose(stats["var"], expected, rtol=1e-5)


def test_weights_of_rows_count_in_portions_as_in_the_whole():
    def weights(step):
        return jnp.array([4.0, 0, 0, 0, 1, 1, 1, 1])

    whole, parts = make_task(weights=weights), make_task(weights=weights, micro_batches=2)
    new, other = (train_step(task, start(whole), prepared(rows(8)), at())[0] for task in (whole, parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.variables, other.variables)


def test_a_step_is_the_rate_times_the_gradient_of_the_mean_cross_entropy():
    task, batch = make_task(), rows(8)
    state = start(task)

    def mean(params):
        logits = task.network.apply({"params": params}, prepared(batch)["image"], True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    new, metrics = train_step(task, state, prepared(batch), at())
    expected = jax.tree.map(
        lambda p, g: p - 0.1 * g, state.variables["params"], jax.grad(mean)(state.variables["params"])
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), new.variables["params"], expected)
    losses, right = by_hand(state.variables, batch)
    assert float(metrics["loss"].value) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(metrics["accuracy"].value) == pytest.approx(100 * right.mean())
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)


def test_the_logged_rate_is_the_one_of_the_step():
    task = make_task(OptimConfig(name="sgd", lr=0.1, momentum=0.0, schedule="cosine", warmup_steps=10))
    state, batch = start(task), prepared(rows(8))
    moved = []
    for step in (0, 5, 10, 55):
        new, metrics = train_step(task, state, batch, at(step))
        change = new.variables["params"]["Dense_0"]["bias"] - state.variables["params"]["Dense_0"]["bias"]
        moved.append((float(metrics["learning_rate"]), float(jnp.abs(change).max())))
    rates, lengths = np.array(moved).T
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05], atol=1e-6)
    np.testing.assert_allclose(lengths / lengths[2], rates / rates[2], rtol=1e-3)


# The last batch of an epoch


@pytest.mark.parametrize(("num_rows", "batch_size"), [(11, 4), (13, 8), (150, 64)])
def test_weights_of_the_last_batch_count_every_image_equally(num_rows, batch_size):
    per_epoch = -(-num_rows // batch_size)
    weights = whole_epoch_weights(num_rows, batch_size)
    order = epochs_of_whole_batches(num_rows, batch_size, epoch_order(num_rows, shuffle=True))
    for epoch in range(2):
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            found = np.asarray(jax.jit(weights)(step))
            assert found.dtype == np.float32
            assert found.mean() == pytest.approx(1, rel=1e-6)
            images = order(0, step, 1)[0]
            shares = np.bincount(images, found, minlength=num_rows)[np.unique(images)]
            np.testing.assert_allclose(shares, batch_size / len(shares), rtol=1e-6)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(12, 4), (10, 4), (9, 4), (10_000, 128), (3, 4096 * 3)])
def test_a_last_batch_whose_images_divide_it_needs_no_weights(num_rows, batch_size):
    assert whole_epoch_weights(num_rows, batch_size) is None


def test_the_step_of_a_filled_up_batch_is_that_of_the_small_one():
    """Eleven images in batches of four: the last holds three, of which one stands there twice."""
    data, plain = rows(11), make_task()
    weighted = dataclasses.replace(plain, weights=whole_epoch_weights(11, 4))
    chosen = epochs_of_whole_batches(11, 4, epoch_order(11, shuffle=True))(0, 2, 1)[0]
    assert len(set(chosen)) == 3
    full, small = ({k: v[i] for k, v in data.items()} for i in (chosen, chosen[:3]))
    state = start(plain)
    expected, by_small = train_step(plain, state, prepared(small), at(2))
    found, by_full = train_step(weighted, state, prepared(full), at(2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), found.variables, expected.variables)
    for name in ("loss", "accuracy"):
        assert float(by_full[name].value) == pytest.approx(float(by_small[name].value), rel=1e-6)
    other, _ = train_step(plain, state, prepared(full), at(2))
    difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), other.variables, expected.variables)
    assert max(jax.tree.leaves(difference)) > 1e-4, "without weights the step is another one"
    first, _ = train_step(weighted, state, prepared(full), at(1))
    jax.tree.map(np.testing.assert_array_equal, first.variables, other.variables)


# The end of an epoch


@pytest.mark.parametrize("num", [4, 7, 3])
def test_validation_counts_every_image_once(num):
    task, valid = make_task(), rows(num)
    state = start(task)
    _, found = jax.jit(lambda s: end_of_epoch(task, s, valid))(state)
    losses, right = by_hand(state.variables, valid)
    assert set(found) == {"loss", "accuracy"}
    np.testing.assert_allclose([found["loss"], found["accuracy"]], [losses.mean(), 100 * right.mean()], rtol=1e-5)
    _, found = end_of_epoch(dataclasses.replace(task, score=Score.ERROR), state, valid)
    np.testing.assert_allclose(found["error"], 100 * (1 - right.mean()), rtol=1e-5)


def test_predictions_are_those_of_every_image_in_order():
    task, test = make_task(), rows(7)
    state = start(task)
    found = classification.predict(task, state.variables, test)
    losses, right = by_hand(state.variables, test)
    np.testing.assert_allclose(found["loss"], losses, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(found["predicted"]) == test["label"], right)
    np.testing.assert_allclose(found["confidence"][right], np.exp(-losses[right]), rtol=1e-5)


def scaled(state, factor):
    """Returns the state with weights that are wrong or right more confidently."""
    params = jax.tree.map(lambda a: factor * a, state.variables["params"])
    return state.replace(variables={**state.variables, "params": params})


def test_the_best_weights_are_kept_only_when_they_are_strictly_better():
    task, valid = make_task(), rows(7)
    first = start(task, keep_best=True)
    assert first.best.value == LARGEST
    seen, _ = end_of_epoch(task, first, valid)
    again, _ = end_of_epoch(task, seen, valid)
    jax.tree.map(np.testing.assert_array_equal, again.best, seen.best)
    for factor in (0.5, 2.0):
        other, metrics = end_of_epoch(task, scaled(seen, factor), valid)
        better = float(metrics["loss"]) < float(seen.best.value)
        expected = other.variables if better else seen.variables
        jax.tree.map(np.testing.assert_array_equal, chosen_variables(other), expected)
        assert float(other.best.value) == pytest.approx(min(float(metrics["loss"]), float(seen.best.value)))
        same_value = scaled(seen, factor).replace(best=seen.best.replace(value=metrics["loss"]))
        equal, _ = end_of_epoch(task, same_value, valid)
        jax.tree.map(np.testing.assert_array_equal, equal.best.kept, seen.best.kept)


def test_weights_may_be_chosen_by_their_error_instead_of_their_loss():
    """Weights that are the same but larger have another loss and the same error."""
    valid = rows(7)
    for select_by, kept in (("loss", 0.01), ("error", 3.0)):
        task = make_task(score=Score.ERROR, select_by=select_by)
        first = scaled(start(task, keep_best=True), 3.0)
        seen, _ = end_of_epoch(task, first, valid)
        after, _ = end_of_epoch(task, scaled(seen, 0.01 / 3.0), valid)
        expected = scaled(start(task), kept).variables
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), chosen_variables(after), expected)


def test_without_best_weights_the_last_ones_are_tested():
    task = make_task()
    state, _ = end_of_epoch(task, start(task), rows(7))
    assert state.best is None
    assert state.plateau is None
    assert chosen_variables(state) is state.variables


def test_the_plateau_judges_the_validation_loss_and_lowers_the_rate():
    task, valid, batch = plateau_task(), rows(7), prepared(rows(8))
    state = start(task)
    rates = []
    for _ in range(3):  # no patience: the first epoch improves, every later one reduces
        rates.append(float(train_step(task, state, batch, at())[1]["learning_rate"]))
        state, found = end_of_epoch(task, state, valid)
        np.testing.assert_allclose(state.plateau.best, found["loss"], rtol=1e-6)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01], rtol=1e-5)
    assert bool(state.plateau.stopped(len(task.optimizer.plateau_rates)))


def test_a_stopped_plateau_leaves_the_state_as_it_is():
    task, batch = plateau_task(), prepared(rows(8))
    state = start(task, keep_best=True)
    running, _ = train_step(task, state, batch, at())
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), running.variables, state.variables)
    assert all(jax.tree.leaves(changed))
    stopped = running.replace(plateau=running.plateau.replace(num_reductions=jnp.int32(2)))
    new, metrics = jax.jit(lambda s: train_step(task, s, batch, at(1)))(stopped)
    jax.tree.map(np.testing.assert_array_equal, new, stopped)
    assert np.isfinite(float(metrics["loss"].value))
    assert float(metrics["learning_rate"]) == 0
    after, _ = end_of_epoch(task, new, rows(7))
    jax.tree.map(np.testing.assert_array_equal, after.plateau, stopped.plateau)


def test_the_number_of_parameters_is_that_of_the_network_alone():
    assert classification.num_parameters(start(make_task(), keep_best=True)) == 4 * CLASSES + CLASSES
