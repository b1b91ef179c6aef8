"""Papers are found by the experiment's name."""

import sys
import types

import pytest

from jaxrepro.report import papers


@pytest.mark.parametrize("name", ["new", "../evil", "<script>", ""])
def test_a_paper_without_a_module_has_no_figures_and_no_captions(name):
    paper = papers.find(name)
    assert paper.captions == {}
    assert paper.figures([]) == paper.figures_of_runs([]) == {}
    assert paper.derive([], [], []) == []


def test_a_new_module_is_found_without_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(tmp_path)])
    text = 'from jaxrepro.report.papers import Paper\nPAPER = Paper(captions={"a": "Of the toy."})\n'
    (tmp_path / "toy_paper.py").write_text(text)
    try:
        assert papers.find("toy_paper").captions == {"a": "Of the toy."}
    finally:
        sys.modules.pop("jaxrepro.report.papers.toy_paper", None)


@pytest.mark.parametrize(
    "name", ["dcgan", "sesn", "synbols_few_shot", "synbols_ood", "synbols_supervised", "synbols_unsupervised", "yoto"]
)
def test_every_paper_has_captions_for_the_figures_it_draws(name):
    assert isinstance(papers.find(name), papers.Paper)
    assert isinstance(sys.modules[f"jaxrepro.report.papers.{name}"], types.ModuleType)
    assert papers.find(name).captions
