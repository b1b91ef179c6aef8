"""Samplers: what an argument may be, the default distributions, and what is recorded."""

import dataclasses
import json
import math

import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.synbols.attributes import add_occlusion, attribute_sampler
from jaxrepro.synbols.drawing import render
from jaxrepro.synbols.languages import alphabet
from jaxrepro.synbols.patterns import Camouflage, Gradient, SolidColor
from jaxrepro.synbols.symbols import attributes_of, flatten_attributes

LETTERS = alphabet(auxiliary=False)


def draw(sampler, n: int = 2000) -> list:
    rng = np.random.default_rng(0)
    return [sampler(rng) for _ in range(n)]


def test_defaults_have_the_distributions_of_the_release():
    images = draw(attribute_sampler(alphabet=LETTERS), 4000)
    symbols = [image.symbols[0] for image in images]
    # Four standard errors of 4,000 draws
    assert np.mean([s.rotation for s in symbols]) == pytest.approx(0, abs=0.02)
    assert np.std([s.rotation for s in symbols]) == pytest.approx(0.3, abs=0.014)
    log_scale = np.log([s.scale for s in symbols])
    assert log_scale.mean() == pytest.approx(math.log(0.6), abs=0.013)
    assert log_scale.std() == pytest.approx(0.2, abs=0.009)
    translation = np.array([s.translation for s in symbols])
    quartiles = np.quantile(translation, [0, 0.25, 0.5, 0.75, 1], axis=0).T
    assert quartiles == pytest.approx(np.array([[-0.9, -0.45, 0, 0.45, 0.9]] * 2), abs=0.06)
    assert abs(np.corrcoef(translation.T)[0, 1]) < 0.07
    for name in ("is_bold", "is_slant"):
        assert np.mean([getattr(s, name) for s in symbols]) == pytest.approx(0.5, abs=0.032)
    assert np.mean([image.inverse_color for image in images]) == pytest.approx(0.5, abs=0.032)
    for values, count in (([s.char for s in symbols], 26), ([s.font for s in symbols], len(LETTERS.fonts))):
        found = np.unique([str(v) for v in values], return_counts=True)[1]
        assert len(found) == count
        assert ((found - 4000 / count) ** 2 / (4000 / count)).sum() < count + 5 * (2 * count) ** 0.5
    seeds = [i.seed for i in images] + [i.background.seed for i in images] + [s.foreground.seed for s in symbols]
    assert len(set(seeds)) > 11_990
    assert {(i.max_contrast, i.pixel_noise_scale, i.resolution, i.is_gray, i.compat) for i in images} == {
        (True, 0.01, (32, 32), False, None)
    }


def test_the_default_alphabet_is_english_with_bold_faces():
    symbol = attribute_sampler()(np.random.default_rng(0)).symbols[0]
    assert symbol.alphabet == alphabet("english", support_bold=True)


def test_attributes_are_constants_or_functions():
    sampler = attribute_sampler(
        alphabet=LETTERS, char="q", scale=0.5, translation=lambda rng: rng.uniform(-2, 2, 2), is_bold=True,
        rotation=lambda rng: 0.25, foreground=SolidColor((1, 0, 0)), inverse_color=False, resolution=(40, 30),
        pixel_noise_scale=lambda rng: 0.2, is_gray=True, compat="v1",
    )  # fmt: skip
    for image in draw(sampler, 20):
        (symbol,) = image.symbols
        assert (symbol.char, symbol.scale, symbol.is_bold, symbol.rotation) == ("q", 0.5, True, 0.25)
        assert symbol.foreground == SolidColor((1, 0, 0))
        assert (image.resolution, image.pixel_noise_scale, image.is_gray, image.compat) == ((40, 30), 0.2, True, "v1")
        assert not image.inverse_color
    assert max(abs(i.symbols[0].translation[0]) for i in draw(sampler, 50)) > 1.5


def test_functions_are_called_once_per_symbol_or_image():
    calls = []

    def count(name, value):
        return lambda rng: calls.append(name) or value

    sampler = attribute_sampler(
        alphabet=LETTERS, n_symbols=count("n", 3), scale=count("s", 0.5), inverse_color=count("i", True)
    )
    assert len(sampler(np.random.default_rng(0)).symbols) == 3
    assert sorted(calls) == ["i", "n", "s", "s", "s"]


def test_constants_draw_nothing():
    one, two = (
        attribute_sampler(alphabet=LETTERS, scale=scale)(np.random.default_rng(5)).symbols[0]
        for scale in (0.5, lambda rng: 0.5)
    )
    assert one == two


