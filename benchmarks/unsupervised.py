"""Images a second of training, and memory, of Synbols' five unlabelled encoders; Deep InfoMax with its savings or not.

    python benchmarks/unsupervised.py [--only=VAE] [--batch=32] [--out=benchmarks/results/unsupervised-cpu.json]

The networks as published, on random images, without probes. A step is forward, backward and Adam, ours inside one
compiled loop. Its share of the rate of a large matrix product, timed in the same round, counts three forward passes of
two FLOP per multiply-add. Memory is what XLA's analysis says a step's temporary arrays take. "Deep InfoMax, naive"
shifts the maps and sends them through both discriminators once more; its share counts the same work. Where PyTorch is
installed (`pip install torch`), the same networks in plain PyTorch take turns with ours, the channels first and last;
ratios are those of images a second within a round, ours to the better of both: the median, with the range.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro import __version__
from jaxrepro.config import OptimConfig
from jaxrepro.experiment import Context
from jaxrepro.models.infomax import DeepInfoMax
from jaxrepro.models.representations import RepresentationConfig, make_network
from jaxrepro.training import representation
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.representation import Autoencoder, InfoMax, Task

HAS_TORCH = importlib.util.find_spec("torch") is not None
NAIVE = "Deep InfoMax, naive"
GMACS = {  # of a forward pass of one image, from the shapes; Deep InfoMax without its savings
    "Deep InfoMax": 1.828,
    NAIVE: 1.828,
    "VAE": 1.610,
    "HVAE (2 level)": 1.707,
    "VAE ResNet": 0.709,
    "HVAE (2 level) ResNet": 0.799,
}
MATRIX = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


class NaiveInfoMax(DeepInfoMax):
    """Both discriminators see the maps twice, as they are and shifted by one image."""

    def pairs(self, maps, codes):
        shifted = jnp.roll(maps, -1, axis=0)
        discriminators = {"local": self.local_discriminator, "global": self.global_discriminator}
        return {k: (score(maps, codes)[0], score(shifted, codes)[0]) for k, score in discriminators.items()}


def make_task(name: str) -> Task:
    config = RepresentationConfig(name.removesuffix(", naive"))
    network = make_network(config, (32, 32, 3))
    if name == NAIVE:
        fields = ("encoder", "hidden", "global_channels", "prior_hidden")
        network = NaiveInfoMax(**{field: getattr(network, field) for field in fields})
    method = Autoencoder(network, lambda step: jnp.float32(0.01)) if config.is_autoencoder else InfoMax(network)
    return Task(method, lambda images: images / 127.5 - 1, make_optimizer(OptimConfig(lr=1e-4), 1000), {})


class Ours:
    """Training steps of one network inside one compiled loop."""

    def __init__(self, name: str, batch: int):
        task = make_task(name)
        pixels = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3)).astype(np.uint8)
        self.batch = {"image": jnp.asarray(pixels)}

        @jax.jit
        def init(key):
            return representation.init_learner(task, task.method.init(key, jnp.zeros((2, 32, 32, 3))), 1, key)

        def run(state, batch, count):
            def body(i, state):
                return representation.train_step(task, state, batch, Context(i, 0, jax.random.key(i)))[0]

            return jax.lax.fori_loop(0, count, body, state)

        self.state = init(jax.random.key(0))
        self.compiled = jax.jit(run, donate_argnums=0).lower(self.state, self.batch, jnp.int32(1)).compile()
        self.temporary_mb = self.compiled.memory_analysis().temp_size_in_bytes / 2**20

    def seconds(self, steps: int) -> float:
        """Returns the seconds of one step, the mean of `steps`."""
        start = time.perf_counter()
        self.state = jax.block_until_ready(self.compiled(self.state, self.batch, jnp.int32(steps)))
        return (time.perf_counter() - start) / steps


def matmul_rate() -> float:
    """Returns FLOP/s of a large float32 matrix product, the best of three."""
    size = MATRIX.get(jax.default_backend(), 2048)
    a, product, best = jnp.ones((size, size)), jax.jit(jnp.matmul), float("inf")
    for i in range(4):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start) if i else best
    return 2 * size**3 / best


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(names: list[str], batch: int, rounds: int, seconds: float, peer) -> dict:
    """Returns what was found for networks that take turns within a round."""
    ours = {name: Ours(name, batch) for name in names}
    counts = {}
    for name, program in ours.items():
        program.seconds(1)
        counts[name] = max(1, round(seconds / program.seconds(1)))
    rates, shares = ({name: [] for name in names} for _ in range(2))
    torch_rates = {(name, layout): [] for name in names for layout in ("nchw", "nhwc") if peer and name != NAIVE}
    for name, layout in torch_rates:
        peer.seconds(name, batch, layout == "nhwc")
    for _ in range(rounds):
        for name, program in ours.items():
            peak = matmul_rate()
            rates[name].append(batch / program.seconds(counts[name]))
            shares[name].append(rates[name][-1] * 3 * 2e9 * GMACS[name] / peak)
        for name, layout in torch_rates:
            time.sleep(0.1)  # the threads of the other library stop spinning
            torch_rates[name, layout].append(batch / peer.seconds(name, batch, layout == "nhwc", counts[name]))
    found = {}
    for name in names:
        found[name] = {
            "images_per_s": spread(rates[name]),
            "share_of_matmul": spread(shares[name]),
            "temporary_mb": round(ours[name].temporary_mb),
        }
        if (name, "nchw") in torch_rates:
            both = {layout: torch_rates[name, layout] for layout in ("nchw", "nhwc")}
            best = [max(pair) for pair in zip(*both.values(), strict=True)]
            found[name]["torch_images_per_s"] = {layout: spread(v) for layout, v in both.items()}
            found[name]["to_torch_best"] = spread([a / b for a, b in zip(rates[name], best, strict=True)])
    if NAIVE in names:
        ratios = [a / b for a, b in zip(rates["Deep InfoMax"], rates[NAIVE], strict=True)]
        found["Deep InfoMax"]["to_naive"] = spread(ratios)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only networks whose name contains this")
    parser.add_argument("--batch", type=int, default=32, help="published is 256, which needs more than 20 GB here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a sample")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    report = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "jaxrepro": __version__,
            "torch": importlib.metadata.version("torch") if HAS_TORCH else None,
        },
        "batch": args.batch,
        "networks": {},
    }
    peer = None
    if HAS_TORCH:
        from torch_peer import TorchPeer

        peer = TorchPeer()
    groups = (["Deep InfoMax", NAIVE], *([name] for name in GMACS if "InfoMax" not in name))
    print("| network                | images/s | of matmul | temporary MB | to PyTorch (range) | to naive (range) |")
    for names in groups:
        if not any(args.only in name for name in names):
            continue
        for name, found in measure(names, args.batch, args.rounds, args.seconds, peer).items():
            report["networks"][name] = found
            ratios = [
                "{median:.2f} ({low:.2f} to {high:.2f})".format(**found[k]) if k in found else "–"
                for k in ("to_torch_best", "to_naive")
            ]
            print(
                f"| {name:22} | {found['images_per_s']['median']:8.1f} | {found['share_of_matmul']['median']:9.0%} | "
                f"{found['temporary_mb']:12,} | {ratios[0]:18} | {ratios[1]:16} |",
                flush=True,
            )
        jax.clear_caches()
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
