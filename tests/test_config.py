"""Configs: types, durations, overrides, presets; every mistake gets one line that names the key."""

from dataclasses import dataclass

import pytest

from jaxrepro import config_file
from jaxrepro.config import OptimConfig, RunConfig, parse, to_dict
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError


@dataclass(frozen=True)
class Config(RunConfig):
    optim: OptimConfig = OptimConfig(lr=0.1, drops=("3 steps", "5 steps"), schedule="drops")


def make(preset="paper", presets=None):
    return config_file.make_config(Config(experiment="toy", name="toy"), preset, presets or {})


def test_a_config_survives_the_way_to_a_config_dict_and_back():
    assert parse(Config, make()) == Config(experiment="toy", name="toy")
    assert to_dict(parse(Config, make()))["optim"]["drops"] == ("3 steps", "5 steps")


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("optim.lrr", "1", "did you mean 'lr'"),
        ("otpim.lr", "1", "did you mean 'optim'"),
        ("optim", "1", "config.optim is a section"),
        ("optim.lr.x", "1", "config.optim.lr is a value"),
        ("optim.lr", "fast", "config.optim.lr is 'fast' (str); it must be float"),
        ("train.batch_size", "1.5", "config.train.batch_size is 1.5 (float); it must be int"),
        ("train.batch_size", "True", "must be int"),
        ("log.tensorboard", "1", "must be bool"),
        ("seeds", "0", "must be tuple"),
    ],
)
def test_an_override_that_cannot_be_applied_names_key_value_and_type(path, text, message):
    with pytest.raises(UserError) as error:
        config_file.override(make(), path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("optim.lr", "-1.0", "config.optim.lr is -1.0; it must be positive"),
        ("optim.lr", "1e999", "config.optim.lr is inf; it must be finite"),
        ("optim.b1", "1.0", "config.optim.b1 is 1.0"),
        ("train.batch_size", "0", "config.train.batch_size is 0"),
        ("train.duration", "ten steps", "config.train.duration is 'ten steps'"),
        ("train.duration", "10%", "config.train.duration is '10%'"),
        ("log.every", "-3 steps", "config.log.every is '-3 steps'"),
        ("precision", "float16", "did you mean 'bfloat16'"),
        ("seeds", "()", "seeds is empty"),
        ("seeds", "(1,1)", "stands there twice"),
        ("seeds", "(0,'a')", "config.seeds[1] is 'a'"),
        ("checkpoint.keep", "1", "config.checkpoint.keep is 1"),
    ],
)
def test_an_impossible_value_is_refused_when_the_config_is_parsed(path, text, message):
    config = make()
    config_file.override(config, path, text)
    with pytest.raises(UserError) as error:
        parse(Config, config)
    assert message in str(error.value)


def test_overrides_take_literals_and_bare_words():
    config = make()
    for path, text in [
        ("optim.lr", "3e-4"),
        ("optim.lr", "1"),
        ("seeds", "(0,1,2)"),
        ("seeds", "[4]"),
        ("data.test", "x"),
    ]:
        config_file.override(config, path, text)
    assert (config.optim.lr, config.seeds, config.data.test) == (1.0, (4,), "x")
    config_file.override(config, "data.test", "7")  # a string key takes anything as text
    config_file.override(config, "log.tensorboard", "true")
    assert config.data.test == "7"
    assert config.log.tensorboard is True


def test_a_preset_overrides_values_and_an_unknown_one_is_refused():
    assert make("smoke", {"smoke": {"optim.lr": 0.5}}).optim.lr == 0.5
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        make("smok", {"smoke": {}})
    with pytest.raises(UserError, match="lrr"):
        make("smoke", {"smoke": {"optim.lrr": 0.5}})


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("12 steps", 12),
        ("1 step", 1),
        ("1.2e6 steps", 1_200_000),
        ("1_000 steps", 1000),
        ("2 epochs", 25),
        ("1 epoch", 12),
    ],
)
def test_durations_are_counted_in_steps(text, steps):
    assert num_steps(text, steps_per_epoch=12.5) == steps


def test_percent_and_end_are_of_the_total():
    assert num_steps("10%", steps_per_epoch=1, total=250) == 25
    assert num_steps("10 percent", steps_per_epoch=1, total=250) == 25
    assert num_steps("end", steps_per_epoch=1, total=250) == 250


def test_a_folder_with_another_model_is_refused_and_one_with_another_period_is_not(tmp_path):
    old = {"model": {"width": 1}, "log": {"every": "1 steps"}, "train": {"duration": "1 epochs"}}
    config_file.check_resumable(old, old | {"log": {"every": "5 steps"}, "train": {"duration": "2 epochs"}}, tmp_path)
    with pytest.raises(UserError, match=r"config\.model\.width was 1, now 2"):
        config_file.check_resumable(old, old | {"model": {"width": 2}}, tmp_path)


def test_a_missing_config_file_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"did you mean 'configs/yoto_cifar\.py'"):
        config_file.load_module("configs/yoto_cifra.py")


def test_a_sweep_point_has_a_readable_folder_name():
    assert config_file.point_name({"model.width": 2, "beta.fixed": 16.0}) == "model.width=2,beta.fixed=16.0"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "gives no points"),
        ("return [{}, {}]", "the same point twice"),
        ("return [1, 2]", "no list of points"),
        ("raise KeyError('x')", "KeyError"),
    ],
)
def test_an_impossible_sweep_is_a_user_error(tmp_path, body, message):
    path = tmp_path / "c.py"
    path.write_text(f"def get_config(preset):\n    pass\n\n\ndef sweep(preset):\n    {body}\n")
    with pytest.raises(UserError, match=message):
        config_file.sweep_points(str(path))


def test_numbers_that_cannot_be_counted_are_refused():
    with pytest.raises(UserError, match="at most 2,147,483,647"):
        num_steps("1e18 steps", steps_per_epoch=1.0)
    with pytest.raises(UserError, match="below 2"):
        OptimConfig(warmup_steps=10**18)
