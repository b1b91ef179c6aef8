"""Probes on codes: what they can read, that heads do not disturb each other, early stops, classes from the data."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.data import table_from_arrays
from jaxrepro.data.attributes import Attribute, find_attributes, targets_of
from jaxrepro.errors import UserError
from jaxrepro.models.probes import probe_network
from jaxrepro.training import probes
from jaxrepro.training.probes import FitConfig, ProbeConfig, make_heads

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)
SIDE, XOR, SIZE = Attribute("side", "side", 2), Attribute("xor", "xor", 2), Attribute("size", "size", 0)


def codes_with(num):
    codes = RANDOM.normal(size=(num, 3)).astype(np.float32)
    return {
        "codes": codes,
        "side": (codes[:, 0] > 0).astype(np.int32),
        "xor": ((codes[:, 0] > 0) ^ (codes[:, 1] > 0)).astype(np.int32),
        "size": (0.5 * codes[:, 2] + 0.1).astype(np.float32),
    }


TRAIN, VALID = codes_with(400), codes_with(200)
CONFIG = FitConfig(epochs=40, batch_size=50, patience=40)


def fit(heads, config=CONFIG, train=TRAIN):
    run = jax.jit(lambda t, v, k: probes.fit_probes(heads, t, v, k, config), compiler_options=QUICK_COMPILE)
    variables = run(train, VALID, KEY)
    scores = probes.measure_probes(heads, variables, VALID["codes"], VALID)
    return variables, {name: float(value.mean()) for name, value in scores.items()}


@pytest.fixture(scope="module")
def fitted():
    heads = make_heads((SIDE, XOR, SIZE), probe_network, (16,), (0.02,))
    heads = {name: heads[name] for name in ("linear/side", "linear/xor", "mlp/xor", "linear/size")}
    return heads, *fit(heads)


def test_a_linear_attribute_is_read_by_a_linear_head_and_an_exclusive_or_by_the_perceptron_alone(fitted):
    _, _, scores = fitted
    assert scores["linear/side_accuracy"] > 93
    assert scores["mlp/xor_accuracy"] > 85
    assert scores["linear/xor_accuracy"] < 70
    assert scores["linear/size_mae"] < 0.05


@pytest.mark.slow
def test_a_head_becomes_the_same_whoever_stands_beside_it(fitted):
    heads, variables, _ = fitted
    alone = {name: heads[name] for name in ("linear/side",)}
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        fit(alone)[0]["linear/side"],
        variables["linear/side"],
    )


def test_a_head_keeps_its_best_epoch_and_stops_without_a_better_one():
    """An attribute that is noise gets no better: the longest training ends with what the patience alone kept."""
    noise = TRAIN | {"side": RANDOM.integers(0, 2, 400).astype(np.int32)}
    heads = {k: h for k, h in make_heads((SIDE,), probe_network, (4,), (0.02,)).items() if k.startswith("linear")}
    short, long = (fit(heads, FitConfig(epochs, 50, patience=1), noise)[0] for epochs in (30, 31))
    jax.tree.map(np.testing.assert_array_equal, short, long)


def test_a_grid_of_perceptrons_is_in_one_program_and_the_first_pair_is_the_one_of_the_tables():
    heads = make_heads((SIDE, SIZE), probe_network, (8, 4), (0.1, 0.01))
    assert list(heads)[:4] == ["linear/side", "linear/size", "mlp/side", "mlp/size"]
    assert {name.split("/")[0] for name in heads} == {
        "linear", "mlp", "mlp_8_lr_0.01", "mlp_4_lr_0.1", "mlp_4_lr_0.01"
    }  # fmt: skip
    assert (heads["mlp/side"].network.hidden, heads["mlp/side"].lr, heads["mlp/size"].network.features) == (8, 0.1, 1)


def test_weights_of_rows_count_in_the_loss_and_in_the_score():
    heads = make_heads((SIDE,), probe_network, (4,), (0.1,))
    first = probes.init_probes(heads, 3, KEY)
    half = {k: jnp.asarray(v[:8]) for k, v in TRAIN.items()}
    weights = jnp.asarray([2.0] * 4 + [0.0] * 4)
    linear = {"linear/side": heads["linear/side"]}
    weighted, score = probes.train_probes(linear, first, half["codes"], half, weights)
    part = {k: v[:4] for k, v in half.items()}
    alone, expected = probes.train_probes(linear, first, part["codes"], part)
    same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(same, weighted["linear/side"].variables, alone["linear/side"].variables)
    same(score["linear/side_accuracy"].value, expected["linear/side_accuracy"].value)


# Attributes


def table(**columns):
    arrays = {"image": np.zeros((4, 2, 2, 3), np.uint8), "label": np.array([0, 1, 2, 1], np.int32)}
    arrays |= {"rotation": np.arange(4, dtype=np.float32), "is_bold": np.array([True, False] * 2)} | columns
    return table_from_arrays("made-up", arrays)


def test_classes_are_counted_in_the_data_and_floats_are_numbers():
    tables = {"train": table(), "valid": dataclasses.replace(table(), classes={})}
    found = find_attributes(tables, ("char", "rotation", "is_bold"))
    assert [(a.name, a.num_classes, a.score) for a in found] == [
        ("char", 3, "accuracy"), ("rotation", 0, "mae"), ("is_bold", 2, "accuracy")
    ]  # fmt: skip
    targets = targets_of(tables["train"].arrays(), found)
    assert {k: v.dtype for k, v in targets.items()} == {"char": np.int32, "rotation": np.float32, "is_bold": np.int32}
    named = dataclasses.replace(table(), classes={"label": ("a", "b", "c", "d", "e")})
    assert find_attributes({"train": named}, ("char",))[0].num_classes == 5


@pytest.mark.parametrize(
    ("columns", "name", "message"),
    [
        ({}, "colour", r"unknown attribute of made-up in config.probe.attributes: 'colour'.*known: char, is_bold, rot"),
        ({}, "image", "unknown attribute"),
        ({"label": np.array([0, -1, 1, 2], np.int32)}, "char", "images without 'char', 1 of them"),
        ({"rotation": np.array([0, np.nan, 0, 0], np.float32)}, "rotation", "images without 'rotation', 1 of them"),
        ({"mask": np.zeros((4, 2, 2), np.uint8)}, "mask", "one number or class an image"),
        ({"label": np.full(4, 2, np.int32)}, "char", "all images have the same 'char', 2, .* leave it out"),
        ({"is_bold": np.ones(4, bool)}, "is_bold", "all images have the same 'is_bold', True"),
        ({"scale": np.full(4, 0.5, np.float32)}, "scale", "all images have the same 'scale', 0.5"),
    ],
)
def test_data_without_the_probed_attribute_is_a_users_error(columns, name, message):
    with pytest.raises(UserError, match=message):
        find_attributes({"train": table(**columns)}, (name,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributes": ()}, "attributes is ()"),
        ({"schedules": ("online", "online")}, "twice"),
        ({"frozen_hidden": (0,)}, "each must be 1 or more"),
        ({"lr": 0.0}, "must be positive"),
    ],
)
def test_an_impossible_probe_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message.replace("()", r"\(\)")):
        ProbeConfig(**changes)
