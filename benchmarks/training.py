"""Images a second of training, ours beside the same networks in plain PyTorch, alternating in one run.

    python benchmarks/training.py [--only="ResNet-12,VGG-16"] [--rounds=5] [--out=benchmarks/results/training-cpu.json]

A step is forward, backward and Adam on random images, without augmentation: ours inside a compiled loop, as the
training loop runs it, and "outside", called from Python; PyTorch's (an optional peer, `pip install torch`) with its
modules and its default Adam, eager, in both of its memory layouts. On CPU PyTorch has two threads and JAX one per core
that it may use (`taskset -c 0,1` makes that two). Where JAX finds a GPU both use it, and PyTorch is timed in two more
ways, with its step captured as a CUDA graph. One round times each way once, by so many steps as took --seconds outside
the loop, at most 200; ratios are those of images a second within a round, ours inside to PyTorch's: the median over
rounds, with their range.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import new_report, save, spread
from torch_peer import TorchPeer

from jaxrepro.losses import vae as losses
from jaxrepro.models.classifiers import make_classifier
from jaxrepro.models.conv_vae import ConvVAE, VAEConfig, positive
from jaxrepro.models.dcgan import DCGANConfig, Discriminator, Generator
from jaxrepro.models.scale.methods import make_model

HAS_TORCH = importlib.util.find_spec("torch") is not None
TORCH_VERSION = importlib.metadata.version("torch") if HAS_TORCH else None


class Problem(NamedTuple):
    """step(state, images, labels, key) -> state, and its first arguments."""

    step: Callable[..., Any]
    state: Any
    images: jax.Array
    labels: jax.Array


def random_images(batch: int, size: int, channels: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (batch, size, size, channels)), jnp.float32)


def classifier(model, batch: int, size: int, channels: int, classes: int) -> Problem:
    tx, images = optax.adam(4e-4), random_images(batch, size, channels)
    labels = jnp.asarray(np.random.default_rng(1).integers(0, classes, batch))
    variables = {"batch_stats": {}} | dict(jax.jit(lambda k: model.init(k, images[:2], False))(jax.random.key(0)))

    def step(state, images, labels, key):
        params, batch_stats, moments = state

        def loss(params):
            given = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(given, images, True, mutable=["batch_stats"], rngs={"dropout": key})
            cost = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return cost, new.get("batch_stats", {})

        grads, batch_stats = jax.grad(loss, has_aux=True)(params)
        updates, moments = tx.update(grads, moments)
        return optax.apply_updates(params, updates), batch_stats, moments

    return Problem(step, (variables["params"], variables["batch_stats"], tx.init(variables["params"])), images, labels)


def yoto(batch: int) -> Problem:
    """The released CIFAR-10 net and its loss, one beta per image."""
    model, tx, images = ConvVAE(VAEConfig()), optax.adamw(1e-4, weight_decay=1e-5), random_images(batch, 32, 3)
    low, high = np.log(0.125), np.log(512.0)

    def step(state, images, labels, key):
        params, moments = state
        beta_key, sample_key = jax.random.split(key)
        beta = jnp.exp(jax.random.uniform(beta_key, (len(images),), minval=low, maxval=high))

        def loss(params):
            posterior, output = model.apply({"params": params}, images, beta, sample_key)
            mean, raw = jnp.split(output, 2, axis=-1)
            nll = losses.gaussian_nll(images, mean, positive(raw))
            return (nll + beta * losses.gaussian_kl(posterior.mean, posterior.std)).mean()

        updates, moments = tx.update(jax.grad(loss)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    key = jax.random.key(0)
    params = jax.jit(lambda key: model.init(key, images[:2], jnp.ones(2), key)["params"])(key)
    return Problem(step, (params, tx.init(params)), images, jnp.zeros(batch, int))


def dcgan(batch: int) -> Problem:
    """The PyTorch tutorial's nets and step at 64 pixels: the discriminator, then the generator on the same fakes."""
    config, tx = DCGANConfig(), optax.adam(2e-4, b1=0.5)
    nets, images = (Generator(config), Discriminator(config)), random_images(batch, 64, 3)
    z = jnp.zeros((2, config.latent))
    inputs = (z, images[:2])
    made = [jax.jit(lambda k, n=n, x=x: n.init(k, x, train=True))(jax.random.key(0)) for n, x in zip(nets, inputs)]
    state = tuple((v["params"], v["batch_stats"], tx.init(v["params"])) for v in made)

    def run(i, params, stats, x):
        y, new = nets[i].apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
        return y, new["batch_stats"]

    def cost(logits, real):
        return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, real)).mean()

    def step(state, images, labels, key):
        (generator, generator_stats, moments), (critic, critic_stats, critic_moments) = state
        z = jax.random.normal(key, (len(images), config.latent))
        fakes, pull_back, generator_stats = jax.vjp(lambda p: run(0, p, generator_stats, z), generator, has_aux=True)

        def critic_loss(params):
            real, stats = run(1, params, critic_stats, images)
            fake, stats = run(1, params, stats, fakes)
            return cost(real, 1.0) + cost(fake, 0.0), stats

        grads, critic_stats = jax.grad(critic_loss, has_aux=True)(critic)
        updates, critic_moments = tx.update(grads, critic_moments)
        critic = optax.apply_updates(critic, updates)

        def generator_loss(fakes):
            logits, stats = run(1, critic, critic_stats, fakes)
            return cost(logits, 1.0), stats

        pull, critic_stats = jax.grad(generator_loss, has_aux=True)(fakes)
        updates, moments = tx.update(pull_back(pull)[0], moments)
        generator = optax.apply_updates(generator, updates)
        return (generator, generator_stats, moments), (critic, critic_stats, critic_moments)

    return Problem(step, state, images, jnp.zeros(batch, int))


