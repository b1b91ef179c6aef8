"""Memory and time of a training step of the STL-10 networks: what rematerialisation, portions and bfloat16 save.

    python benchmarks/sesn_memory.py [--only=SESN-B] [--all_settings] [--convolutions=cpu] [--trace_only] [--time|--run]

Without --time and --run nothing is run: steps of batch 128 at 96×96 are traced, lowered and compiled. `kept` is what
the backward pass keeps by JAX's account (the residuals of `jax.vjp`, weights and statistics included), whatever a
compiler makes of it. `temporaries` and `arguments` are XLA's memory analysis of the compiled step on the CPU backend,
scheduled for little memory, with the convolutions that accelerators get ("plain") or with ours for CPU ("cpu");
workspaces of an accelerator's convolutions are not in it. With --time steps of batch 4 are run, all policies of a
method in turn in one process; the fastest of some repetitions counts. With --run, on an accelerator, steps of batch 128
are compiled for it and run: memory as its own compiler plans it, workspaces included. Rows are merged into
benchmarks/results/sesn-memory.json, and the tables of sesn_memory.md written anew from all of them (--table does that
alone).
"""

import argparse
import contextlib
import functools
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from jaxrepro.config import OptimConfig, Precision
from jaxrepro.experiment import Context
from jaxrepro.models.scale.residual import Remat
from jaxrepro.models.scale.residual_methods import METHODS, make_residual
from jaxrepro.training.classification import Classifier, Task, init_classifier, loss, train_step
from jaxrepro.training.optim import make_optimizer

SIZE, BATCH, TIMED_BATCH = 96, 128, 4
SETTINGS = [(remat, precision, 1) for precision in Precision for remat in Remat]
SETTINGS += [(Remat.NORM, Precision.FLOAT32, 4), (Remat.BLOCK, Precision.FLOAT32, 2)]
TIMED = [(remat, Precision.FLOAT32, 1) for remat in Remat]
# The code itself is not run, so it may be slow. A schedule for concurrency, XLA's default on CPU, would compute again
# early what was to be computed again late.
LITTLE_MEMORY = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
RESULTS = Path(__file__).parent / "results"
MARK = "<!-- written by benchmarks/sesn_memory.py -->"
OPTIM = OptimConfig(name="sgd", lr=0.1, momentum=0.9, nesterov=True, l2=5e-4)


def make_task(method: str, remat: Remat, precision: Precision, micro_batches: int) -> Task:
    network = make_residual(method, 10, remat=remat)
    return Task(network, lambda images, key: images, make_optimizer(OPTIM, 1), precision, micro_batches=micro_batches)


def start(task: Task) -> Classifier:
    variables = task.network.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), False)
    return init_classifier(task, variables, keep_best=False)


