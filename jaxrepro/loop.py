"""The loop: the only stateful code of training. It moves an opaque state from step to step and never looks inside.

    results = train(config, experiment, workdir)        # None when interrupted: the same call continues
    results = evaluate(config, experiment, workdir)     # pictures and records of a checkpoint, without training

Order at a boundary: log, transitions before the evaluation, evaluation, other transitions, checkpoint.
"""

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrepro import mesh as mesh_lib
from jaxrepro import rng, seeds
from jaxrepro.checkpoint import Checkpoints, NonFiniteError
from jaxrepro.config import Keep, RunConfig
from jaxrepro.durations import num_steps
from jaxrepro.errors import MissingData, UserError
from jaxrepro.experiment import Context, Evaluator, Experiment, Transition, When
from jaxrepro.machine import check_memory
from jaxrepro.progress import Clock, Interrupt, Progress, say
from jaxrepro.step import Program, TrainState, default_steps_per_call
from jaxrepro.writers import Writer, save_arrays, save_picture

Values = dict[str, list[float]]  # metric -> one number per seed


@dataclass
class Results:
    """What a finished run found.

    Attributes:
      step: the last step.
      records: dicts with the fields of `experiment.Record`, `seed` and `evaluator`.
      metrics: "split/name" -> one number per seed, of the last evaluation.
      timing: seconds and rates of this process.
    """

    step: int
    records: list[dict] = field(default_factory=list)
    metrics: Values = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)


class Run:
    """One run laid out on the devices: the program, its arrays, and the periods at which things happen."""

    def __init__(self, config: RunConfig, experiment: Experiment):
        self.config, self.experiment = config, experiment
        self.total = num_steps(config.train.duration, steps_per_epoch=experiment.source.steps_per_epoch)
        self.log = When(every=self._steps(config.log.every), end=True)
        self.checkpoint = When(every=self._steps(config.checkpoint.every), end=True)
        num_seeds, backend = len(config.seeds), jax.default_backend()
        mode = seeds.choose_mode(config.parallel.seeds, num_seeds, jax.device_count(), backend)
        self.mesh = mesh_lib.make_mesh(num_seeds, mode, config.parallel.model_axis)
        if warning := mesh_lib.batch_warning(experiment.source.batch_size, self.mesh):
            say(warning)
        self.steps_per_call = config.parallel.steps_per_call or default_steps_per_call(backend)
        with jax.set_mesh(self.mesh):
            self.program = Program(
                experiment, config.seeds, self.mesh, mode, self.steps_per_call, config.parallel.quick_compile
            )
            check_memory("the state of this run", self._state_bytes(), "make the model or the number of seeds smaller")
        self._select = jax.jit(seeds.select, static_argnums=1)
        self._stopped = jax.jit(jax.vmap(experiment.stopped)) if experiment.stopped else None
        splits, best = sorted(self.program.logged_splits), config.checkpoint.best
        if best and best.partition("/")[0] not in splits:
            raise UserError(f"config.checkpoint.best is {best!r}; write 'split/metric', split one of {splits}")

    def _state_bytes(self) -> int:
        leaves = jax.tree.leaves(self.program.abstract_state())
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

    def _steps(self, duration: str) -> int:
        return num_steps(duration, steps_per_epoch=self.experiment.source.steps_per_epoch, total=self.total)

    def next_boundary(self, step: int) -> int:
        """Returns where the chunk that starts at `step` ends: a function of the step alone, so resumes are exact."""
        events = [When(every=self.steps_per_call), self.log, self.checkpoint]
        events += [e.when for e in (*self.experiment.evaluators, *self.experiment.transitions)]
        return min(when.next(step, self.total) for when in events)

    def upload(self) -> dict[str, Any]:
        """Returns every array of the run on the devices: training data, and those of evaluators and transitions."""
        named = {"train": self.experiment.source.arrays}
        named |= {f"eval/{e.name}": e.arrays for e in self.experiment.evaluators}
        named |= {f"transition/{t.name}": t.arrays for t in self.experiment.transitions if t.arrays is not None}
        placed: dict[int, Any] = {}

        def place(a):  # evaluators often share an array: upload it once
            if id(a) not in placed:
                placed[id(a)] = mesh_lib.put(a, self.mesh)
            return placed[id(a)]

        return {k: jax.tree.map(place, v) for k, v in named.items()}

    def evaluate(
        self, evaluator: Evaluator, ts: TrainState, step: int, arrays: Any
    ) -> tuple[Values, dict, dict, list[dict]]:
        """Runs one evaluator for every seed; returns metrics, pictures and arrays by file name, and records."""
        values, pictures, kept, records = {}, {}, {}, []
        several = len(self.config.seeds) > 1
        for i, seed in enumerate(self.config.seeds):
            context = Context(step, i, rng.key(seed, f"eval/{evaluator.name}", step))
            found = evaluator.fn(self._select(ts.state, i), arrays[f"eval/{evaluator.name}"], context)
            for name, value in found.metrics.items():
                values.setdefault(name, []).append(float(value))
            pictures |= {name + f"_seed{seed}" * several: picture for name, picture in found.pictures.items()}
            kept |= {name + f"_seed{seed}" * several: values for name, values in found.arrays.items()}
            records += [
                vars(r) | {"value": float(r.value), "seed": seed, "evaluator": evaluator.name} for r in found.records
            ]
        if uneven := [name for name, found in values.items() if len(found) < len(self.config.seeds)]:
            raise ValueError(f"evaluator {evaluator.name!r} gives the metric {uneven[0]!r} for some of the seeds only")
        return values, pictures, kept, records

    def happening(self, step: int) -> bool:
        """Returns whether an evaluation or a transition is due: only there a run may stop early."""
        return any(e.when.due(step) for e in (*self.experiment.evaluators, *self.experiment.transitions))

    def transitions(self, *, before: bool) -> list[Transition]:
        """Returns the transitions that come before, or after, the evaluation of their step."""
        return [t for t in self.experiment.transitions if t.before_evaluation == before]

    def stopped(self, ts: TrainState) -> bool:
        """Returns whether every seed has stopped early."""
        return self._stopped is not None and bool(mesh_lib.to_host(self._stopped(ts.state)).all())


