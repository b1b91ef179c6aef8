"""Times a training step of the ten networks of the MNIST-scale table, and the strategies of the two SESN.

    python benchmarks/sesn.py [--quick] [--only=SESN] [--out=benchmarks/results/sesn-cpu.json]

A step is forward, backward and Adam on a batch of 128 inside `lax.scan`, as the training loop runs it, four steps a
call. All networks of a resolution are timed in turn and repeatedly in one process; the table shows the fastest
repetition in ms, which a busy machine disturbs least, its ratio to the plain CNN (Table 4 of the paper), and the memory
that XLA's analysis gives for temporaries. At 28×28 SESN is also computed with a convolution per scale, with kernels of
their own support ("cropped") or filled up with zeros to the largest one ("padded"). The CNN is always included.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).parents[1]))
from jaxrepro.layers.steerable_conv import Strategy
from jaxrepro.models.scale.methods import MODELS, RESOLUTIONS, make_model

BATCH = 128
SCAN_STEPS = 4
OTHER_STRATEGIES = (Strategy.CROPPED, Strategy.PADDED)


class Trainer(NamedTuple):
    """A compiled program of SCAN_STEPS training steps, and what XLA says about its memory."""

    run: Callable[[], None]
    compile_s: float
    temporaries_mib: float


def make_trainer(model: nn.Module) -> Trainer:
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.standard_normal((BATCH, 28, 28, 1), dtype=np.float32))
    labels = jnp.asarray(generator.integers(0, 10, BATCH))
    optimizer = optax.adam(0.01)
    variables = jax.jit(lambda key: model.init(key, images[:2], False))(jax.random.key(0))
    state = variables["params"], variables["batch_stats"], optimizer.init(variables["params"])

    def step(state, key, images, labels):
        params, batch_stats, moments = state

        def loss(params):
            logits, new = model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new["batch_stats"]

        (value, batch_stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, updates), batch_stats, moments), value

    keys = jax.random.split(jax.random.key(1), SCAN_STEPS)
    start = time.perf_counter()
    arguments = state, images, labels  # as constants, what depends on the images alone would be computed once
    program = jax.jit(lambda state, *batch: jax.lax.scan(lambda s, k: step(s, k, *batch), state, keys))
    program = program.lower(*arguments).compile()
    compile_s = time.perf_counter() - start

    def run():
        jax.block_until_ready(program(*arguments))

    return Trainer(
        run,
        compile_s,
        program.memory_analysis().temp_size_in_bytes / 2**20,
    )


def variants(resolution: int, only: str) -> dict[str, nn.Module]:
    result = {}
    for method in MODELS:
        if method == "CNN" or only.lower() in method.lower():
            result[method] = make_model(method, resolution)
            if method.startswith("SESN") and resolution == 28:
                for strategy in OTHER_STRATEGIES:
                    result[f"{method}, {strategy}"] = make_model(method, resolution, strategy=strategy)
    return result


def seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(resolution: int, only: str, repetitions: int) -> dict[str, dict]:
    """Returns name -> {min_ms, median_ms, to_cnn, temporaries_mib, compile_s}."""
    trainers = {name: make_trainer(model) for name, model in variants(resolution, only).items()}
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for trainer in trainers.values():
        trainer.run()
    for _ in range(repetitions):
        for name, trainer in trainers.items():
            times[name].append(1e3 * seconds(trainer.run) / SCAN_STEPS)
    return {
        name: {
            "min_ms": min(times[name]),
            "median_ms": statistics.median(times[name]),
            "to_cnn": min(times[name]) / min(times["CNN"]),
            "temporaries_mib": trainer.temporaries_mib,
            "compile_s": trainer.compile_s,
        }
        for name, trainer in trainers.items()
    }


def print_table(resolution: int, results: dict[str, dict]) -> None:
    print(f"\n{resolution}×{resolution}, batch {BATCH}")
    print(f"| {'method':30} | ms a step | to CNN | to ours | temporaries MiB | compile s |")
    for name, result in results.items():
        ours = results[name.partition(",")[0]]["min_ms"]
        print(
            f"| {name:30} | {result['min_ms']:9.0f} | {result['to_cnn']:6.2f} | {result['min_ms'] / ours:7.2f} "
            f"| {result['temporaries_mib']:15.0f} | {result['compile_s']:9.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="28×28 only")
    parser.add_argument("--only", default="", help="only methods whose name contains this, and the CNN")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    report = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "batch": BATCH,
        "results": {},
    }
    for resolution in RESOLUTIONS[:1] if args.quick else RESOLUTIONS:
        results = measure(resolution, args.only, repetitions=3)
        report["results"][str(resolution)] = results
        print_table(resolution, results)
        jax.clear_caches()
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
