"""The compiled part of a run: initial state, one chunk of training steps, and transitions, over all seeds at once.

A chunk is one dispatch: a loop on the device over up to K steps that draws the batch, updates the state and adds up
the metrics. Its number of steps is an argument, so any logging or evaluation period runs without another compilation.

    program = Program(experiment, run_seeds=(0,), mesh=mesh, mode=SeedMode.UNROLL, steps_per_call=10)
    program.compile_ahead(arrays)
    ts = program.init()
    ts, done = program.run(ts, 10, program.block(start=0, length=10), arrays)
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrepro import mesh as mesh_lib
from jaxrepro import metrics as metrics_lib
from jaxrepro import rng, seeds
from jaxrepro.compiling import QUICK_COMPILE, options_for_steps
from jaxrepro.config import SeedMode
from jaxrepro.experiment import Context, Experiment, Transition

STEP_SHAPE = jax.ShapeDtypeStruct((), jnp.int32)


@struct.dataclass
class Seed:
    """One entry of the seed axis: number, uint32, and place in `config.seeds`, int32."""

    number: jax.Array
    place: jax.Array

    def context(self, purpose: str, step: jax.Array | int) -> Context:
        """Returns the context of a call for this seed."""
        return Context(jnp.int32(step), self.place, rng.key(self.number, purpose, step))


ABSTRACT_SEED = Seed(np.uint32(0), np.int32(0))  # where only shapes matter


@struct.dataclass
class TrainState:
    """What a checkpoint holds.

    Attributes:
      step: int32 [S], the number of steps done.
      state: the experiment's pytree, leaves [S, ...].
      metrics: sums and counts since the last log line, leaves [S]; kept here so that a resumed run logs the same line.
    """

    step: jax.Array
    state: Any
    metrics: dict[str, metrics_lib.Mean]


def default_steps_per_call(backend: str) -> int:
    """Returns K. A CPU needs few to answer signals in time; accelerators many to hide the dispatch.

    On an H200 a step of a small perceptron takes 0.090 ms with 10 and 0.034 ms with 100 (`benchmarks/loop.py`).
    """
    return 10 if backend == "cpu" else 100


def block_shape(experiment: Experiment, seed: int) -> Any:
    """Returns the shapes of one step's `x` and of the resident arrays, without touching a device."""
    x = experiment.source.block(seed, 0, 1)

    def abstract(a, shape):
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(a.dtype))

    arrays = jax.tree.map(_abstract_host, experiment.source.arrays)
    return jax.tree.map(lambda a: abstract(a, a.shape[1:]), x), arrays


