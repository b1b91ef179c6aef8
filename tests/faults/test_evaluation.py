"""Evaluating an unfinished run does not make it look finished."""

import launching

from jaxrepro import loop


def test_an_evaluated_unfinished_run_goes_on_training(tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    changes = {"train.duration": "40 steps", "checkpoint.every": "10 steps", "eval.every": "end"}
    asked = iter([False, True])  # to stop, after the second call of ten steps
    with monkeypatch.context() as patch:
        patch.setattr(loop.Interrupt, "agreed", lambda self: next(asked))
        assert launching.run_here(workdir, changes).returncode == 75
    done = launching.run_here(workdir, changes, "--mode=eval")
    assert done.returncode == 0, done.stderr
    assert (workdir / "evaluation.json").exists()
    assert not (workdir / "results.json").exists()
    done = launching.run_here(workdir, changes)
    assert "resuming at step 20" in done.stderr, done.stderr
    assert launching.results(workdir)["step"] == 40
    assert len(launching.results(workdir)["data_digest"]) == 8
    assert not (workdir / "evaluation.json").exists()