def test_a_constant_pattern_without_seed_gets_a_new_one_for_each_symbol():
    sampler = attribute_sampler(
        alphabet=LETTERS, n_symbols=2, foreground=Camouflage(stroke_angle=0.5), background=Gradient(7)
    )
    images = draw(sampler, 10)
    assert len({s.foreground.seed for i in images for s in i.symbols}) == 20
    assert all(s.foreground.stroke_angle == 0.5 for i in images for s in i.symbols)
    assert {i.background for i in images} == {Gradient(7)}


def test_joint_distributions_are_samplers_that_call_samplers():
    def sampler(rng):
        scale = rng.uniform(0.2, 0.8)
        return attribute_sampler(alphabet=LETTERS, scale=scale, rotation=2 * scale)(rng)

    symbols = [image.symbols[0] for image in draw(sampler, 50)]
    assert all(s.rotation == 2 * s.scale for s in symbols)
    assert np.std([s.scale for s in symbols]) > 0.1


def test_the_generator_decides_everything():
    sampler = add_occlusion(attribute_sampler(alphabet=LETTERS, n_symbols=3))
    one, again, other = (sampler(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_fonts_have_names():
    name = LETTERS.fonts[1].name
    assert attribute_sampler(alphabet=LETTERS, font=name)(np.random.default_rng(0)).symbols[0].font is LETTERS.fonts[1]
    with pytest.raises(UserError, match=f"did you mean '{name}'"):
        attribute_sampler(alphabet=LETTERS, font=name + "x")
    with pytest.raises(UserError, match="font of the alphabet english"):
        attribute_sampler(alphabet=LETTERS, font=lambda rng: "nothing like it")(np.random.default_rng(0))


def test_occlusions_follow_the_defaults_of_the_release():
    images = draw(add_occlusion(attribute_sampler(alphabet=LETTERS)), 1500)
    shapes = [s for image in images for s in image.symbols[1:]]
    counts = np.bincount([len(image.symbols) - 1 for image in images])
    assert counts[0] == 0
    assert counts[1:] == pytest.approx([375] * 4, abs=70)
    assert sorted({s.char for s in shapes}) == sorted("■▲●")
    assert not any(s.is_bold or s.is_slant or s.font for s in shapes)
    rotation = np.array([s.rotation for s in shapes])
    assert np.quantile(rotation, [0, 0.5, 1]) == pytest.approx([0, math.pi, 2 * math.pi], abs=0.2)
    assert np.log([s.scale for s in shapes]).mean() == pytest.approx(math.log(0.3), abs=0.01)
    assert np.log([s.scale for s in shapes]).std() == pytest.approx(0.1, abs=0.01)
    translation = np.array([s.translation for s in shapes])
    assert np.quantile(translation, [0, 0.5, 1]) == pytest.approx([-1.5, 0, 1.5], abs=0.08)
    fixed = add_occlusion(
        attribute_sampler(alphabet=LETTERS), n_occlusion=2, char="●", scale=0.1, rotation=0, translation=0
    )
    assert {(s.char, s.scale, s.rotation, s.translation) for s in fixed(np.random.default_rng(0)).symbols[1:]} == {
        ("●", 0.1, 0.0, (0.0, 0.0))
    }


def test_attributes_are_json_and_tell_everything():
    sampler = add_occlusion(
        attribute_sampler(alphabet=LETTERS, n_symbols=2, translation=lambda rng: rng.uniform(-1, 1, 2))
    )
    image = sampler(np.random.default_rng(0))
    attributes = attributes_of(image)
    assert json.loads(json.dumps(attributes)) == attributes
    first = image.symbols[0]
    assert attributes["char"] == first.char
    assert attributes["font"] == first.font.name
    assert attributes["alphabet"] == "english"
    assert attributes["translation"] == list(first.translation)
    assert attributes["foreground"] == {"style": "Gradient", "seed": first.foreground.seed}
    assert attributes["is_bold"] is first.is_bold
    assert attributes["resolution"] == [32, 32]
    assert [s["char"] for s in attributes["symbols"]] == [s.char for s in image.symbols]
    assert attributes["symbols"][-1]["font"] == "shapes"
    assert {k: attributes[k] for k in ("inverse_color", "max_contrast", "is_gray", "seed")} == {
        "inverse_color": image.inverse_color, "max_contrast": True, "is_gray": False, "seed": image.seed
    }  # fmt: skip


def test_attributes_in_v1_have_flags_as_text():
    image = attribute_sampler(alphabet=LETTERS, is_bold=True, is_slant=False, compat="v1")(np.random.default_rng(0))
    attributes = attributes_of(image)
    assert (attributes["is_bold"], attributes["is_slant"]) == ("True", "False")
    assert attributes["symbols"][0]["is_bold"] == "True"


def test_a_label_replaces_the_character_in_the_record_only():
    image = attribute_sampler(alphabet=LETTERS, char="x")(np.random.default_rng(0))
    labelled = dataclasses.replace(image, symbols=(dataclasses.replace(image.symbols[0], label="y"),))
    assert attributes_of(labelled)["char"] == "y"
    assert attributes_of(labelled)["drawn_char"] == "x"
    assert "drawn_char" not in attributes_of(image)
    assert (render(image)[0] == render(labelled)[0]).all()


def test_flags_may_be_numpys_and_numbers():
    for value in (np.True_, 1, np.int64(1)):
        image = attribute_sampler(alphabet=LETTERS, is_bold=value, inverse_color=value)(np.random.default_rng(0))
        assert image.symbols[0].is_bold is True
        assert image.inverse_color is True


def test_nested_attributes_are_flattened_to_paths():
    nested = {"a": 1, "b": [2, {"c": 3}], "d": {"e": {"f": (4, 5)}}}
    assert flatten_attributes(nested) == {"a": 1, "b[0]": 2, "b[1].c": 3, "d.e.f[0]": 4, "d.e.f[1]": 5}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: attribute_sampler(scale=-0.5), "scale is -0.5"),
        (lambda: attribute_sampler(scale=lambda rng: -0.5)(np.random.default_rng(0)), "scale is -0.5"),
        (lambda: attribute_sampler(translation=(1, 2, 3)), "two numbers or one"),
        (lambda: attribute_sampler(resolution=(32, 2)), "resolution is"),
        (lambda: attribute_sampler(pixel_noise_scale=-1), "pixel_noise_scale is -1"),
        (lambda: attribute_sampler(compat="v1.0"), "did you mean 'v1'"),
        (lambda: attribute_sampler(n_symbols=-1), "n_symbols is -1"),
        (lambda: attribute_sampler(n_symbols=2.5), "n_symbols is 2.5; it must be a whole number of 0 or more"),
        (lambda: attribute_sampler(n_symbols=lambda rng: 2.5)(np.random.default_rng(0)), "n_symbols is 2.5"),
        (lambda: attribute_sampler(is_bold="False"), "is_bold is 'False'; it must be True or False"),
        (lambda: attribute_sampler(is_slant=lambda rng: "no")(np.random.default_rng(0)), "is_slant is 'no'"),
        (lambda: attribute_sampler(inverse_color=2), "inverse_color is 2; it must be True or False"),
        (lambda: attribute_sampler(is_gray="yes"), "is_gray is 'yes'"),
        (lambda: attribute_sampler(foreground="red"), "foreground is 'red', which is no pattern"),
        (lambda: render(attribute_sampler(background=Gradient)(np.random.default_rng(0))), "Gradient has the seed Gen"),
        (
            lambda: attribute_sampler(background=lambda rng: 1)(np.random.default_rng(0)),
            "background is 1, which is no p",
        ),
        (lambda: attribute_sampler(font=7), "font is 7; it must be a Font"),
        (lambda: attribute_sampler(alphabet="greek"), r"alphabet is 'greek'; .* such as alphabet\(\"english\"\)"),
        (lambda: attribute_sampler(pixel_noise_scale="much"), "pixel_noise_scale is 'much'; it must be 0 or more"),
        (lambda: attribute_sampler(label=lambda rng: 3)(np.random.default_rng(0)), "label is 3"),
        (lambda: add_occlusion(attribute_sampler(), n_occlusion=1.5), "n_occlusion is 1.5"),
        (lambda: add_occlusion(attribute_sampler(), foreground=(1, 0, 0)), "which is no pattern"),
        (lambda: add_occlusion(attribute_sampler(), scale=0), "scale is 0"),
        (lambda: render(attribute_sampler(char="あ")(np.random.default_rng(0))), "あ"),
    ],
)
def test_bad_attributes_are_named(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_a_sampler_takes_a_seed_as_the_originals_do():
    sampler = attribute_sampler(scale=0.5)
    assert sampler(7) == sampler(np.random.default_rng(7)) == sampler(np.int64(7))
    assert sampler(7) != sampler(8)
