"""Declared distributions: they compare, hash, print, go to JSON and back, and draw what they say."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from scipy import stats

from jaxrepro.errors import UserError
from jaxrepro.synbols import alphabet, dataset, find_fonts, from_json, to_json
from jaxrepro.synbols.attributes import add_occlusion, attribute_sampler
from jaxrepro.synbols.declared_json import is_opaque
from jaxrepro.synbols.distributions import (
    COIN,
    AnySymbol,
    Choice,
    Constant,
    Function,
    Joint,
    LogNormal,
    Mixture,
    Normal,
    Uniform,
    declared,
    integers,
)
from jaxrepro.synbols.fonts import installed_fonts
from jaxrepro.synbols.patterns import Camouflage, Gradient
from jaxrepro.synbols.predefined import DATASETS
from jaxrepro.synbols.symbols import attributes_of

LETTERS = alphabet(auxiliary=False)
WORDS = Mixture(
    (Joint({"char": "maybe", "scale": 0.9}), Joint({"char": Choice(("no", "yes")), "scale": Uniform(0.3, 0.7)})), (1, 2)
)


def draws(distribution, n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([distribution(rng) for _ in range(n)])


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (Uniform(-2, 3), stats.uniform(-2, 5)),
        (Normal(1, 0.3), stats.norm(1, 0.3)),
        (LogNormal(0.6, 0.2), stats.lognorm(0.2, scale=0.6)),
    ],
)
def test_draws_follow_their_distribution(distribution, expected):
    assert stats.kstest(draws(distribution), expected.cdf).pvalue > 1e-3


def test_choices_and_mixtures_follow_their_weights():
    assert np.bincount(draws(integers(2, 5))) / 4000 == pytest.approx([0, 0, 0.25, 0.25, 0.25, 0.25], abs=0.03)
    weighted = draws(Choice(("a", "b", "c"), (1, 0, 3)))
    assert {v: (weighted == v).mean() for v in "abc"} == pytest.approx({"a": 0.25, "b": 0, "c": 0.75}, abs=0.03)
    mixed = draws(Mixture((10, Uniform(0, 1)), (0.1, 0.9)))
    assert (mixed == 10).mean() == pytest.approx(0.1, abs=0.02)
    assert stats.kstest(mixed[mixed < 10], stats.uniform.cdf).pvalue > 1e-3


def test_a_tuple_of_numbers_takes_the_same_random_numbers_one_by_one():
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    assert Uniform(-2, 2, size=2)(rng) == tuple(again.uniform(-2, 2, 2))
    assert Normal(size=3)(rng) == tuple(again.standard_normal(3))


def test_declared_values_are_equal_where_they_say_the_same():
    assert Uniform(-1, 1, size=2) == Uniform(-1.0, 1.0, size=2) != Uniform(-1, 1)
    assert len({LogNormal(0.6, 0.2), LogNormal(0.6, 0.2), LogNormal(0.6, 0.1), Normal(0.6, 0.2)}) == 3
    assert Mixture(("a", AnySymbol()), (0.7, 0.3)) == Mixture((Constant("a"), AnySymbol()), [0.7, 0.3])
    assert declared(np.array([0.0, 1.0])) == Constant((0.0, 1.0)) == declared([0, 1])
    assert Function(math.sin) == declared(math.sin) != Function(math.cos)
    one, same, other = (attribute_sampler(alphabet=LETTERS, scale=s) for s in (0.5, Constant(0.5), 0.6))
    assert one == same != other
    assert hash(one) == hash(same)
    assert dataset("counting", auxiliary=False).sampler == dataset("counting", auxiliary=False).sampler


@pytest.mark.parametrize(
    ("distribution", "line"),
    [
        (LogNormal(0.6, 0.2), "0.6 exp(N(0, 0.2))"),
        (Uniform(-0.9, 0.9, size=2), "U(-0.9, 0.9)²"),
        (Normal(0, 0.3), "N(0, 0.3)"),
        (integers(3, 9), "3 … 9"),
        (COIN, "True or False"),
        (Choice(tuple("abcdefghijk")), "one of 'a', 'b', 'c', 'd', 'e', 'f', 'g', … 11 in all"),
        (Mixture(("a", AnySymbol()), (0.7, 0.3)), "'a' (70 %) or any symbol of the alphabet (30 %)"),
        (Joint({"char": "no", "scale": 0.5}), "(char 'no', scale 0.5)"),
        (Constant(Camouflage(stroke_angle=0.0)), "Camouflage(stroke_angle=0)"),
        (Constant(LETTERS), f"english ({len(LETTERS.fonts)} fonts, 26 symbols)"),
        (Function(draws), "function draws"),
    ],
)
def test_a_distribution_prints_as_a_line(distribution, line):
    assert str(distribution) == line


def test_a_sampler_prints_a_line_for_every_attribute():
    lines = str(dataset("some-large-occlusion", auxiliary=False).sampler).splitlines()
    said = dict(line.split(maxsplit=1) for line in lines if not line.startswith("occlusion "))
    assert said["rotation"] == "N(0, 0.3)"
    assert said["n_occlusion"] == "1 (20 %) or 0 (80 %)"
    assert "occlusion translation U(-3, 3)²" in lines


@pytest.mark.parametrize("name", [n for n in DATASETS if n != "korean-1k"])
def test_every_dataset_is_declared_and_comes_back_from_json(name):
    sampler = dataset(name).sampler
    assert not is_opaque(sampler)
    text = to_json(sampler)
    assert len(text.splitlines()) == 1
    again = from_json(text, installed_fonts())
    assert again == sampler
    drawn = (s(np.random.default_rng(1)) for s in (sampler, again))
    assert attributes_of(next(drawn)) == attributes_of(next(drawn))


def test_patterns_and_joint_distributions_come_back_from_json():
    for value in (
        WORDS,
        Gradient(types=("linear",), random_color=Uniform(0.5, 1, size=3)),
        Choice((1, None, "x", True)),
    ):
        assert from_json(to_json(value)) == value


def test_functions_are_told_by_name_and_cannot_be_drawn_from_json():
    sampler = attribute_sampler(alphabet=LETTERS, scale=lambda rng: 0.5)
    text = to_json(sampler)
    assert is_opaque(sampler)
    assert json.loads(text)["scale"] == {
        "type": "Function", "name": "test_functions_are_told_by_name_and_cannot_be_drawn_from_json.<locals>.<lambda>"
    }  # fmt: skip
    with pytest.raises(UserError, match="known by its name only"):
        from_json(text, installed_fonts())(np.random.default_rng(0))
    assert is_opaque(Gradient(random_color=lambda rng: (1, 1, 1)))


def test_samplers_can_be_pickled_after_they_have_drawn():
    sampler = add_occlusion(attribute_sampler(alphabet=LETTERS))
    image = sampler(np.random.default_rng(0))
    again = pickle.loads(pickle.dumps(sampler))
    assert again == sampler
    assert again(np.random.default_rng(0)) == image


def test_joint_attributes_of_a_symbol_are_drawn_together():
    sampler = attribute_sampler(WORDS, alphabet=LETTERS, n_symbols=3)
    symbols = [s for i in range(200) for s in sampler(np.random.default_rng(i)).symbols]
    assert all((s.scale == 0.9) == (s.char == "maybe") for s in symbols)
    assert np.mean([s.char == "maybe" for s in symbols]) == pytest.approx(1 / 3, abs=0.08)
    assert len({s.rotation for s in symbols}) == 600


def test_labels_and_missing_symbols_leave_the_rest_of_the_image_as_it_is():
    plain, noisy = (
        attribute_sampler(alphabet=LETTERS, **more)(np.random.default_rng(5))
        for more in ({}, {"label": AnySymbol(), "is_missing": Choice((True, False))})
    )
    (one,), (other,) = plain.symbols, noisy.symbols
    assert dataclasses.replace(other, label=None, foreground=one.foreground) == one
    assert dataclasses.replace(noisy, symbols=plain.symbols) == plain
    assert other.label in LETTERS.symbols


def by_hand(rng, letters):
    """Returns the attributes of the dataset default as the first edition drew them, call by call."""

    def seed():
        return int(rng.random() * 2**32)

    char = letters.symbols[int(rng.random() * len(letters.symbols))]
    font = letters.fonts[int(rng.random() * len(letters.fonts))]
    symbol = {
        "alphabet": "english", "char": char, "font": font.name, "is_bold": rng.random() < 0.5,
        "is_slant": rng.random() < 0.5, "rotation": 0.3 * rng.standard_normal(),
        "scale": 0.6 * math.exp(0.2 * rng.standard_normal()),
        "translation": [1.8 * rng.random() - 0.9, 1.8 * rng.random() - 0.9],
        "foreground": {"style": "Gradient", "seed": seed()},
    }  # fmt: skip
    return {
        "resolution": [32, 32], "pixel_noise_scale": 0.01, "background": {"style": "Gradient", "seed": seed()},
        "inverse_color": rng.random() < 0.5, "max_contrast": True, "is_gray": False, "seed": seed(), **symbol,
        "symbols": [symbol],
    }  # fmt: skip


def test_the_bits_of_default_are_those_that_its_formulas_draw():
    letters = alphabet("english")
    sampler = dataset("default").sampler
    for i in range(50):
        assert attributes_of(sampler(np.random.default_rng(i))) == by_hand(np.random.default_rng(i), letters)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Uniform(1, 0), r"Uniform\(1, 0\): the first number must not exceed"),
        (lambda: Uniform("a", 0), "Uniform: low is 'a'; it must be a finite number"),
        (lambda: Uniform(size=0), "size is 0"),
        (lambda: Normal(0, -1), "std is -1"),
        (lambda: LogNormal(0, 1), "median must be positive"),
        (lambda: Choice(()), "Choice of nothing"),
        (lambda: Choice((1, 2), (1,)), "they must be 2 numbers"),
        (lambda: Mixture((1, 2), (0, 0)), "they must be 2 numbers"),
        (lambda: AnySymbol()(np.random.default_rng(0)), "AnySymbol needs an alphabet"),
        (lambda: attribute_sampler(Joint({"colour": 1}), alphabet=LETTERS), "unknown attribute of a symbol 'colour'"),
        (lambda: attribute_sampler(Uniform(), alphabet=LETTERS)(np.random.default_rng(0)), "must give a dict"),
        (lambda: from_json("{"), "is no declared value"),
        (lambda: from_json('{"type": "Unifrom"}'), "did you mean 'Uniform'"),
        (lambda: from_json(to_json(LETTERS), find_fonts().without([LETTERS.fonts[0].name])), "unknown font"),
    ],
)
def test_bad_declarations_are_named(make, says):
    with pytest.raises(UserError, match=says):
        make()