def check_own(owners: dict[str, str], names: Iterable[str], evaluator: str) -> None:
    """Notes whose files these pictures and arrays are; raises ValueError where another evaluator writes one, too."""
    for name in names:
        if (owner := owners.setdefault(name, evaluator)) != evaluator:
            raise ValueError(f"evaluators {owner!r} and {evaluator!r} both give {name!r}; one overwrites the other")


def describe(values: Mapping[str, list[float]]) -> str:
    """Returns metrics as "loss 12.3  kl 4.56", means over seeds; grouped ones ("a/b") where there are no others."""
    shown = {k: v for k, v in values.items() if "/" not in k} or values
    return "  ".join(f"{k} {np.mean(v):.5g}" for k, v in shown.items())


def train(
    config: RunConfig, experiment: Experiment, workdir: Path, interrupt: Interrupt | None = None
) -> Results | None:
    """Trains to the last step or an early stop, resuming from the newest sound checkpoint.

    Args:
      interrupt: of the command that calls, which listens to signals already; without one they are listened to here.

    Returns:
      What the run found, or None if SIGTERM or SIGINT asked it to stop: its state is saved and the same call continues.
      A signal during an evaluator raises KeyboardInterrupt instead: the call continues from the checkpoint before.

    Raises:
      NonFiniteError: a logged metric or the state to be saved is not finite.
      UserError: the config does not fit the devices.
    """
    run, began = Run(config, experiment), time.monotonic()
    arrays = run.upload()
    run.program.compile_ahead(arrays["train"])
    with contextlib.ExitStack() as stack:
        interrupt = interrupt or stack.enter_context(Interrupt().listening())
        return _train(config, run, began, arrays, workdir, interrupt)


