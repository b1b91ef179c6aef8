"""Evaluating an unfinished run does not make it look finished."""

import json
from types import SimpleNamespace

import toy

from jaxrepro import loop, registry, run
from jaxrepro.config_file import make_config


def test_an_evaluated_unfinished_run_goes_on_training(tmp_path, monkeypatch, capsys):
    experiment = toy.build(toy.config())
    module = SimpleNamespace(Config=toy.Config, build=lambda config: experiment)
    monkeypatch.setattr(registry, "find", lambda name: module)
    config = make_config(toy.config(), "paper", {})
    asked = iter([False, True])  # to stop, after the second call: at step 12, where a round ends
    with monkeypatch.context() as patch:
        patch.setattr(loop.Interrupt, "agreed", lambda self: next(asked))
        assert not run.run(config, tmp_path)
    assert run.run(config, tmp_path, mode=run.Mode.EVAL)
    assert (tmp_path / "evaluation.json").exists()
    assert not (tmp_path / "results.json").exists()
    capsys.readouterr()
    assert run.run(config, tmp_path)
    assert "resuming at step 12 of 40" in capsys.readouterr().err
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["step"] == 40
    assert len(results["data_digest"]) == 8
    assert not (tmp_path / "evaluation.json").exists()
