"""The contract between a paper and the loop: an experiment is a handful of pure functions over one pytree.

    def build(config) -> Experiment:
        return Experiment(source=..., init=..., update=..., evaluators=(...,))

`loop.train` moves the pytree from step to step and never looks inside it. Anything unusual about a paper (two
optimizers, a pool of labels, an early-stop flag) is a value in the pytree or a function given here, never a branch
in the loop. An experiment sees no mesh, no device, no writer and no path of the run.

Order at a boundary is fixed: log, transitions that come before the evaluation, evaluation, the other transitions,
checkpoint. A transition after the evaluation prepares the next step, so the last step has none.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from flax import struct

State = Any  # pytree; `update` and every transition keep its structure, shapes and dtypes
Arrays = Any  # pytree of device arrays with a leading example axis [N, ...]
Batch = Any  # pytree of arrays with a leading batch axis [B, ...]


@struct.dataclass
class Context:
    """Where a function of the contract is called; a pytree, so it passes through jit.

    Attributes:
      step: steps done so far, int32 scalar (a Python int for evaluators): 0 in the first update, the number of the
        boundary in transitions and evaluators.
      seed_index: position of the run's seed in `config.seeds`, int32 scalar (a Python int for evaluators).
      key: PRNG key of (seed, purpose, step).
    """

    step: Any
    seed_index: Any
    key: Any

    def fold(self, index: Any) -> Context:
        """Returns the context of part `index` of the same call, with a key of its own."""
        return self.replace(key=jax.random.fold_in(self.key, index))


@dataclass(frozen=True)
class When:
    """Steps at which something happens, as a function of the step alone, so that resumes are exact.

        When(every=390)                              # after every epoch of 390 steps
        When(at=rounds)                              # at given steps, such as the ends of rounds of uneven length
        When(every=390, end=True)                    # and after the last step, wherever a run ends

    Attributes:
      every: period in steps, 0 = none.
      at: steps, in increasing order.
      end: also when the run ends, at its last step or by an early stop.
    """

    every: int = 0
    at: Sequence[int] = ()
    end: bool = False

    def __post_init__(self):
        object.__setattr__(self, "at", tuple(int(step) for step in self.at))
        if self.every < 0 or not (self.every or self.at or self.end):
            raise ValueError(f"When(every={self.every}, at={self.at}, end={self.end}) never happens")
        if any(a >= b for a, b in zip((0, *self.at), self.at)):
            raise ValueError(f"When.at is {self.at}; it must be positive and increasing")

    def due(self, step: int) -> bool:
        """Returns whether it happens at this step of a run that goes on."""
        place = bisect.bisect_left(self.at, step)
        return (self.every > 0 and step % self.every == 0) or (place < len(self.at) and self.at[place] == step)

    def next(self, step: int, total: int) -> int:
        """Returns the first step after `step` at which it happens, at most `total`."""
        place = bisect.bisect_right(self.at, step)
        candidates = [(step // self.every + 1) * self.every] if self.every else []
        return min([total, *candidates, *self.at[place : place + 1]])


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
      when: at which steps.
      fn: `(state, arrays, context) -> (state, metrics)`, jitted by the loop; metrics are scalars or `metrics.Mean`s and
        may be empty. `arrays` is `Transition.arrays`, or the training arrays.
      arrays: pytree of NumPy arrays that `fn` needs instead of the training arrays, e.g. the validation set.
      split: prefix of its metrics in metrics.jsonl.
      before_evaluation: whether it comes before the evaluators of the same step. Such a one also happens at the last
        step, if it is due there: a validation that keeps the best weights is complete when they are tested.
    """

    name: str
    when: When
    fn: Callable[[State, Arrays, Context], tuple[State, Mapping[str, Any]]]
    arrays: Arrays | None = None
    split: str = "valid"
    before_evaluation: bool = False


@dataclass(frozen=True)
class Record:
    """One cell of a table of the paper; the same fields as in `report/reference/*.json`, so a report is a join.

    `facts` say what the number was measured on, by the names of `report/reference/tasks/*.json`: {"num_classes": 10,
    "num_train": 4096, …}. Where they differ from those of the published cell, a report keeps the two apart.
    """

    table: str
    row: str
    column: str
    metric: str
    value: float
    unit: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator returns.

    Attributes:
      metrics: scalars, named without the split ("kl", "accuracy").
      pictures: file name without suffix -> uint8 array [H, W, 3], or a `matplotlib.figure.Figure`.
      records: cells of the paper's tables and points of its figures.
      arrays: file name without suffix -> {name: array}, kept as arrays/NAME.npz for other programs.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)
    records: Sequence[Record] = ()
    arrays: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """A read-only look at the state; it may be slow and may train a probe, but cannot return a state.

    Attributes:
      name: unique; its key is `key(seed, "eval/" + name, step)`.
      split: prefix of its metrics in metrics.jsonl ("valid", "test").
      when: at which steps.
      fn: `(state, arrays, context) -> Evaluation`, a host function that jits its own parts.
      arrays: pytree of NumPy arrays, placed on the devices once.
    """

    name: str
    split: str
    when: When
    fn: Callable[[State, Arrays, Context], Evaluation]
    arrays: Arrays = None


def take_rows(state: State, arrays: Arrays, x: Any, context: Context) -> Batch:
    """The default `draw`: rows `x` (int32 [B]) of the resident arrays."""
    del state, context
    return jax.tree.map(lambda a: a[x], arrays)


def streamed_rows(state: State, arrays: Arrays, x: Any, context: Context) -> Batch:
    """The `draw` of a streamed source: `x` already is the batch."""
    del state, arrays, context
    return x


@dataclass(frozen=True)
class Experiment:
    """Everything the loop needs to know about a paper.

    Attributes:
      source: training data.
      init: `(context, given) -> state`, jitted.
      update: `(state, batch, context) -> (state, metrics)`: one optimisation step, with augmentation, gradients and EMA
        inside. `metrics` maps names to scalars (means over the batch) or `metrics.Mean`s.
      draw: `(state, arrays, x, context) -> batch`.
      given: pytree of NumPy arrays that `init` starts from, such as pretrained weights: placed on the devices like
        data, never constants of a compiled program.
      transitions: applied at exact steps, in this order.
      evaluators: run at their steps, in this order.
      stopped: `state -> bool array`; the loop reads it where a transition or an evaluation was due and ends the run
        when it is true (for every seed).
      sharding_rules: `(path regex, partition spec)` pairs for leaves that are not replicated, e.g.
        `((r".*/kernel", (None, "model")),)`; the first match wins.
      notes: what a reader of the results must know about the data; they stand in results.json and on the page.
    """

    source: Source
    init: Callable[[Context, Arrays], State]
    update: Callable[[State, Batch, Context], tuple[State, Mapping[str, Any]]]
    draw: Callable[[State, Arrays, Any, Context], Batch] = take_rows
    given: Arrays = ()
    transitions: Sequence[Transition] = ()
    evaluators: Sequence[Evaluator] = ()
    stopped: Callable[[State], Any] | None = None
    sharding_rules: Sequence[tuple[str, tuple]] = ()
    notes: Sequence[str] = ()

    def __post_init__(self):
        for kind, named in (("evaluator", self.evaluators), ("transition", self.transitions)):
            names = [part.name for part in named]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"two {kind}s are called {twice[0]!r}; a name says whose arrays and key they are")
