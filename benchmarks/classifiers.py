"""Times the classifiers of the Synbols tables: forward passes, training steps, seeds and precisions.

    python benchmarks/classifiers.py [--quick] [--only="Conv-4 GAP"] [--out=benchmarks/results/classifiers-cpu.json]

All programs of a model are compiled, then run in turn and repeatedly in one process; the tables show the fastest
repetition, which a busy machine disturbs least, and ratios of medians with the range over repetitions. A training step
is augmentation (rows with "+"), forward, backward and Adam. Achieved FLOP/s count convolutions and dense layers, three
forward passes for a step, as a share of the rate of a large matrix product in the same run and precision.

"One program" trains three seeds in one dispatch, unrolled or vmapped, against three dispatches of one seed in turn.
"""

import argparse
import functools
import statistics
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).parents[1]))
from measuring import Program, new_report, save, time_in_turn

from jaxrepro import seeds
from jaxrepro.config import Precision, SeedMode
from jaxrepro.data.pil_augment import PlusConfig, random_plus
from jaxrepro.models.classifiers import CLASSIFIERS, forward_macs, make_classifier
from jaxrepro.training.precision import apply_in

SHAPE = (32, 32, 3)
NUM_CLASSES = 26
NUM_SEEDS = 3
SLOW_S = 4.0  # what takes longer is not repeated
ROWS = (*CLASSIFIERS, "ResNet-12+", "WRN-28-4+")


