"""Measures the table from which `jaxrepro.layers.cpu.choose` picks a convolution's strategy.

    python benchmarks/conv_costs.py [--only=result] [--out=jaxrepro/layers/cpu/costs.csv]

Each strategy computes each map of each shape inside a compiled loop, where training runs; all strategies of a
shape in turn, and the fastest of some repetitions counts. The shapes are those of the networks here, and a coarse grid.
What takes more than two seconds a step is measured once. A row is replaced when it is measured again.
"""

import argparse
import csv
import functools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.path.insert(0, str(Path(__file__).parents[1]))
from jaxrepro.layers.cpu import choose, correlate
from jaxrepro.layers.cpu.choose import Case, Strategy, Task
from jaxrepro.layers.cpu.geometry import Geometry
from jaxrepro.layers.cpu.spectral import correlate_by_spectrum

LOOP_STEPS, SMALL_MACS = 2, 1e8  # eight times as many steps of a small shape, beside which a call itself would count
SLOW_S = 2.0

# (kernel, size, in, out, strides, batch): the layers of the networks, and a coarse grid around them
SHAPES = [
    *((3, n, c, c, 1, 64) for n, c in ((32, 64), (16, 128), (8, 256), (4, 512), (2, 512), (16, 16), (8, 64))),
    *((3, n, i, o, 1, 64) for n, i, o in ((32, 3, 64), (32, 16, 64), (16, 64, 128), (4, 64, 64), (8, 32, 32))),
    # strided: YOTO, WRN-28-4, Conv-4, DCGAN
    *((3, n, i, o, 2, 64) for n, i, o in ((32, 3, 16), (16, 16, 32), (32, 32, 64), (16, 128, 256))),
    *((3, n, i, o, 2, 64) for n, i, o in ((32, 8, 16), (8, 32, 64))),
    *((1, n, i, o, 2, 64) for n, i, o in ((32, 64, 128), (16, 128, 256))),
    *((4, n, i, o, 2, 64) for n, i, o in ((64, 3, 64), (32, 64, 128), (16, 128, 256), (8, 256, 512))),
    # two taps a side
    *((2, n, i, o, 1, 64) for n, i, o in ((33, 64, 12), (17, 128, 256), (5, 512, 1024), (9, 32, 64))),
    # InfoMax's encoder, whole and at an eighth of its width, and its input gradients
    *((4, n, i, o, 1, 32) for n, i, o in ((32, 3, 64), (29, 64, 128), (26, 128, 256), (23, 256, 512))),
    *((4, n, i, o, 1, 32) for n, i, o in ((32, 128, 64), (29, 256, 128), (26, 512, 256))),
    *((4, n, i, o, 1, 64) for n, i, o in ((32, 3, 8), (29, 8, 16), (26, 16, 32), (23, 32, 64), (26, 64, 32))),
    # MNIST-scale
    *((7, n, i, o, 1, 64) for n, i, o in ((28, 1, 32), (14, 32, 63), (7, 63, 95), (7, 95, 63))),
    # a coarse grid around them
    *((3, n, i, o, 1, 16) for n, i, o in ((32, 3, 16), (64, 16, 16), (32, 16, 6), (32, 64, 16), (6, 4, 4))),
    *((3, n, c, c, 1, 16) for n, c in ((4, 512), (8, 256))),
    *((3, n, i, o, 1, 64) for n, i, o in ((32, 16, 16), (8, 128, 256), (2, 64, 64), (4, 512, 256))),
    *((7, n, i, o, 1, 16) for n, i, o in ((64, 16, 16), (24, 256, 256), (48, 3, 32))),
    *((5, n, i, o, 1, 64) for n, i, o in ((28, 3, 16), (16, 32, 32), (8, 128, 128))),
    *((5, n, i, o, 2, 64) for n, i, o in ((32, 3, 128), (8, 512, 1024))),
    *((3, n, i, o, 1, 64) for n, i, o in ((34, 128, 12), (18, 256, 512))),
    *((11, n, i, o, 1, 64) for n, i, o in ((28, 1, 32), (14, 32, 64))),
    # narrow ones, as in small and smoke presets: Conv-4, DCGAN, and two taps a side
    *((3, n, i, o, 2, 64) for n, i, o in ((16, 64, 128), (8, 128, 256))),
    *((3, n, i, o, 1, 64) for n, i, o in ((32, 3, 32), (32, 32, 3))),
    *((4, n, i, o, 2, 32) for n, i, o in ((64, 1, 8), (32, 8, 16), (16, 16, 32), (8, 32, 64))),
    *((2, n, i, o, 1, 32) for n, i, o in ((33, 16, 32), (17, 32, 64), (9, 64, 128), (33, 8, 4))),
    *((2, n, i, o, 1, 64) for n, i, o in ((9, 256, 512), (5, 256, 512))),
]  # fmt: skip


def geometry_of(kernel: int, size: int, strides: int) -> Geometry:
    pads = lax.padtype_to_pads(
        (size,) * 2, (kernel,) * 2, (strides,) * 2, "VALID" if kernel % 2 == 0 and strides == 1 else "SAME"
    )
    pads = tuple((int(low), int(high)) for low, high in pads)
    return Geometry((size,) * 2, (kernel,) * 2, (strides,) * 2, pads)


