"""Wrong arguments of the library's functions are one line; NumPy's numbers are as good as Python's."""

import dataclasses
import os
import warnings
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
        (aggregating(lambda masks: (masks, {"area": {1, 2}})), r"an attribute is \{1, 2\}; files hold numbers"),
        (lambda: write(symbols=("b", "c")), "the sampler draws the char 'a', which is none of the 2 symbols"),
        (lambda: write(font_names=("Nothing",)), "which is none of the 1 font_names"),
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


def test_a_class_that_was_not_given_is_refused_wherever_it_is_drawn(tmp_path):
    """Nobody could read the file: its numbers have no class."""
    sampler = attribute_sampler(char=Choice(("a", "b")), resolution=8)
    with pytest.raises(UserError, match=r"the sampler draws the char '[ab]', which is none of the 1 symbols"):
        write(tmp_path / "a.h5", sampler, 40, symbols=(next(dataset_generator(sampler, 1))[2]["char"],))
    assert not (tmp_path / "a.h5").exists()


def test_attributes_that_an_aggregator_gives_may_be_numpys_numbers(tmp_path):
    def aggregate(masks):
        return masks, {"area": np.float32(0.5), "box": np.arange(2), "is_seen": np.bool_(True)}

    write(tmp_path / "a.h5", mask_aggregator=aggregate)
    attributes = read(tmp_path / "a.h5")[2][0]
    assert {k: attributes[k] for k in ("area", "box", "is_seen")} == {"area": 0.5, "box": [0, 1], "is_seen": True}
    write(tmp_path / "a.h5", mask_aggregator=aggregate)  # compared with what is there


class Blue:
    """A pattern of somebody's own, no dataclass."""

    def source(self, resolution):
        import cairo

        return cairo.SolidPattern(0, 0, 1)


@dataclasses.dataclass(frozen=True)
class Shades:
    """One with an array in it."""

    levels: np.ndarray
    seed: int | None = None

    def source(self, resolution):
        import cairo

        return cairo.SolidPattern(*self.levels)


@pytest.mark.parametrize("pattern", [Blue(), Shades(np.linspace(0, 1, 3))], ids=["class", "array"])
def test_patterns_of_ones_own_are_drawn_recorded_and_compared(tmp_path, pattern):
    sampler = attribute_sampler(char="a", resolution=8, background=pattern)
    assert "background" in str(sampler)
    write(tmp_path / "a.h5", sampler)
    background = read(tmp_path / "a.h5")[2][0]["background"]
    assert background["style"] == type(pattern).__name__
    assert background.get("levels", [0, 0.5, 1]) == [0, 0.5, 1]
    write(tmp_path / "a.h5", sampler)


def test_images_without_a_symbol_have_no_splits_by_its_attributes_and_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(tmp_path / "a.h5", attribute_sampler(n_symbols=0, resolution=8), 6)
    assert set(read(tmp_path / "a.h5")[3]) == {"random"}