def batch_of(size: int) -> dict:
    return {
        "image": jax.ShapeDtypeStruct((size, SIZE, SIZE, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
    }


def step_of(task: Task):
    def step(state, batch, number):
        return train_step(task, state, batch, Context(number, 0, jax.random.fold_in(jax.random.key(1), number)))

    return jax.jit(step, donate_argnums=0)


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Layers compute as on an accelerator: they ask for the backend when they are traced."""
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        yield


def size_of(tree) -> int:
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def kept_bytes(task: Task, batch: int) -> int:
    """Returns the bytes of what the backward pass of one portion keeps."""
    state, rows = jax.eval_shape(functools.partial(start, task)), batch_of(batch // task.micro_batches)

    def pull_back(variables, rows):
        def of(params):
            return loss(task, params, variables["batch_stats"], rows, None, jax.random.key(0))[0]

        return jax.vjp(of, variables["params"])[1]

    return size_of(jax.eval_shape(pull_back, state.variables, rows))


def lowered(
    method: str, remat: Remat, precision: Precision, micro_batches: int, convolutions: str, trace_only: bool = False
) -> dict:
    task, row = make_task(method, remat, precision, micro_batches), {}
    with plain_convolutions() if convolutions == "plain" else contextlib.nullcontext():
        row["kept_gib"] = kept_bytes(task, BATCH) / 2**30
        if trace_only:
            return row
        state = jax.eval_shape(functools.partial(start, task))
        traced = step_of(task).lower(state, batch_of(BATCH), jax.ShapeDtypeStruct((), jnp.int32))
    begin = time.perf_counter()
    analysis = traced.compile(compiler_options=LITTLE_MEMORY).memory_analysis()
    row["temporaries_gib"] = analysis.temp_size_in_bytes / 2**30
    row["arguments_gib"] = analysis.argument_size_in_bytes / 2**30
    return row | {"compile_s": time.perf_counter() - begin}


def compiled(method: str, settings: list[tuple], convolutions: str, trace_only: bool) -> Iterator[tuple[tuple, dict]]:
    """Yields (name, row) of every setting of a method, batch 128."""
    for setting in settings:
        name = (method, *map(str, setting), convolutions, str(BATCH))
        yield name, lowered(method, *setting, convolutions, trace_only)
        jax.clear_caches()


def timed(method: str, repetitions: int) -> Iterator[tuple[tuple, dict]]:
    """Yields (name, row) of a method under every policy, with the seconds of a step of batch 4, taken in turn."""
    rng, runs = np.random.default_rng(0), {}
    rows = {
        "image": jnp.asarray(rng.standard_normal((TIMED_BATCH, SIZE, SIZE, 3), dtype=np.float32)),
        "label": jnp.asarray(rng.integers(0, 10, TIMED_BATCH)),
    }
    for setting in TIMED:
        task = make_task(method, *setting)
        state = jax.jit(functools.partial(start, task))()
        program = step_of(task).lower(state, rows, jnp.int32(0)).compile()
        state, _ = jax.block_until_ready(program(state, rows, jnp.int32(0)))
        runs[setting] = [program, state, [], program.memory_analysis().temp_size_in_bytes]
    for i in range(repetitions):
        for run in runs.values():
            begin = time.perf_counter()
            run[1], _ = jax.block_until_ready(run[0](run[1], rows, jnp.int32(i)))
            run[2].append(time.perf_counter() - begin)
    for setting, (_, _, seconds, temporaries) in runs.items():
        name = (method, *map(str, setting), "cpu", str(TIMED_BATCH))
        yield name, {"step_s": min(seconds), "temporaries_gib": temporaries / 2**30}


def on_device(method: str, settings: list[tuple], repetitions: int) -> Iterator[tuple[tuple, dict]]:
    """Yields (name, row) of every setting of a method, batch 128, compiled for this device and run there."""
    device = jax.devices()[0].device_kind
    rng = np.random.default_rng(0)
    rows = {
        "image": jnp.asarray(rng.standard_normal((BATCH, SIZE, SIZE, 3), dtype=np.float32)),
        "label": jnp.asarray(rng.integers(0, 10, BATCH)),
    }

    def task_and_program(setting):
        task = make_task(method, *setting)
        state = jax.eval_shape(functools.partial(start, task))
        return task, step_of(task).lower(state, rows, jnp.int32(0)).compile()

    with futures.ThreadPoolExecutor(4) as pool:
        programs = list(pool.map(task_and_program, settings))
    for setting, (task, program) in zip(settings, programs):
        analysis = program.memory_analysis()
        row = {"temporaries_gib": analysis.temp_size_in_bytes / 2**30}
        row["arguments_gib"] = analysis.argument_size_in_bytes / 2**30
        try:
            row["step_s"] = min(seconds_of_steps(program, jax.jit(functools.partial(start, task))(), rows, repetitions))
        except jax.errors.JaxRuntimeError as error:
            row["failed"] = str(error).splitlines()[0]  # out of memory
        yield (method, *map(str, setting), device, str(BATCH)), row


def seconds_of_steps(program, state, rows: dict, repetitions: int) -> list[float]:
    state, _ = jax.block_until_ready(program(state, rows, jnp.int32(0)))
    seconds = []
    for i in range(repetitions):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(program(state, rows, jnp.int32(i)))
        seconds.append(time.perf_counter() - begin)
    return seconds


def tables(rows: dict[tuple, dict]) -> str:
    """Returns two tables in Markdown: all methods by policy, and the settings of SESN-B."""

    def number(method, remat, key, convolutions="plain", batch=BATCH, precision="float32", portions="1", digits=1):
        row = rows.get((method, remat, precision, portions, convolutions, str(batch)), {})
        return f"{row[key]:.{digits}f}" if key in row else "–"

    policies = list(map(str, Remat))
    lines = [
        "| method | 128: kept | 128: temporaries, plain | 128: temporaries, CPU | 4: temporaries, CPU | 4: s a step |",
        "|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        cells = [
            [number(method, r, "kept_gib") for r in policies],
            [number(method, r, "temporaries_gib") for r in policies],
            [number(method, r, "temporaries_gib", "cpu") for r in policies],
            [number(method, r, "temporaries_gib", "cpu", TIMED_BATCH) for r in policies],
            [number(method, r, "step_s", "cpu", TIMED_BATCH, digits=2) for r in policies],
        ]
        lines.append(f"| {method} | " + " | ".join(" / ".join(c) for c in cells) + " |")
    devices = sorted({name[4] for name in rows} - {"plain", "cpu"})
    titles = [cell for device in devices for cell in (f"{device}: temporaries", "s a step")]
    lines += [
        "",
        "| " + " | ".join(["SESN-B, batch 128", "kept, GiB", "XLA's temporaries, plain", "CPU", *titles]) + " |",
        "|---" + "|---:" * (3 + len(titles)) + "|",
    ]
    for remat, precision, portions in SETTINGS:
        cell = functools.partial(number, "SESN-B", str(remat), precision=str(precision), portions=str(portions))
        cells = [cell("kept_gib"), cell("temporaries_gib"), cell("temporaries_gib", "cpu")]
        for device in devices:
            cells += [cell("temporaries_gib", device), cell("step_s", device, digits=2)]
        name = f"remat={remat}, {precision}" + f", {portions} portions" * (portions > 1)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_tables(path: Path, rows: dict[tuple, dict]) -> None:
    """Replaces what stands between the marks in a page, which must exist."""
    page = path.read_text()
    before, _, rest = page.partition(f"{MARK}\n")
    _, _, after = rest.partition(f"{MARK}\n")
    new = path.with_suffix(".new")
    new.write_text(f"{before}{MARK}\n{tables(rows)}\n{MARK}\n{after}")
    new.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only methods whose name contains this")
    parser.add_argument(
        "--time", action="store_true", help="run steps of batch 4 instead of compiling those of batch 128"
    )
    parser.add_argument("--run", action="store_true", help="compile and run batch 128 on this device")
    parser.add_argument("--out", type=Path, default=RESULTS / "sesn-memory.json")
    parser.add_argument("--convolutions", choices=["plain", "cpu"], default="plain")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--all_settings", action="store_true", help="for every method, not for SESN-B alone")
    parser.add_argument("--trace_only", action="store_true", help="only what JAX keeps, without a compiler")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args()
    out = args.out
    report = json.loads(out.read_text()) if out.exists() else {"rows": []}
    report["device"] = f"{jax.devices()[0].device_kind}, {platform.machine()}"
    report["versions"] = {"python": platform.python_version(), "jax": jax.__version__}
    known = {tuple(r["name"]): r for r in report["rows"]}
    for method in [m for m in METHODS if args.only in m and not args.table]:
        every = SETTINGS if args.all_settings or method == "SESN-B" else TIMED
        if args.run:
            found = on_device(method, every, args.repetitions)
        elif args.time:
            found = timed(method, args.repetitions)
        else:
            found = compiled(method, every, args.convolutions, args.trace_only)
        for name, row in found:
            known[name] = known.get(name, {}) | row | {"name": list(name)}
            figures = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print(" | ".join(name), "|", *figures, flush=True)
            new = out.with_suffix(".new")
            new.write_text(json.dumps(report | {"rows": list(known.values())}, indent=1) + "\n")
            new.replace(out)
    if out.parent == RESULTS:
        write_tables(RESULTS / "sesn_memory.md", known)


if __name__ == "__main__":
    main()