def programs(task: Task, geometry: Geometry, num_in: int, num_out: int, batch: int):
    """Returns strategy -> a function without arguments that runs `steps_of` steps."""
    draw = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    x = jnp.asarray(draw((batch, *geometry.size, num_in)))
    kernel = jnp.asarray(draw((*geometry.kernel, num_in, num_out))) * 0.01
    g = jnp.asarray(draw((batch, *geometry.out, num_out)))

    # Every step depends on the one before, so that nothing moves out of the loop.
    def result(compute):
        return lambda carry: (carry[0] + 1e-9, compute(x * carry[0], kernel * carry[0], geometry))

    def input_gradient(compute):
        def step(carry):
            # What was multiplied just now could be cut into portions for nothing, which g in memory cannot.
            kernel, g, last = carry
            change = 1e-9 * last[0, 0, 0, 0]
            kernel, g = kernel.at[0, 0, 0, 0].add(change), g.at[0, 0, 0, 0].add(change)
            return kernel, g, compute(g, kernel, geometry)

        return step

    def kernel_gradient(compute):
        return lambda carry: (carry[0] + 1e-9, compute(x * carry[0], g * carry[0], geometry))

    def training(carry):
        kernel, images, _ = carry
        y, pull_back = jax.vjp(lambda x, kernel: correlate_by_spectrum(x, kernel, geometry.pads), images, kernel)
        dx, dw = pull_back(y)
        return kernel - 1e-9 * dw, images - 1e-9 * dx, y

    y = jnp.zeros_like(g)
    steps = {
        Task.RESULT: {s: (result(f), (jnp.float32(1), y)) for s, f in correlate.RESULTS.items()},
        Task.INPUT_GRADIENT: {
            s: (input_gradient(f), (kernel, g, jnp.zeros_like(x))) for s, f in correlate.INPUT_GRADIENTS.items()
        },
        Task.KERNEL_GRADIENT: {
            s: (kernel_gradient(f), (jnp.float32(1), jnp.zeros_like(kernel)))
            for s, f in correlate.KERNEL_GRADIENTS.items()
        },
        Task.TRAINING: {Strategy.SPECTRUM: (training, (kernel, x, y))},
    }[task]
    allowed = choose.allowed(task, geometry, batch, num_in, num_out, jnp.float32)
    num_steps = steps_of(choose.case_of(geometry, batch, num_in, num_out))
    found = {}
    for strategy in allowed:
        if strategy in steps:
            step, carry = steps[strategy]
            run = jax.jit(lambda carry, step=step: lax.fori_loop(0, num_steps, lambda _, c: step(c), carry))
            found[strategy] = functools.partial(run, carry)
    return found


def steps_of(case: Case) -> int:
    return LOOP_STEPS * (8 if case.macs < SMALL_MACS else 1)


def seconds(run, clock=time.perf_counter) -> float:
    start = clock()
    jax.block_until_ready(run())
    return clock() - start


def measure(task: Task, shape: tuple[int, ...], repetitions: int, clock) -> dict[str, str] | None:
    """Returns a row of the table, or None where no strategy applies."""
    kernel, size, num_in, num_out, strides, batch = shape
    geometry = geometry_of(kernel, size, strides)
    case = choose.case_of(geometry, batch, num_in, num_out)
    runs = programs(task, geometry, num_in, num_out, batch)
    if not runs:
        return None
    for run in runs.values():
        seconds(run)
    once = {strategy: seconds(run, clock) for strategy, run in runs.items()}
    runs = {strategy: run for strategy, run in runs.items() if once[strategy] < SLOW_S * steps_of(case)}
    best = dict(once)
    for _ in range(repetitions):
        for strategy, run in runs.items():
            best[strategy] = min(best[strategy], seconds(run, clock))
    ms = {s: f"{1e3 * best[s] / steps_of(case):.3g}" for s in best}
    return {"task": str(task), **{k: str(v) for k, v in case._asdict().items()}, **{s: ms.get(s, "") for s in Strategy}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", choices=["", *Task], help="only this task")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--processor_time", action="store_true", help="for a machine that others use too, on one core: taskset -c 0 …"
    )
    parser.add_argument("--part", default="1/1", help="i/n: only the i-th of n parts of the shapes")
    parser.add_argument("--out", type=Path, default=choose.COSTS)
    args = parser.parse_args()
    clock = time.process_time if args.processor_time else time.perf_counter
    part, parts = map(int, args.part.split("/"))
    rows = list(csv.DictReader(args.out.open(newline=""))) if args.out.exists() else []
    known = {tuple(row[k] for k in ("task", *Case._fields)): row for row in rows}
    for shape in SHAPES[part - 1 :: parts]:
        for task in Task if not args.only else [Task(args.only)]:
            row = measure(task, shape, args.repetitions, clock)
            if row is None:
                continue
            known[tuple(row[k] for k in ("task", *Case._fields))] = row
            print(" ".join(f"{value:>9}" for value in row.values()), flush=True)
            jax.clear_caches()
        write(args.out, list(known.values()))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    rows = sorted(rows, key=lambda row: (row["task"], *(int(row[name]) for name in Case._fields)))
    new = path.with_suffix(".new")
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["task", *Case._fields, *Strategy], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    new.replace(path)


if __name__ == "__main__":
    main()
