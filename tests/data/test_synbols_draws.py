"""Declared distributions on the device: the same distributions as NumPy draws, compared by their quantiles."""

import jax
import numpy as np
import pytest
from scipy.stats import ks_2samp

from jaxrepro.data.synbols_draws import draw
from jaxrepro.errors import UserError
from jaxrepro.synbols import attributes
from jaxrepro.synbols.distributions import (
    Choice,
    Constant,
    Function,
    Joint,
    LogNormal,
    Mixture,
    Normal,
    Uniform,
    integers,
)

N = 4000
DISTRIBUTIONS = [
    Constant(0.25),
    Uniform(-2.0, 3.0),
    Normal(1.0, 0.3),
    LogNormal(0.6, 0.2),
    integers(3, 9),
    Choice((0.3, 0.0), (0.1, 0.9)),
    Mixture((10.0, Uniform(-1.0, 1.0), Normal(0.0, 3.0)), (0.2, 0.5, 0.3)),
    Mixture((LogNormal(0.1, 0.5), 0.4)),
    *(d for d in attributes.OF_SYMBOL.values() if isinstance(d, Normal | LogNormal)),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_both_back_ends_follow_one_distribution(distribution):
    rng = np.random.default_rng(0)
    ours = np.array(draw(distribution, jax.random.key(1), (N,)), np.float32)
    theirs = np.array([distribution(rng) for _ in range(N)], np.float32)
    assert ours.shape == (N,)
    assert ks_2samp(ours, theirs).pvalue > 1e-3


def test_tuples_get_an_axis_and_single_numbers_fill_it():
    moved = Mixture((10.0, Uniform(-1.0, 1.0, size=2)), (0.1, 0.9))
    drawn = np.array(draw(moved, jax.random.key(0), (N,)))
    assert drawn.shape == (N, 2)
    away = (drawn == 10).all(axis=1)
    assert away.mean() == pytest.approx(0.1, abs=0.02)
    assert np.abs(drawn[~away]).max() < 1
    assert abs(np.corrcoef(drawn[~away].T)[0, 1]) < 0.07
    assert draw(Uniform(size=3), jax.random.key(0)).shape == (3,)


def test_letters_are_places_in_the_classes():
    char = Mixture(("a", Choice(("a", "b", "c"))), (0.7, 0.3))
    drawn = np.array(draw(char, jax.random.key(0), (N,), classes=("c", "b", "a")))
    assert np.bincount(drawn) / N == pytest.approx([0.1, 0.1, 0.8], abs=0.03)


def test_joint_attributes_stay_together():
    words = Mixture(
        (Joint({"char": "maybe", "scale": 0.9}), Joint({"char": Choice(("no", "yes")), "scale": Uniform(0.3, 0.7)})),
        (1, 2),
    )
    drawn = draw(words, jax.random.key(3), (N,), classes=("maybe", "no", "yes"))
    assert ((np.array(drawn["char"]) == 0) == (np.array(drawn["scale"]) > 0.8)).all()
    assert (np.array(drawn["char"]) == 0).mean() == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize(
    ("distribution", "says"),
    [
        (Function(np.sin), "function sin cannot be drawn on a device"),
        (Choice(("a", "b")), "'b' is no number, and none of the 1 classes given"),
        (Mixture((Joint({"scale": 1.0}), Joint({"rotation": 1.0}))), "name different attributes"),
    ],
)
def test_what_a_device_cannot_draw_is_named(distribution, says):
    with pytest.raises(UserError, match=says):
        draw(distribution, jax.random.key(0), (5,), classes=("a",))