class Program:
    """The jitted functions of one run. They hold no state: every array goes in and comes out."""

    def __init__(
        self,
        experiment: Experiment,
        run_seeds: Sequence[int],
        mesh: Mesh,
        mode: SeedMode,
        steps_per_call: int = 10,
        quick_compile: bool = False,
    ):
        self.experiment, self.mesh, self.mode = experiment, mesh, mode
        self.run_seeds = tuple(run_seeds)
        numbers, places = np.asarray(run_seeds, np.uint32), np.arange(len(run_seeds), dtype=np.int32)
        self.seeds = mesh_lib.put(Seed(numbers, places), mesh, P("seed"))
        given = jax.tree.map(_abstract_host, experiment.given)
        # Traced once, for the shapes here as for the programs, and for all seeds of an unrolled one.
        self._traced_update = jax.jit(self._update, inline=True)
        self.logged_splits = {e.split for e in experiment.evaluators}  # and those of transitions with metrics
        self._state_shapes = jax.eval_shape(experiment.init, ABSTRACT_SEED.context(rng.Purpose.INIT, 0), given)
        self._metrics_shapes = self._check_invariant_state()
        self.abstract = self._with_seed_axis(TrainState(STEP_SHAPE, self._state_shapes, self._metrics_shapes))
        self.shardings = mesh_lib.state_shardings(self.abstract, self._rules(), mesh)
        init = seeds.over_seeds(self._init_one, mode, in_axes=(0, None))
        self._init = jax.jit(init, out_shardings=self.shardings, compiler_options=QUICK_COMPILE)
        self.steps_per_call = steps_per_call
        self._compiler_options = options_for_steps(quick_compile)
        self._run_partial = self._jit_chunk(None)
        self._run_full = self._run_partial if jax.default_backend() == "cpu" else self._jit_chunk(steps_per_call)
        self._compiled: Future | None = None
        self._transitions = {
            t.name: jax.jit(
                seeds.over_seeds(self._transition_of(t), mode, in_axes=(0, 0, None)),
                compiler_options=self._compiler_options,
                donate_argnums=0,
                out_shardings=(self.shardings, NamedSharding(self.mesh, P("seed"))),
            )
            for t in experiment.transitions
        }

    def _rules(self):
        return [(f"state/{pattern}", spec) for pattern, spec in self.experiment.sharding_rules]

    def _init_one(self, seed: Seed, given: Any) -> TrainState:
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), self._metrics_shapes)
        return TrainState(jnp.int32(0), self.experiment.init(seed.context(rng.Purpose.INIT, 0), given), zeros)

    def _with_seed_axis(self, tree: Any) -> Any:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((len(self.run_seeds), *a.shape), a.dtype), tree)

    def _update(self, state: Any, arrays: Any, x: Any, seed: Seed, step: jax.Array):
        context = seed.context(rng.Purpose.TRAIN, step)
        draw_key, update_key = jax.random.split(context.key)
        batch = mesh_lib.shard_batch(self.experiment.draw(state, arrays, x, context.replace(key=draw_key)))
        state, metrics = self.experiment.update(state, batch, context.replace(key=update_key))
        return state, metrics_lib.as_means(metrics)

    def _jit_chunk(self, static_length: int | None):
        """Returns the jitted chunk. A length known at compile time spares an accelerator one round trip per step."""

        def chunk(ts: TrainState, seed, length, block, arrays) -> tuple[TrainState, jax.Array]:
            def body(i, ts):
                x = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), block)
                state, metrics = self._traced_update(ts.state, arrays, x, seed, ts.step)
                return TrainState(ts.step + 1, state, metrics_lib.merge(ts.metrics, metrics))

            ts = jax.lax.fori_loop(0, length if static_length is None else static_length, body, ts)
            return ts, ts.step + 0

        return jax.jit(
            seeds.over_seeds(chunk, self.mode, in_axes=(0, 0, None, 0, None)),
            compiler_options=self._compiler_options,
            donate_argnums=0,
            out_shardings=(self.shardings, NamedSharding(self.mesh, P("seed"))),
        )

    def _transition_of(self, transition: Transition):
        def apply(ts: TrainState, seed: Seed, arrays):
            context = seed.context(f"transition/{transition.name}", ts.step)
            state, metrics = transition.fn(ts.state, arrays, context)
            return ts.replace(state=state), metrics_lib.compute(metrics_lib.as_means(metrics))

        return apply

    def _check_invariant_state(self) -> Any:
        """Returns the shapes of the metrics; raises TypeError, naming the leaf, if a step changes the state's."""
        state = self._state_shapes
        x, arrays = block_shape(self.experiment, self.run_seeds[0])
        new, metrics = jax.eval_shape(self._traced_update, state, arrays, x, ABSTRACT_SEED, jnp.int32(0))
        assert_same_shapes(state, new, "update")
        for t in self.experiment.transitions:
            given = arrays if t.arrays is None else jax.tree.map(_abstract_host, t.arrays)
            context = ABSTRACT_SEED.context(f"transition/{t.name}", 0)
            new, found = jax.eval_shape(t.fn, state, given, context)
            assert_same_shapes(state, new, f"transition {t.name!r}")
            if found:
                self.logged_splits.add(t.split)
        return metrics

    def init(self) -> TrainState:
        """Returns the state of step 0, created in place on its devices."""
        return self._init(self.seeds, mesh_lib.put(self.experiment.given, self.mesh))

    def block(self, start: int, length: int) -> Any:
        """Returns what `draw` gets at steps start … start+length-1, for all seeds, padded to `steps_per_call`.

        Leaves are global arrays [S, K, B, ...]; the padding is never read.
        """
        per_seed = [self.experiment.source.block(seed, start, length) for seed in self.run_seeds]
        splits = self.experiment.source.batch_size % self.mesh.shape["data"] == 0

        def pad(*leaves):
            stacked = np.stack(leaves)
            width = [(0, 0), (0, self.steps_per_call - length)] + [(0, 0)] * (stacked.ndim - 2)
            return np.pad(stacked, width) if self.steps_per_call > length else stacked

        return mesh_lib.put(jax.tree.map(pad, *per_seed), self.mesh, P("seed", None, "data" if splits else None))

    def trace(self, arrays: Any) -> jax.stages.Traced:
        """Returns the full chunk for arrays like these (or their shapes), ready to be lowered for any platform."""
        block = jax.tree.map(_abstract, self.block(0, 1))
        length = _abstract(mesh_lib.put(np.int32(0), self.mesh))
        with jax.set_mesh(self.mesh):
            return self._run_full.trace(
                self.abstract_state(), self.seeds, length, block, jax.tree.map(_abstract, arrays)
            )

    def compile_ahead(self, arrays: Any) -> None:
        """Starts to compile the chunk in a thread, so that it overlaps with initialisation or a restore.

        Args:
          arrays: what `run` will get, on its devices.
        """

        def compile_chunk():
            with jax.set_mesh(self.mesh):
                return self.trace(arrays).lower().compile()

        executor = ThreadPoolExecutor(max_workers=1)
        self._compiled = executor.submit(compile_chunk)
        executor.shutdown(wait=False)

    def run(self, ts: TrainState, length: int, block: Any, arrays: Any) -> tuple[TrainState, jax.Array]:
        """Returns the state after `length` more steps, and a small array that is ready when they are done.

        `ts` is donated: do not use it again.
        """
        full = length == self.steps_per_call or self._run_full is self._run_partial
        run = self._run_partial if not full else self._compiled.result() if self._compiled else self._run_full
        length = mesh_lib.put(np.int32(length), self.mesh)
        with jax.transfer_guard("disallow"):
            return run(ts, self.seeds, length, block, arrays)

    def transition(self, ts: TrainState, transition: Transition, arrays: Any) -> tuple[TrainState, dict]:
        """Returns (state after a transition, its metrics [S]); `ts` is donated here too."""
        return self._transitions[transition.name](ts, self.seeds, arrays)

    def reset_metrics(self, ts: TrainState) -> TrainState:
        """Returns the state with its running metrics at zero."""
        zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), self.abstract.metrics)
        return ts.replace(metrics=mesh_lib.put(zeros, self.mesh, P("seed")))

    def abstract_state(self) -> Any:
        """Returns shapes, dtypes and shardings of a TrainState, to restore a checkpoint into."""
        return jax.tree.map(
            lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), self.abstract, self.shardings
        )


def _abstract_host(array: np.ndarray) -> jax.ShapeDtypeStruct:
    array = np.asarray(array)
    return jax.ShapeDtypeStruct(array.shape, jax.dtypes.canonicalize_dtype(array.dtype))


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def assert_same_shapes(old: Any, new: Any, name: str) -> None:
    """Raises TypeError, naming the first leaf that differs, unless two trees agree in structure, shapes and dtypes."""
    before, structure = jax.tree_util.tree_flatten_with_path(old)
    after, new_structure = jax.tree_util.tree_flatten_with_path(new)
    if structure != new_structure:
        raise TypeError(f"{name} changes the structure of the state from {structure} to {new_structure}")
    for (path, a), (_, b) in zip(before, after, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            leaf = mesh_lib.leaf_path(path)
            raise TypeError(f"{name} changes {leaf} from {a.dtype}{list(a.shape)} to {b.dtype}{list(b.shape)}")
