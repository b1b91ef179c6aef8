"""What the training loop costs, and how several seeds are best put into one program.

    python benchmarks/loop.py [--rounds=7] [--steps_per_call=30] [--out=benchmarks/results/loop-cpu.json]

Four ways to take the same training steps, in turn within each round; the figures are medians over rounds:

  bare     the jitted step called from Python, on a batch that already lies on the device
  chunk    the compiled chunk alone, called again and again on the same block: device compute of our loop, its floor
  loop     our loop: index blocks, upload, dispatch, waiting
  python   a plain Python loop that gathers NumPy batches and feeds them to the jitted step

and three seeds as one program (unrolled or vmapped) against three runs one after the other.
"""

import argparse
import dataclasses
import json
import math
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrepro import config_file, loop
from jaxrepro.config import OptimConfig, ParallelConfig, RunConfig, TrainConfig, parse
from jaxrepro.data import make_source, table_from_arrays
from jaxrepro.experiment import Context, Experiment
from jaxrepro.experiments import yoto
from jaxrepro.progress import Interrupt, Progress
from jaxrepro.training.optim import make_optimizer

BATCH_SIZE = 128
NUM_IMAGES = 10_000


def yoto_experiment() -> Experiment:
    """YOTO's released CIFAR-10 net at 1x, with its augmentation, on random images."""
    config = config_file.load("configs/yoto_cifar.py")
    config_file.set_value(config, "model.width", 1)
    config = parse(yoto.Config, config)
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 32, 32, 3), np.uint8)
    optimizer = make_optimizer(dataclasses.replace(config.optim, schedule="constant", drops=(), drop_factor=0.1), 1000)
    model = yoto.make_model(config, 0.0)

    def update(state, batch, context):
        augment_key, beta_key, sample_key = jax.random.split(context.key, 3)
        x = yoto.prepare(config, batch["image"], augment_key)
        beta = yoto.sample_beta(config.beta, beta_key, len(x))
        grads, found = jax.grad(lambda p: yoto.loss(config, model, p, x, beta, sample_key), has_aux=True)(state.params)
        metrics = {name: values.mean() for name, values in found.items()}
        rate = optimizer.rate(context.step)
        new = yoto.Member(*optimizer.descend(grads, state.opt_state, state.params, rate))
        return new, metrics | {"learning_rate": rate}

    def init(context, given):
        params = yoto.init_params(config, context.key)["conditional"]
        return yoto.Member(params, optimizer.init(params))

    return experiment({"image": images}, init, update)


def mlp_experiment() -> Experiment:
    """A 784-256-10 perceptron on random digits."""
    model = nn.Sequential([nn.Dense(256), nn.relu, nn.Dense(10)])
    rng = np.random.default_rng(0)
    arrays = {"image": rng.integers(0, 256, (NUM_IMAGES, 784), np.uint8), "label": rng.integers(0, 10, NUM_IMAGES)}
    optimizer = make_optimizer(OptimConfig(), 1000)

    def update(state, batch, context):
        def loss(params):
            logits = model.apply(params, batch["image"] / 255.0)
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        rate = optimizer.rate(context.step)
        new = yoto.Member(*optimizer.descend(grads, state.opt_state, state.params, rate))
        return new, {"loss": value, "learning_rate": rate}

    def init(context, given):
        params = model.init(context.key, jnp.zeros((1, 784)))
        return yoto.Member(params, optimizer.init(params))

    return experiment(arrays, init, update)


def experiment(arrays, init, update) -> Experiment:
    table = table_from_arrays("random", arrays)
    source, draw = make_source(table, BATCH_SIZE, columns=tuple(arrays), resident_limit_mb=1024)
    return Experiment(source=source, init=init, update=update, draw=draw)


def session_of(exp: Experiment, steps_per_call: int, seeds=(0,), mode="auto") -> loop.Session:
    """Returns a session of the real loop that writes nothing."""
    config = RunConfig(
        experiment="benchmark",
        name="benchmark",
        seeds=seeds,
        train=TrainConfig(duration="1000000 steps", batch_size=BATCH_SIZE),
        parallel=ParallelConfig(seeds=mode, steps_per_call=steps_per_call),
    )
    run = loop.Run(config, exp)
    return loop.Session(run, run.upload(), None, Progress(0, active=False), None, Interrupt())


class Loop:
    """Our loop, continued from call to call."""

    def __init__(self, session: loop.Session):
        self.session, self.step, self.running = session, 0, None
        self.ts = session.run.program.init()

    def __call__(self, steps: int) -> None:
        end = self.step + steps
        while self.step < end:
            self.ts, self.running, self.step = self.session.dispatch(self.ts, self.step, self.running)
        self.running.block_until_ready()


