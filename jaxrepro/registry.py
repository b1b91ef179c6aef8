"""Experiment name -> module, imported only when it is used. To add a paper, add a line.

An experiment's module defines three names:
  Config                      its frozen dataclass, extending `jaxrepro.config.RunConfig`
  init_params(config, key)    its parameters, from the config alone (for `--mode=print`)
  build(config)               its `jaxrepro.experiment.Experiment`
"""

import importlib
from types import ModuleType

from jaxrepro.errors import unknown

EXPERIMENTS = {
    "dcgan": "jaxrepro.experiments.dcgan",
    "sesn": "jaxrepro.experiments.sesn",
    "sesn_stl10": "jaxrepro.experiments.sesn_stl10",
    "synbols_active_learning": "jaxrepro.experiments.synbols_active_learning",
    "synbols_counting": "jaxrepro.experiments.synbols_counting",
    "synbols_few_shot": "jaxrepro.experiments.synbols_few_shot",
    "synbols_ood": "jaxrepro.experiments.synbols_supervised",
    "synbols_supervised": "jaxrepro.experiments.synbols_supervised",
    "synbols_trunk": "jaxrepro.experiments.synbols_trunk",
    "synbols_unsupervised": "jaxrepro.experiments.synbols_unsupervised",
    "yoto": "jaxrepro.experiments.yoto",
}


def find(name: str) -> ModuleType:
    """Returns the module of an experiment.

    Raises:
      UserError: no experiment has that name.
    """
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return importlib.import_module(EXPERIMENTS[name])
