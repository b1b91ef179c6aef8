"""Times the strategies of the scale-equivariant convolutions over sizes and channels, with their memory.

    python benchmarks/steerable_conv.py [--quick] [--out=benchmarks/results/steerable-conv-cpu.json]

A case is one scale of a layer of STL-10's basis (7×7 pixels, three scales, supports 3, 5 and 7): forward and both
gradients, inside a compiled loop, where training runs. All strategies of a case in turn and repeatedly; the fastest
repetition counts, in milliseconds per image. `choice` is what the layer takes by itself, `regret` its time over that of
the fastest. MiB are XLA's analysis of the temporaries. What would take more than 4 GiB is compiled but not run.
"""

import argparse
import functools
import json
import platform
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.path.insert(0, str(Path(__file__).parents[1]))
from jaxrepro.layers import SteerableBasis, Strategy, geometric_scales, scale_conv_maps, single_level_functions
from jaxrepro.layers.cpu.geometry import Geometry
from jaxrepro.layers.steerable_conv import choose_strategy

SIZES, CHANNELS = (12, 24, 48, 96), (16, 64, 256, 512)
WIDTHS = geometric_scales(0.9, 1.41**2, 3, decimals=None)
SUPPORTS = (3, 5, 7)
LOOP_STEPS, MOST_MIB, MOST_MACS = 2, 4096, 6e10  # a case of more multiply-adds has a smaller batch, or is left out


def basis_of(support: int) -> SteerableBasis:
    """One scale alone, with the width that it has in the network; its support is the whole kernel."""
    return SteerableBasis(support, (WIDTHS[SUPPORTS.index(support)],), single_level_functions(3))


def batch_for(size: int, channels: int) -> int:
    macs = size**2 * channels**2 * 49
    return int(min(16, max(1, MOST_MACS // (3 * macs))))


def program(strategy: Strategy, support: int, size: int, channels: int, batch: int):
    """Returns a compiled loop of training steps of one layer, and its arguments."""
    padded = strategy is Strategy.PADDED  # the largest kernel stands for a smaller one that is filled up to it
    basis, chosen = (basis_of(SUPPORTS[-1]), Strategy.CROPPED) if padded else (basis_of(support), strategy)
    draw = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    x = jnp.asarray(draw((batch, size, size, channels)))
    w = jnp.asarray(draw((basis.num_functions, 1, channels, channels))) * 0.01

    def layer(x, w):
        return scale_conv_maps((x,), w, basis, strategy=chosen)[0]

    def step(_, carry):
        x, w, _ = carry
        y, pull_back = jax.vjp(layer, x, w)
        dx, dw = pull_back(y)
        return x - 1e-9 * dx, w - 1e-9 * dw, y

    carry = (x, w, jnp.zeros_like(x))
    run = jax.jit(lambda carry: lax.fori_loop(0, LOOP_STEPS, step, carry)).lower(carry).compile()
    return run, carry


def measure(support: int, size: int, channels: int, repetitions: int) -> dict:
    batch, runs, row = batch_for(size, channels), {}, {}
    for strategy in Strategy:
        if strategy is Strategy.PADDED and support == SUPPORTS[-1]:
            continue  # the same as cropped
        run, carry = program(strategy, support, size, channels, batch)
        mib = run.memory_analysis().temp_size_in_bytes / 2**20
        row[str(strategy)] = {"mib": round(mib, 1)}
        if mib <= MOST_MIB:
            jax.block_until_ready(run(carry))
            runs[strategy] = (run, carry, [])
    for _ in range(repetitions):
        for run, carry, times in runs.values():
            begin = time.perf_counter()
            jax.block_until_ready(run(carry))
            times.append(1e3 * (time.perf_counter() - begin) / LOOP_STEPS / batch)
    for strategy, (_, _, times) in runs.items():
        row[str(strategy)]["ms"] = round(min(times), 3)
    pads = ((support // 2,) * 2,) * 2
    geometry = Geometry((size, size), (support, support), (1, 1), pads)
    choice = str(choose_strategy(geometry, batch, channels, channels, jnp.dtype("float32")))
    fastest = min(r["ms"] for r in row.values() if "ms" in r)
    regret = row[choice]["ms"] / fastest if "ms" in row[choice] else None
    return {"support": support, "size": size, "channels": channels, "batch": batch, "choice": choice,
            "regret": regret and round(regret, 3), **row}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two sizes and channels, one repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "steerable-conv-cpu.json")
    args = parser.parse_args()
    sizes, channels = (SIZES[:2], CHANNELS[:2]) if args.quick else (SIZES, CHANNELS)
    report = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "rows": [],
    }
    for c in channels:
        for size in sizes:
            if size**2 * c**2 * 49 * 3 > MOST_MACS:
                print(f"{c} channels at {size}²: left out, too slow here", flush=True)
                continue
            for support in SUPPORTS:
                row = measure(support, size, c, 1 if args.quick else args.repetitions)
                report["rows"].append(row)
                print(row, flush=True)
                jax.clear_caches()
            new = args.out.with_suffix(".new")
            new.write_text(json.dumps(report, indent=1) + "\n")
            new.replace(args.out)


if __name__ == "__main__":
    main()