class Chunk:
    """The compiled chunk alone, on one block."""

    def __init__(self, session: loop.Session):
        self.program, self.arrays = session.run.program, session.arrays["train"]
        self.ts, self.length = self.program.init(), session.run.steps_per_call
        self.block = self.program.block(0, self.length)

    def __call__(self, steps: int) -> None:
        for _ in range(steps // self.length):
            self.ts, done = self.program.run(self.ts, self.length, self.block, self.arrays)
        done.block_until_ready()


class Bare:
    """The jitted step on a batch that stays on the device."""

    def __init__(self, exp: Experiment):
        self.context = Context(jnp.int32(0), jnp.int32(0), jax.random.key(0))
        self.state = jax.jit(exp.init)(self.context, ())
        self.batch = jax.device_put({k: v[:BATCH_SIZE] for k, v in exp.source.arrays.items()})
        self.step = jax.jit(exp.update, donate_argnums=0)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.state, _ = self.step(self.state, self.batch, self.context)
        jax.block_until_ready(self.state)


class Python(Bare):
    """The loop of many codebases: NumPy batches in, one dispatch and one key split per step."""

    def __init__(self, exp: Experiment):
        super().__init__(exp)
        self.arrays, self.order, self.key = exp.source.arrays, np.random.default_rng(0), jax.random.key(0)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            rows = self.order.integers(0, NUM_IMAGES, BATCH_SIZE)
            batch = {k: v[rows] for k, v in self.arrays.items()}
            self.key, step_key = jax.random.split(self.key)
            self.state, _ = self.step(self.state, batch, self.context.replace(key=step_key))
        jax.block_until_ready(self.state)


def measure(variants: dict, steps: int, rounds: int) -> dict[str, list[float]]:
    """Returns milliseconds per step of every variant in every round, after a warm-up."""
    for run in variants.values():
        run(steps)
    times = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run(steps)
            times[name].append((time.perf_counter() - start) / steps * 1e3)
    return times


def ratio(times: dict, a: str, b: str) -> float:
    """Returns the median over rounds of a/b."""
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def bench_loop(name: str, exp: Experiment, steps: int, rounds: int, steps_per_call: int) -> dict:
    session = session_of(exp, steps_per_call)
    variants = {"bare": Bare(exp), "chunk": Chunk(session), "loop": Loop(session), "python": Python(exp)}
    times = measure(variants, steps, rounds)
    result = {f"{k}_ms_per_step": statistics.median(v) for k, v in times.items()}
    result |= {
        "steps_per_call": session.run.steps_per_call,
        "loop_over_bare": ratio(times, "loop", "bare"),
        "loop_over_chunk": ratio(times, "loop", "chunk"),
        "python_over_loop": ratio(times, "python", "loop"),
        "share_outside_device_compute": max(0.0, 1 - 1 / ratio(times, "loop", "chunk")),
    }
    print(
        f"{name:5} K={result['steps_per_call']:<4} "
        + "  ".join(f"{k} {statistics.median(v):.3f} ms" for k, v in times.items())
    )
    print(
        f"      loop/bare {result['loop_over_bare']:.3f}   python/loop {result['python_over_loop']:.3f}   "
        f"outside device compute {result['share_outside_device_compute']:.1%}"
    )
    return result


def bench_seeds(name: str, exp: Experiment, steps: int, rounds: int, steps_per_call: int) -> dict:
    modes = {mode: Loop(session_of(exp, steps_per_call, (0, 1, 2), mode)) for mode in ("unroll", "vmap")}
    solo = Loop(session_of(exp, steps_per_call))
    times = measure(modes | {"three solo runs": lambda steps: solo(3 * steps)}, steps, rounds)
    result = {f"{mode}_over_solo": ratio(times, mode, "three solo runs") for mode in modes}
    print(f"{name:5} three seeds in one program / three runs:  " + "  ".join(f"{k} {v:.2f}" for k, v in result.items()))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps_per_call", type=int, default=0, help="steps of a chunk; 0 as the loop would choose")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    count, times = arguments.steps_per_call, 1 if jax.default_backend() == "cpu" else 10
    for name, build, steps in [("mlp", mlp_experiment, 200), ("yoto", yoto_experiment, 20)]:
        exp = build()
        run = session_of(exp, count).run
        steps = math.ceil(steps * times / run.steps_per_call) * run.steps_per_call  # whole chunks
        with jax.set_mesh(run.mesh):
            results[name] = bench_loop(name, exp, steps, arguments.rounds, count)
            results[f"{name}_seeds"] = bench_seeds(name, exp, steps, arguments.rounds, count)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
