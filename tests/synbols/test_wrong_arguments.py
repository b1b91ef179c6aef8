"""Wrong arguments of the library's functions are one line; NumPy's numbers are as good as Python's."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.synbols import (
    Choice,
    Joint,
    Mixture,
    Recipe,
    Uniform,
    attribute_sampler,
    dataset_generator,
    find_fonts,
    generate_file,
    write_dataset,
)
from jaxrepro.synbols.storage import read

SAMPLER = attribute_sampler(char="a", resolution=8)


def write(path=Path("a.h5"), sampler=SAMPLER, num_samples=3, **options):
    return write_dataset(path, sampler, num_samples, **options)


def aggregating(value):
    return lambda: write(mask_aggregator=lambda masks: value(masks) if callable(value) else value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: attribute_sampler(is_missing="no"), "is_missing is 'no'; it must be True or False"),
        (lambda: attribute_sampler(is_missing=np.nan), "is_missing is nan"),
        (lambda: attribute_sampler(char="a", is_missing=lambda rng: "False")(0), "is_missing is 'False'"),
        (lambda: SAMPLER("x"), "a draw takes a NumPy generator, or a seed of 0 or more, not 'x'"),
        (lambda: SAMPLER(-1), "not -1"),
        (lambda: Choice(3), "Choice of 3; give a tuple"),
        (lambda: Mixture(3), "Mixture of 3; give a tuple"),
        (lambda: Joint(3), "Joint of 3; give a dict of attributes"),
        (lambda: Joint(("scale", "char")), "give a dict of attributes"),
        (lambda: Uniform(size=True), "size is True; it must be a whole number"),
        (lambda: find_fonts(3), "folders is 3; it must be a list of folders"),
        (lambda: find_fonts("fonts"), "folders is 'fonts'; it must be a list"),
        (lambda: find_fonts([3]), "one of folders is 3"),
        (lambda: write(None), "path is None"),
        (lambda: write(sampler=3), "sampler is 3; it must be one"),
        (lambda: write(symbols=3), "symbols is 3; it must be a list of texts"),
        (lambda: write(font_names=(1, 2)), "font_names is"),
        (lambda: write(mask_aggregator=3), "mask_aggregator is 3"),
        (lambda: write(num_samples=2.5), "num_samples is 2.5"),
        (lambda: write(workers="two"), "workers is 'two'"),
        (lambda: generate_file(Recipe("default"), 3, Path("a.h5"), shard="x"), "shard is 'x'"),
        (aggregating(None), "the mask_aggregator gave None; it must give a mask"),
        (aggregating(3), "the mask_aggregator gave 3"),
        (aggregating(lambda masks: masks), r"gave an array \[8, 8, 1\]; it must give a mask"),
        (aggregating(lambda masks: (masks[0], {})), r"gave \(an array \[8, 1\], \{\}\)"),
        (aggregating(lambda masks: (masks[..., 0] / 256, {})), "numbers that are not whole or not 0 to 255"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_left(tmp_path, monkeypatch, call, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        call()
    assert os.listdir() == []


@pytest.mark.parametrize("seed", [2.5, -1, np.nan, "a", None, 2**64, True, np.float64(1)])
def test_a_wrong_seed_is_named(tmp_path, seed):
    for call in (lambda: next(dataset_generator(SAMPLER, 1, seed=seed)), lambda: write(tmp_path / "a.h5", seed=seed)):
        with pytest.raises(UserError, match="it must be 0 to"):
            call()
    assert os.listdir(tmp_path) == []


def test_numbers_of_numpy_are_numbers(tmp_path):
    one = write(tmp_path / "a.h5", num_samples=3, seed=2)
    other = write(tmp_path / "b.h5", num_samples=np.int64(3), seed=np.int64(2), workers=np.int64(1))
    assert one.read_bytes() == other.read_bytes()
    np.testing.assert_array_equal(next(dataset_generator(SAMPLER, np.int64(1), seed=np.uint8(2)))[0], read(one)[0][0])
    sized = attribute_sampler(char="a", translation=Uniform(-1, 1, size=np.int64(2)))
    assert write(tmp_path / "c.h5", sized).exists()


def test_masks_of_other_whole_numbers_are_stored(tmp_path):
    write(tmp_path / "a.h5", mask_aggregator=lambda masks: (masks[..., 0] > 2, {}))
    assert set(np.unique(read(tmp_path / "a.h5")[1])) == {0, 1}