def _train(config, run, began, arrays, workdir, interrupt) -> Results | None:
    with (
        jax.set_mesh(run.mesh),
        interrupt.noting(),
        Checkpoints(workdir / "checkpoints", config.checkpoint, say=say) as checkpoints,
    ):
        restored = checkpoints.restore_latest(run.program.abstract_state())
        step, ts = restored or (0, run.program.init())
        active = jax.process_index() == 0
        writer = Writer(
            workdir,
            config.seeds,
            tensorboard=config.log.tensorboard,
            start_step=step,
            promised=checkpoints.notes(step).get("log") if restored else None,
            active=active,
        )
        if restored:
            say(f"resuming at step {step} of {run.total}")
        progress = Progress(run.total, step, active=active)
        try:
            session = Session(run, arrays, writer, progress, checkpoints, interrupt)
            results = session.advance(ts, step)
        finally:
            progress.close()
            writer.close()
    if results is not None:
        results.timing |= {"seconds": time.monotonic() - began, "resumed_at_step": step}
    return results


@dataclass
class Session:
    """The training of one process lifetime: from the restored step to the end or to an interruption."""

    run: Run
    arrays: dict[str, Any]
    writer: Writer
    progress: Progress
    checkpoints: Checkpoints
    interrupt: Interrupt
    clock: Clock = field(default_factory=Clock)
    records: dict[str, list[dict]] = field(default_factory=dict)
    evaluations: Values = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def advance(self, ts: TrainState, step: int) -> Results | None:
        run, first = self.run, step
        logged = step - step % run.log.every
        ended = step == run.total or (run.happening(step) and run.stopped(ts))
        if ended:  # a finished run whose results.json is missing: its metrics are logged already
            self._evaluate(
                ts, step, [e for e in run.experiment.evaluators if e.when.end or e.when.due(step)], log=False
            )
        running = None
        while not ended:
            ts, running, step = self.dispatch(ts, step, running)
            if run.log.due(step) or step == run.total:
                ts, logged = self._log(ts, step, logged), step
            ts, ended, evaluated = self._boundary(ts, step)
            asked = self.interrupt.agreed() and not ended
            self._checkpoint(ts, step, evaluated, now=asked or ended)
            if asked:
                self.checkpoints.wait()
                self.progress.say(f"interrupted at step {step} of {run.total}; the same command continues")
                return None
        self.checkpoints.wait()
        records = [r for found in self.records.values() for r in found]
        return Results(step, records, self.evaluations, {"steps": step - first, **self.clock.summary()})

    def _boundary(self, ts: TrainState, step: int) -> tuple[TrainState, bool, Values]:
        """Applies what is due at a step; returns (state, whether the run ends here, "split/metric" -> values)."""
        run = self.run
        first, second = run.transitions(before=True), run.transitions(before=False)
        evaluators = run.experiment.evaluators
        due = [e for e in evaluators if e.when.due(step)]
        happening = run.happening(step)
        ts, found = self._transition(ts, step, [t for t in first if t.when.due(step)])
        ended = step == run.total or (happening and run.stopped(ts))
        if ended:
            ts, last = self._transition(ts, step, [t for t in first if t.when.end and not t.when.due(step)])
            found |= last
        evaluated = [e for e in evaluators if e in due or (ended and e.when.end)]
        found |= self._evaluate(ts, step, evaluated)
        if not ended:
            ts, more = self._transition(ts, step, [t for t in second if t.when.due(step)])
            found |= more
            ended = happening and run.stopped(ts)
            if ended:
                found |= self._evaluate(ts, step, [e for e in evaluators if e.when.end and e not in evaluated])
        return ts, ended, found

    def dispatch(self, ts: TrainState, step: int, running: Any) -> tuple[TrainState, Any, int]:
        """Sends the next chunk off and waits for the one before it, so that signals are answered in time."""
        end = self.run.next_boundary(step)
        block = self.run.program.block(step, end - step)
        ts, done = self.run.program.run(ts, end - step, block, self.arrays["train"])
        if self.clock.begun is None:
            done.block_until_ready()
            self.clock.begin(end)
        elif running is not None:
            running.block_until_ready()
        self.progress.advance(end - step)
        return ts, done, end

    def _log(self, ts: TrainState, step: int, since: int) -> TrainState:
        # What no batch since the last line counted, such as the mean over a mask without a hit, is not logged.
        found = {k: m for k, m in mesh_lib.to_host(ts.metrics).items() if np.any(m.count > 0)}
        with np.errstate(invalid="ignore", divide="ignore"):
            values = {k: (m.total / m.count).tolist() for k, m in found.items()}
        self.clock.mark(step)
        self.writer.metrics(step, "train", values)
        self.progress.log(step, describe(values), self.clock.rate())
        bad = [k for k, v in values.items() if not np.isfinite(v)[found[k].count > 0].all()]
        if bad:
            raise NonFiniteError(f"train/{bad[0]} is not finite between steps {since} and {step}")
        return self.run.program.reset_metrics(ts)

    def _evaluate(self, ts: TrainState, step: int, evaluators: list[Evaluator], log: bool = True) -> Values:
        """Runs evaluators and writes what they return; returns {"split/metric": values}, empty where none was due."""
        found: Values = {}
        with self.clock.evaluating():
            for e in evaluators:
                with self.interrupt.answering():
                    values, pictures, kept, self.records[e.name] = self.run.evaluate(e, ts, step, self.arrays)
                check_own(self.owners, (*pictures, *kept), e.name)
                for name, picture in pictures.items():
                    self.writer.picture(step, name, picture)
                self.writer.arrays(kept)
                if log and values:
                    self.writer.metrics(step, e.split, values)
                    self.progress.say(f"step {step}/{self.run.total}  {e.split}: {describe(values)}")
                found |= {f"{e.split}/{k}": v for k, v in values.items()}
        self.evaluations |= found
        return found

    def _transition(self, ts: TrainState, step: int, transitions: list[Transition]) -> tuple[TrainState, Values]:
        """Applies transitions in turn and logs their metrics; returns (state, "split/metric" -> values)."""
        found: Values = {}
        for t in transitions:
            arrays = self.arrays.get(f"transition/{t.name}", self.arrays["train"])
            ts, metrics = self.run.program.transition(ts, t, arrays)
            values = {k: v.tolist() for k, v in mesh_lib.to_host(metrics).items()}
            if values:
                self.writer.metrics(step, t.split, values)
                self.progress.say(f"step {step}/{self.run.total}  {t.split}: {describe(values)}")
            found |= {f"{t.split}/{k}": v for k, v in values.items()}
        self.evaluations |= found
        return ts, found

    def _checkpoint(self, ts: TrainState, step: int, evaluated: Values, now: bool) -> None:
        best = self.run.config.checkpoint.best
        split = best.partition("/")[0]
        if any(name.startswith(split + "/") for name in evaluated) and best not in evaluated:
            raise UserError(f"config.checkpoint.best is {best!r}; evaluated are {', '.join(sorted(evaluated))}")
        metric = float(np.mean(evaluated[best])) if best in evaluated else None
        if now or metric is not None or self.run.checkpoint.due(step):
            self.writer.sync()
            self.checkpoints.save(step, ts, metric, notes={"log": self.writer.log_state})


