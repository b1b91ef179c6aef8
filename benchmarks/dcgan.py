"""How fast DCGAN trains at 32, 64 and 128 pixels, and what share of the device's matrix product that is.

    python benchmarks/dcgan.py [--sizes=32,64] [--batch_size=32] [--rounds=5] [--out=benchmarks/results/dcgan-cpu.json]

The tutorial's net on random images, the tutorial's step (both networks), through the compiled chunk of the real loop.
Work is counted as three forward passes of the generator and nine of the discriminator per image, two FLOP per
multiply-accumulate of the convolutions; nothing else is counted. The peak is a square float32 matrix product with
JAX's default precision, measured in turn with the training steps of each round; the share is the median over rounds.
"""

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro import config_file, loop
from jaxrepro.config import Precision, TrainConfig, parse
from jaxrepro.data import make_source, table_from_arrays
from jaxrepro.experiment import Experiment
from jaxrepro.experiments import dcgan
from jaxrepro.models.dcgan import DCGANConfig
from jaxrepro.training.optim import make_optimizer

MATRIX = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
GENERATOR_PASSES, DISCRIMINATOR_PASSES = 3, 9


def forward_macs(model: DCGANConfig) -> tuple[int, int]:
    """Returns the multiply-accumulates of one image through (generator, discriminator), convolutional ends."""
    ends = model.map_size**2 * model.widest
    generator, side, channels = model.latent * ends, model.map_size, model.widest
    for width, stride in model.transposed:
        generator += side**2 * model.kernel**2 * channels * width  # every input pixel is spread by the kernel
        side, channels = side * stride, width
    discriminator, side, channels = ends, model.image_size, model.image_channels
    for width, stride in model.convolutions:
        side //= stride
        discriminator += side**2 * model.kernel**2 * channels * width
        channels = width
    return generator, discriminator


def flop_per_step(config: dcgan.Config) -> float:
    generator, discriminator = forward_macs(config.model)
    per_image = GENERATOR_PASSES * generator + DISCRIMINATOR_PASSES * discriminator
    return 2.0 * per_image * config.train.batch_size


def make_config(size: int, batch_size: int, precision: str) -> dcgan.Config:
    config = parse(dcgan.Config, config_file.load("configs/dcgan.py:report"))
    return dataclasses.replace(
        config,
        precision=Precision(precision),
        model=dataclasses.replace(config.model, image_size=size),
        train=TrainConfig(duration="1000000 steps", batch_size=batch_size),
    )


class Chunk:
    """The compiled chunk of the loop, called again and again on one block."""

    def __init__(self, config: dcgan.Config):
        shape = (4 * config.train.batch_size, *config.model.image_shape)
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        source, draw = make_source(
            table_from_arrays("random", {"image": images}),
            config.train.batch_size,
            columns=("image",),
            resident_limit_mb=4096,
        )
        optimizer = make_optimizer(config.optim, 1_000_000, source.steps_per_epoch)
        experiment = Experiment(
            source=source,
            init=lambda context, given: dcgan.init_state(config, optimizer, context.key, given),
            update=dcgan.make_update(config, optimizer),
            draw=draw,
        )
        run = loop.Run(config, experiment)
        self.program, self.arrays, self.length = run.program, run.upload()["train"], run.steps_per_call
        self.mesh, self.ts = run.mesh, run.program.init()
        self.block = self.program.block(0, self.length)

    def seconds_per_step(self, num_steps: int) -> float:
        begun = time.monotonic()
        for start in range(0, num_steps, self.length):
            length = min(self.length, num_steps - start)
            self.ts, done = self.program.run(self.ts, length, self.block, self.arrays)
        done.block_until_ready()
        return (time.monotonic() - begun) / num_steps


def matmul_flops(repeats: int = 3) -> float:
    """Returns the FLOP/s of a square float32 matrix product, the best of some repeats."""
    n = MATRIX.get(jax.default_backend(), 2048)
    a = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        begun = time.monotonic()
        product(a).block_until_ready()
        best = min(best, time.monotonic() - begun)
    return 2 * n**3 / best


def bench(config: dcgan.Config, rounds: int, seconds: float) -> dict:
    """Returns steps/s and the share of the matrix product's rate, medians over rounds with their ranges."""
    flop = flop_per_step(config)
    chunk = Chunk(config)
    with jax.set_mesh(chunk.mesh):
        chunk.seconds_per_step(chunk.length if jax.default_backend() != "cpu" else 1)
        num_steps = max(1, round(seconds / chunk.seconds_per_step(1)))
        rates, shares = [], []
        for _ in range(rounds):
            peak = matmul_flops()
            rates.append(1 / chunk.seconds_per_step(num_steps))
            shares.append(rates[-1] * flop / peak)
    return {
        "size": config.model.image_size,
        "batch_size": config.train.batch_size,
        "precision": str(config.precision),
        "gflop_per_step": flop / 1e9,
        "steps_per_second": statistics.median(rates),
        "steps_per_second_range": [min(rates), max(rates)],
        "share_of_matmul": statistics.median(shares),
        "share_of_matmul_range": [min(shares), max(shares)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="32,64,128")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of training per round")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "jax": jax.__version__,
        "python": platform.python_version(),
        "runs": [],
    }
    for size in map(int, arguments.sizes.split(",")):
        found = bench(make_config(size, arguments.batch_size, arguments.precision), arguments.rounds, arguments.seconds)
        results["runs"].append(found)
        print(
            f"{size:4} px  batch {found['batch_size']}  {found['gflop_per_step']:8.1f} GFLOP/step  "
            f"{found['steps_per_second']:8.3f} steps/s  {100 * found['share_of_matmul']:5.1f} % of the matrix product"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