BATCHES = {"DCGAN 64": 64, "YOTO": 128, "SESN's CNN": 128}
NETWORKS = ("ResNet-12", "WRN-28-4", "Conv-4 GAP", "VGG-16", "DCGAN 64", "YOTO", "SESN's CNN")


def make_problem(name: str, batch: int) -> Problem:
    if name == "DCGAN 64":
        return dcgan(batch)
    if name == "YOTO":
        return yoto(batch)
    if name == "SESN's CNN":
        return classifier(make_model("CNN", 28), batch, 28, 1, 10)
    return classifier(make_classifier(name, 26), batch, 32, 3, 26)


class Ours:
    """Programs of some steps, inside one compiled loop or called one by one; both return seconds per step."""

    def __init__(self, problem: Problem, clock):
        self.problem, self.clock = problem, clock
        self._jitted = jax.jit(problem.step, donate_argnums=0)
        self._loop = jax.jit(self._steps, static_argnums=1, donate_argnums=0)
        self.state = problem.state

    def _steps(self, state, count, images, labels):
        keys = jax.random.split(jax.random.key(1), count)
        return jax.lax.scan(lambda s, key: (self.problem.step(s, images, labels, key), None), state, keys)[0]

    def inside(self, steps: int) -> float:
        start = self.clock()
        self.state = jax.block_until_ready(self._loop(self.state, steps, self.problem.images, self.problem.labels))
        return (self.clock() - start) / steps

    def outside(self, steps: int) -> float:
        keys = jax.block_until_ready(list(jax.random.split(jax.random.key(1), steps)))
        start = self.clock()
        for key in keys:
            self.state = self._jitted(self.state, self.problem.images, self.problem.labels, key)
        jax.block_until_ready(self.state)
        return (self.clock() - start) / steps


def measure(name: str, peer: TorchPeer | None, rounds: int, seconds: float, clock) -> dict:
    """Returns images a second of every way, medians and ranges over rounds, and ratios to PyTorch."""
    batch = BATCHES.get(name, 64)
    ours = Ours(make_problem(name, batch), clock)
    ways = {"inside": ours.inside, "outside": ours.outside}
    others = peer.ways if peer is not None else {}
    for way, (last, graph) in others.items():
        ways[way] = functools.partial(peer.seconds, name, batch, last, graph=graph)
    steps = {}
    for way in reversed(ways):
        if way != "inside":
            ways[way](1)
            steps[way] = max(1, min(200, round(seconds / ways[way](1))))
    steps["inside"] = steps["outside"]
    for way, run in ways.items():
        run(steps[way])  # compiles the loop of this length
    rates = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            time.sleep(0.1)  # the threads of the other library stop spinning
            rates[way].append(batch / run(steps[way]))
    found = {"batch": batch, "steps": steps, "images_per_s": {way: spread(found) for way, found in rates.items()}}
    if peer is not None:
        best = [max(found) for found in zip(*(rates[way] for way in others))]
        found["to_torch_nchw"] = spread([a / b for a, b in zip(rates["inside"], rates["torch nchw"])])
        found["to_torch_best"] = spread([a / b for a, b in zip(rates["inside"], best)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of networks, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a sample")
    parser.add_argument(
        "--processor_time", action="store_true", help="for a machine that others use too, on one core: taskset -c 0 …"
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON, beside those of other networks")
    args = parser.parse_args()
    backend = jax.default_backend()
    if args.processor_time and backend == "gpu":
        parser.error("--processor_time does not count what a GPU computes; leave it out")
    report = json.loads(args.out.read_text()) if args.out and args.out.exists() else {"networks": {}}
    clock, threads = (time.process_time, 1) if args.processor_time else (time.perf_counter, 2)
    peer = TorchPeer(threads, clock, "cuda" if backend == "gpu" else "cpu") if HAS_TORCH else None
    ways = (
        ["inside", "outside", *peer.ways, "to nchw (range)", "to the best (range)"] if peer else ["inside", "outside"]
    )
    print(f"| network     | {' | '.join(ways)} |")
    for name in [n for n in NETWORKS if not args.only or n in args.only.split(",")]:
        found = measure(name, peer, args.rounds, args.seconds, clock)
        report["networks"][name] = new_report(torch=TORCH_VERSION, torch_threads=threads, **found)
        cells = [f"{rate['median']:.4g}" for rate in found["images_per_s"].values()]
        for key in ("to_torch_nchw", "to_torch_best"):
            if key in found:
                cells.append("{median:.2f} ({low:.2f} to {high:.2f})".format(**found[key]))
        print(f"| {name:11} | {' | '.join(cells)} |", flush=True)
        jax.clear_caches()
        save(args.out, report)


if __name__ == "__main__":
    main()