def evaluate(config: RunConfig, experiment: Experiment, workdir: Path) -> Results:
    """Evaluates the latest (or best, `config.checkpoint.evaluate`) checkpoint of a run folder, rewriting its pictures.

    Raises:
      MissingData: the run folder holds no checkpoint.
      UserError: none of them is sound.
    """
    run, began = Run(config, experiment), time.monotonic()
    with jax.set_mesh(run.mesh), Checkpoints(workdir / "checkpoints", config.checkpoint, say=say) as checkpoints:
        best = config.checkpoint.evaluate == Keep.BEST
        restored = (checkpoints.restore_best if best else checkpoints.restore_latest)(run.program.abstract_state())
        if restored is None:
            raise MissingData(f"{workdir} holds no {config.checkpoint.evaluate} checkpoint to evaluate; train first")
        step, ts = restored
        results, arrays, owners = Results(step), run.upload(), {}
        for e in experiment.evaluators:
            values, pictures, kept, records = run.evaluate(e, ts, step, arrays)
            check_own(owners, (*pictures, *kept), e.name)
            if jax.process_index() == 0:
                for name, picture in pictures.items():
                    save_picture(workdir / "figures" / f"{name}.png", picture)
                save_arrays(workdir, kept)
            say(f"step {step}  {e.split}: {describe(values)}")
            results.records += records
            results.metrics |= {f"{e.split}/{k}": v for k, v in values.items()}
        results.timing = {"evaluation_seconds": time.monotonic() - began}
        return results
