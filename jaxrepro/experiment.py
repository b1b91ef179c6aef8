"""The contract between a paper and the loop: an experiment is a handful of pure functions over one pytree.

    def build(config) -> Experiment:
        return Experiment(source=..., init=..., update=..., evaluators=(...,))

`loop.train` moves the pytree from step to step and never looks inside it. Anything unusual about a paper (two
optimizers, a pool of labels, an early-stop flag) is a value in the pytree or a function given here, never a branch
in the loop. An experiment sees no mesh, no device, no writer and no path of the run.

Order at a boundary is fixed: log, evaluation, transition, checkpoint. The last step has no transition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

State = Any  # pytree; `update` and every transition keep its structure, shapes and dtypes
Arrays = Any  # pytree of device arrays with a leading example axis [N, ...]
Batch = Any  # pytree of arrays with a leading batch axis [B, ...]


@dataclass(frozen=True)
class Source:
    """Where training batches come from, as pure functions of seed and step.

    Attributes:
      arrays: pytree of NumPy arrays [N, ...] that stay on the device; empty when the data is streamed.
      block: `(seed, start, length) -> x`, NumPy pytree with leading axes [length, B]: what `draw` gets for the steps
        start … start+length-1. Row indices int32 when the data is resident, the rows themselves when it is streamed.
      batch_size: B, the global batch size.
      num_examples: N, for durations in epochs.
    """

    arrays: Arrays
    block: Callable[[int, int, int], Any]
    batch_size: int
    num_examples: int

    @property
    def steps_per_epoch(self) -> float:
        return self.num_examples / self.batch_size


@dataclass(frozen=True)
class Transition:
    """A pure change of the state at exact steps, such as the end of an epoch or a round of labelling.

    Attributes:
      name: unique; its key is `key(seed, "transition/" + name, step)`.
      every: period in steps.
      fn: `(state, arrays, key) -> state`, jitted by the loop. `arrays` is `Transition.arrays`, or the training arrays.
      arrays: pytree of NumPy arrays that `fn` needs instead of the training arrays, e.g. the validation set.
    """

    name: str
    every: int
    fn: Callable[[State, Arrays, Any], State]
    arrays: Arrays | None = None


@dataclass(frozen=True)
class Record:
    """One cell of a table of the paper; the same fields as in `report/reference/*.json`, so a report is a join."""

    table: str
    row: str
    column: str
    metric: str
    value: float
    unit: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator returns.

    Attributes:
      metrics: scalars, named without the split ("kl", "accuracy").
      pictures: file name without suffix -> uint8 array [H, W, 3], or a `matplotlib.figure.Figure`.
      records: cells of the paper's tables and points of its figures.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)
    records: Sequence[Record] = ()


@dataclass(frozen=True)
class Evaluator:
    """A read-only look at the state; it may be slow and may train a probe, but cannot return a state.

    Attributes:
      name: unique; its key is `key(seed, "eval/" + name, step)`.
      split: prefix of its metrics in metrics.jsonl ("valid", "test").
      every: period in steps; it also runs after the last step.
      fn: `(state, arrays, key) -> Evaluation`, a host function that jits its own parts.
      arrays: pytree of NumPy arrays, placed on the devices once.
    """

    name: str
    split: str
    every: int
    fn: Callable[[State, Arrays, Any], Evaluation]
    arrays: Arrays = None


def take_rows(state: State, arrays: Arrays, x: Any, key: Any) -> Batch:
    """The default `draw`: rows `x` (int32 [B]) of the resident arrays."""
    import jax

    del state, key
    return jax.tree.map(lambda a: a[x], arrays)


def streamed_rows(state: State, arrays: Arrays, x: Any, key: Any) -> Batch:
    """The `draw` of a streamed source: `x` already is the batch."""
    del state, arrays, key
    return x


@dataclass(frozen=True)
class Experiment:
    """Everything the loop needs to know about a paper.

    Attributes:
      source: training data.
      init: `key -> state`.
      update: `(state, batch, key) -> (state, metrics)`: one optimisation step, with augmentation, gradients and EMA
        inside. `metrics` maps names to scalars (means over the batch) or `metrics.Mean`s.
      draw: `(state, arrays, x, key) -> batch`.
      transitions: applied at exact steps, in this order.
      evaluators: run at their periods and after the last step.
      stopped: `state -> bool array`; the loop reads it at evaluation boundaries only and ends the run when it is true
        (for every seed).
      sharding_rules: `(path regex, partition spec)` pairs for leaves that are not replicated, e.g.
        `((r".*/kernel", (None, "model")),)`; the first match wins.
      notes: what a reader of the results must know about the data; they stand in results.json and on the page.
    """

    source: Source
    init: Callable[[Any], State]
    update: Callable[[State, Batch, Any], tuple[State, Mapping[str, Any]]]
    draw: Callable[[State, Arrays, Any, Any], Batch] = take_rows
    transitions: Sequence[Transition] = ()
    evaluators: Sequence[Evaluator] = ()
    stopped: Callable[[State], Any] | None = None
    sharding_rules: Sequence[tuple[str, tuple]] = ()
    notes: Sequence[str] = ()
