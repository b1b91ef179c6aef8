"""Several classifiers in one run, on the same batches: one protocol, a network each.

    rivals = Rivals({"SESN-B": task, "WRN": other})        # the first is the run's own
    state = rivals.init(variables, keep_best=False)        # name -> Classifier
    state, metrics = rivals.train(state, batch, context)   # in `update`

Metrics of the first network have plain names, those of the others theirs in front: "loss", "wrn/loss".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from jaxrepro.experiment import Context
from jaxrepro.training.classification import Classifier, Task, init_classifier, train_step

State = dict[str, Classifier]


def member_name(label: str) -> str:
    """Returns the name of a network in metrics and checkpoints: "SESN Scalar" -> "sesn_scalar"."""
    return re.sub(r"\W", "_", label.lower())


def init_networks(networks: Mapping[str, nn.Module], images: jax.Array, key: jax.Array) -> dict[str, Any]:
    """Returns name -> variables of every network, each from a key of its own.

    Args:
      networks: name -> `__call__(images, train)`.
      images: float [1, H, W, C], for their shape.
    """
    return {
        name: network.init(jax.random.fold_in(key, i), images, False)
        for i, (name, network) in enumerate(networks.items())
    }


@dataclass(frozen=True)
class Rivals:
    """The classifiers of a run.

    Attributes:
      tasks: label -> task, the run's own first; states are by `member_name` of the label.
    """

    tasks: Mapping[str, Task]

    @property
    def names(self) -> dict[str, str]:
        """Label -> name."""
        return {label: member_name(label) for label in self.tasks}

    def prefix(self, label: str) -> str:
        """Returns what stands in front of a network's metrics: nothing for the run's own."""
        return "" if label == next(iter(self.tasks)) else f"{member_name(label)}/"

    def init(self, variables: Mapping[str, Any], *, keep_best: bool) -> State:
        """Returns name -> state before the first step."""
        return {n: init_classifier(self.tasks[k], variables[n], keep_best=keep_best) for k, n in self.names.items()}

    def train(self, state: State, batch: Mapping, context: Context) -> tuple[State, dict[str, Any]]:
        """Returns (state, metrics) after a step of every network; the rate is logged once."""

        def one(i, task, classifier):
            return train_step(task, classifier, batch, context.fold(i))

        new, metrics = self._each(one, state)
        return new, {k: v for k, v in metrics.items() if not k.endswith("/learning_rate")}

    def apply(
        self, function: Callable[[Task, Classifier], tuple[Classifier, Mapping[str, Any]]], state: State
    ) -> tuple[State, dict[str, Any]]:
        """Returns (state, metrics) after `function` of every task and its state, such as a validation."""
        return self._each(lambda i, task, classifier: function(task, classifier), state)

    def _each(self, function: Callable, state: State) -> tuple[State, dict[str, Any]]:
        new, metrics = {}, {}
        for i, (label, task) in enumerate(self.tasks.items()):
            name = member_name(label)
            new[name], found = function(i, task, state[name])
            metrics |= {self.prefix(label) + k: v for k, v in found.items()}
        return new, metrics