def matmul_rate(precision: Precision, repetitions: int) -> float:
    """Returns FLOP/s of a large matrix product."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    dtype = jnp.bfloat16 if precision == Precision.BFLOAT16 else jnp.float32
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / min(time_in_turn({"product": lambda: product(a, a)}, repetitions, SLOW_S)["product"])


class Trainer:
    """A model with states and batches of some seeds; its programs take and give nothing, as the clock wants."""

    def __init__(self, row: str, precision: Precision, batch: int, num_seeds: int = 1):
        self.model, self.plus = make_classifier(row.removesuffix("+"), NUM_CLASSES), PlusConfig(plus=row.endswith("+"))
        self.precision, self.tx = precision, optax.adam(4e-4)
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (num_seeds, batch, *SHAPE), dtype=np.uint8)
        labels = generator.integers(0, NUM_CLASSES, (num_seeds, batch), dtype=np.int32)
        self.keys = jax.random.split(jax.random.key(0), num_seeds)
        self.batches = jax.device_put((images, labels))
        self.states = jax.jit(jax.vmap(self.init))(self.keys)

    def init(self, key):
        variables = {"batch_stats": {}} | dict(self.model.init(key, jnp.zeros((1, *SHAPE)), False))
        return variables, self.tx.init(variables["params"])

    def step(self, state, batch, key):
        variables, opt_state = state
        images, labels = batch
        pixels = images.astype(jnp.float32) / 255
        pixels = 2 * (random_plus(key, pixels, self.plus) if self.plus.plus else pixels) - 1

        def loss(params):
            given = {**variables, "params": params}
            logits, changed = apply_in(
                self.precision, self.model, given, pixels, train=True, mutable=["batch_stats"], rngs={"dropout": key}
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
            return losses.mean(), changed.get("batch_stats", {})

        grads, batch_stats = jax.grad(loss, has_aux=True)(variables["params"])
        updates, opt_state = self.tx.update(grads, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), "batch_stats": batch_stats}, opt_state

    def forward(self) -> Program:
        variables, (images, _) = seeds.select(self.states[0], 0), self.batches
        call = jax.jit(
            lambda variables, images: apply_in(
                self.precision, self.model, variables, images.astype(jnp.float32) / 127.5 - 1, train=False
            )
        )
        return functools.partial(call, variables, images[0])

    def one_seed(self) -> Program:
        return functools.partial(jax.jit(self.step), *self._of(0))

    def in_turn(self) -> Program:
        step, given = jax.jit(self.step), [self._of(i) for i in range(len(self.keys))]
        return lambda: [step(*arguments) for arguments in given]

    def one_program(self, mode: SeedMode) -> Program:
        step = jax.jit(seeds.over_seeds(self.step, mode))
        return functools.partial(step, self.states, self.batches, self.keys)

    def _of(self, i: int):
        return tuple(seeds.select(tree, i) for tree in (self.states, self.batches, self.keys))


def measure_row(row: str, batch: int, repetitions: int, rates: dict[Precision, float]) -> dict:
    """Returns {precision: {forward, step: {images_per_s, share_of_matmul}}}; both precisions are timed in turn."""
    programs, flops = {}, 2 * forward_macs(make_classifier(row.removesuffix("+"), NUM_CLASSES), SHAPE) * batch
    for precision in rates:
        trainer = Trainer(row, precision, batch)
        programs |= {f"forward {precision}": trainer.forward(), f"step {precision}": trainer.one_seed()}
    times = time_in_turn(programs, repetitions, SLOW_S)
    found = {}
    for precision, rate in rates.items():
        found[precision] = {}
        for name, passes in (("forward", 1), ("step", 3)):
            fastest = min(times[f"{name} {precision}"])
            share = passes * flops / fastest / rate
            found[precision][name] = {"images_per_s": batch / fastest, "share_of_matmul": share}
    return found


def measure_seeds(row: str, batch: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Returns {mode: {ratio, low, high}}: the time of three runs in turn over that of one program, float32."""
    trainer = Trainer(row, Precision.FLOAT32, batch, NUM_SEEDS)
    modes = (SeedMode.UNROLL, SeedMode.VMAP)
    programs = {"in turn": trainer.in_turn()} | {str(m): trainer.one_program(m) for m in modes}
    times = time_in_turn(programs, repetitions, SLOW_S)
    found = {}
    for mode in map(str, modes):
        ratios = [a / b for a, b in zip(times["in turn"], times[mode])]
        ratio = statistics.median(times["in turn"]) / statistics.median(times[mode])
        found[mode] = {"ratio": ratio, "low": min(ratios), "high": max(ratios)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="MLP and Conv-4 only, fewer repetitions")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument("--batch", type=int, help="images per step; 64 on a processor, 512 on an accelerator")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    batch = args.batch or (64 if jax.default_backend() == "cpu" else 512)
    repetitions = 3 if args.quick else 7
    light = ("MLP", "Conv-4 Flat", "Conv-4 GAP")
    rows = [r for r in (light if args.quick else ROWS) if args.only.lower() in r.lower()]
    rates = {precision: matmul_rate(precision, repetitions) for precision in Precision}
    flops = {str(p): rate for p, rate in rates.items()}
    report = new_report(batch=batch, matmul_flops_per_s=flops, models={}, three_seeds={})
    print(", ".join(f"matrix product {p}: {rate / 1e9:.4g} GFLOP/s" for p, rate in rates.items()))
    print(f"\n| {'batch ' + str(batch):11} | precision | forward images/s | of matmul | step images/s | of matmul |")
    for row in rows:
        found = report["models"][row] = measure_row(row, batch, repetitions, rates)
        for precision, result in found.items():
            cells = (f"{r['images_per_s']:16,.0f} | {100 * r['share_of_matmul']:7.0f} %" for r in result.values())
            print(f"| {row:11} | {precision:9} | {' | '.join(cells)} |", flush=True)
        jax.clear_caches()
        save(args.out, report)
    print("\nthree seeds in one program: how many times as fast as three runs in turn")
    for row in [r for r in rows if r != "VGG-16"]:  # three of it would not fit into the memory of a small machine
        found = report["three_seeds"][row] = measure_seeds(row, batch, repetitions)
        print(f"| {row:11} | " + " | ".join(
            f"{mode} {r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for mode, r in found.items()
        ) + " |", flush=True)  # fmt: skip
        jax.clear_caches()
        save(args.out, report)


if __name__ == "__main__":
    main()
