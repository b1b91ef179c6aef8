"""Times a training step of the ten networks of the MNIST-scale table, and the strategies of the two SESN.

    python benchmarks/sesn.py [--quick] [--only=SESN] [--out=benchmarks/results/sesn-cpu.json]

A step is forward, backward and Adam on a batch of 128 inside `lax.scan`, as the training loop runs it. All
networks of a resolution are timed in turn and repeatedly in one process; the table shows the fastest repetition in ms,
which a busy machine disturbs least, its ratio to the plain CNN (Table 4 of the paper), and the memory that XLA's
analysis gives for temporaries. "cropped" and "padded" compute SESN with a convolution per scale, and as one
zero-padded convolution with XLA's gradients, which is the plain way to write it; "padded, unscanned" is the latter in a
jitted step that Python calls, where XLA's CPU backend has faster convolutions. What would take longer than a few
seconds a step is timed on a small batch and extrapolated ("~"). The CNN is always included.
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
PROBE_BATCH = 4
SCAN_STEPS = 2
SLOW_S = 4.0
OTHER_STRATEGIES = (Strategy.CROPPED, Strategy.PADDED)


class Trainer(NamedTuple):
    """A compiled program of SCAN_STEPS training steps, and what XLA says about its memory."""

    run: Callable[[], None]
    compile_s: float
    temporaries_mib: float


class Variant(NamedTuple):
    """A network and how to time it."""

    model: nn.Module
    may_be_slow: bool = False
    scanned: bool = True


def make_trainer(model: nn.Module, batch: int, scanned: bool) -> Trainer:
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.standard_normal((batch, 28, 28, 1), dtype=np.float32))
    labels = jnp.asarray(generator.integers(0, 10, batch))
    optimizer = optax.adam(0.01)
    variables = jax.jit(lambda key: model.init(key, images[:2], False))(jax.random.key(0))
    state = variables["params"], variables["batch_stats"], optimizer.init(variables["params"])

    def step(state, key):
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
    if scanned:
        program = jax.jit(lambda state: jax.lax.scan(step, state, keys)).lower(state).compile()
    else:
        program = jax.jit(step).lower(state, keys[0]).compile()
    compile_s = time.perf_counter() - start

    def run():
        if scanned:
            jax.block_until_ready(program(state))
            return
        carried = state
        for key in keys:
            carried, _ = program(carried, key)
        jax.block_until_ready(carried)

    return Trainer(
        run,
        compile_s,
        program.memory_analysis().temp_size_in_bytes / 2**20,
    )


def variants(resolution: int, only: str) -> dict[str, Variant]:
    result = {}
    for method in MODELS:
        if method == "CNN" or only.lower() in method.lower():
            result[method] = Variant(make_model(method, resolution))
            if method.startswith("SESN"):
                for strategy in OTHER_STRATEGIES:
                    slow = strategy is Strategy.PADDED
                    model = make_model(method, resolution, strategy=strategy)
                    result[f"{method}, {strategy}"] = Variant(model, slow)
                    if slow:
                        result[f"{method}, {strategy}, unscanned"] = Variant(model, slow, scanned=False)
    return result


def seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(resolution: int, only: str, repetitions: int) -> dict[str, dict]:
    """Returns name -> {min_ms, median_ms, to_cnn, temporaries_mib, compile_s, extrapolated}."""
    trainers, times, results = {}, {}, {}
    for name, (model, may_be_slow, scanned) in variants(resolution, only).items():
        if may_be_slow:
            probe = make_trainer(model, PROBE_BATCH, scanned)
            probe.run()
            once = seconds(probe.run) / SCAN_STEPS * BATCH / PROBE_BATCH
            if once > SLOW_S:
                results[name] = {"min_ms": 1e3 * once, "extrapolated": True}
                continue
        trainers[name] = make_trainer(model, BATCH, scanned)
        trainers[name].run()
        times[name] = []
    for _ in range(repetitions):
        for name, trainer in trainers.items():
            times[name].append(1e3 * seconds(trainer.run) / SCAN_STEPS)
    for name, trainer in trainers.items():
        results[name] = {
            "min_ms": min(times[name]),
            "median_ms": statistics.median(times[name]),
            "temporaries_mib": trainer.temporaries_mib,
            "compile_s": trainer.compile_s,
            "extrapolated": False,
        }
    for result in results.values():
        result["to_cnn"] = result["min_ms"] / results["CNN"]["min_ms"]
    return {name: results[name] for name in variants(resolution, only)}


def print_table(resolution: int, results: dict[str, dict]) -> None:
    print(f"\n{resolution}×{resolution}, batch {BATCH}")
    print(f"| {'method':30} | ms a step | to CNN | to ours | temporaries MiB | compile s |")
    for name, result in results.items():
        ours = results[name.partition(",")[0]]["min_ms"]
        mark = "~" if result["extrapolated"] else ""
        memory, compile_s = (f"{result[k]:.0f}" if k in result else "-" for k in ("temporaries_mib", "compile_s"))
        print(
            f"| {name:30} | {mark + format(result['min_ms'], '.0f'):>9} | {result['to_cnn']:6.2f} "
            f"| {result['min_ms'] / ours:7.2f} | {memory:>15} | {compile_s:>9} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="28×28 only, fewer repetitions")
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
        results = measure(resolution, args.only, 3 if args.quick else 6)
        report["results"][str(resolution)] = results
        print_table(resolution, results)
        jax.clear_caches()
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
