"""Counting: images per second of FCN8 with and without its wide border, and what blobs cost on the host.

    python benchmarks/counting.py [--small] [--rounds=5] [--out=benchmarks/results/counting-cpu.json]

All programs of a part take turns within a round; figures are medians over rounds.

  padding 100            the published network, all of its arithmetic
  shortcut               the same numbers, without that of the constant border
  padding 1              the network without the border
  forward, training      one image at a time; training with FCN8-L's loss and Adam
  forward, 8 images      a batch of validation
  host work              components, top-hat and watershed of one image; its share of a training step with the shortcut
  components             counting blobs of 64 masks: SciPy behind a callback, and label propagation on the device

Predictions are made up: a bump on every point, with noise, so that some blobs hold several points and some none.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))
from measuring import new_report, save, spread, time_in_turn

from jaxrepro import config_file
from jaxrepro.config import parse
from jaxrepro.experiment import Context
from jaxrepro.experiments import synbols_counting as experiment
from jaxrepro.models.fcn8 import FCN8, NARROW, WIDE
from jaxrepro.training import counting
from jaxrepro.training.blobs import SplitRule, background_weights, blob_counts
from jaxrepro.training.optim import make_optimizer

SIDE = 128
NETWORKS = {
    "padding 100": {"padding": WIDE, "shortcut": False},
    "shortcut": {"padding": WIDE, "shortcut": True},
    "padding 1": {"padding": NARROW},
}
NUM_POINTS = {"sparse": 4, "crowded": 28}
NUM_MASKS = 64


def make_task(small: bool, **options) -> counting.Task:
    config = parse(experiment.Config, config_file.load(f"configs/synbols_counting.py:{'small' if small else 'paper'}"))
    network = FCN8(2, config.trunk.blocks, config.trunk.hidden_size, config.trunk.dropout, **options)
    return counting.Task(network, counting.Blobs(), experiment.prepare, make_optimizer(config.optim, 1000), 6)


def made_up(num_images: int, num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (probabilities float32 [N, H, W], points bool [N, H, W])."""
    random = np.random.default_rng(0)
    points = np.zeros((num_images, SIDE, SIDE), bool)
    for at in points:
        at[tuple(random.integers(0, SIDE, (2, num_points)))] = True
    bumps = ndimage.gaussian_filter(points.astype(float), (0, 4, 4)) * 2 * np.pi * 16
    noise = ndimage.gaussian_filter(random.normal(size=points.shape), (0, 2, 2)) * 2
    return (1 / (1 + np.exp(-8 * (bumps + noise - 0.7)))).astype(np.float32), points


def propagated_counts(masks: jax.Array) -> jax.Array:
    """Returns the numbers of 8-connected components, int32 [N], of bool [N, H, W], without the host.

    Every pixel takes the smallest label of its neighbourhood, then that label's own, until nothing changes.
    """
    num_pixels = masks[0].size
    own = jnp.broadcast_to(jnp.arange(num_pixels).reshape(masks.shape[1:]), masks.shape)

    def spread(labels):
        near = jax.lax.reduce_window(labels, num_pixels, jax.lax.min, (1, 3, 3), (1, 1, 1), "SAME")
        near = jnp.where(masks, near, num_pixels).reshape(len(masks), -1)
        jumped = jnp.take_along_axis(near, jnp.minimum(near, num_pixels - 1), 1)
        return jnp.where(near < num_pixels, jumped, num_pixels).reshape(masks.shape)

    def changed(pair):
        return (pair[0] != pair[1]).any()

    first = jnp.where(masks, own, num_pixels)
    labels, _ = jax.lax.while_loop(changed, lambda pair: (spread(pair[0]), pair[0]), (spread(first), first))
    return (labels == own).sum((1, 2))


def network_programs(small: bool, images: np.ndarray, points: np.ndarray) -> dict[str, Callable]:
    first = make_task(small).network
    params = jax.jit(lambda k: first.init(k, jnp.zeros((1, 32, 32, 3)), False))(jax.random.key(0))["params"]
    programs = {}
    for name, options in NETWORKS.items():
        task = make_task(small, **options)
        forward = jax.jit(functools.partial(counting.logits_of, task))
        for batch in (1, 8):
            label = f"{name}, forward, {batch} image{'s' * (batch > 1)}"
            programs[label] = lambda f=forward, b=batch: f(params, images[:b])
        state = [jax.tree.map(jnp.copy, counting.start_counter(task, params))]  # no array twice: they are donated
        step = jax.jit(functools.partial(counting.train_step, task), donate_argnums=0)
        batch = {"image": jnp.asarray(images[:1]), "points": jnp.asarray(points[:1])}

        def train(step=step, state=state, batch=batch):
            state[0], metrics = step(state[0], batch, Context(jnp.int32(0), 0, jax.random.key(0)))
            return metrics["loss"]

        programs[f"{name}, training, 1 image"] = train
    return programs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the network of the preset small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    report = new_report(preset="small" if args.small else "paper", ms={})
    images = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
    host, components = {}, {}
    for kind, num_points in NUM_POINTS.items():
        probabilities, points = made_up(NUM_MASKS, num_points)
        masks = jnp.asarray(probabilities > 0.5)
        counts = {k: jax.jit(f) for k, f in (("SciPy", blob_counts), ("label propagation", propagated_counts))}
        np.testing.assert_array_equal(*(f(masks) for f in counts.values()))
        for name, f in counts.items():
            components[f"components, {kind}, 64 masks, {name}"] = functools.partial(f, masks)
        given = [(p > 0.5, p, at) for p, at in zip(probabilities[:16], points[:16])]
        for rule in SplitRule:
            host[f"host work, {kind}, {rule}, 16 images"] = lambda g=given, r=rule: [
                background_weights(*i, r) for i in g
            ]
    for programs in (components, host, network_programs(args.small, images, made_up(1, NUM_POINTS["sparse"])[1])):
        times = time_in_turn(programs, args.rounds)
        found = {label: spread(1000 * s for s in taken) for label, taken in times.items()}
        for label, ms in found.items():
            print(f"{label:48} {ms['median']:10.2f} ms ({ms['low']:.2f} to {ms['high']:.2f})", flush=True)
        report["ms"] |= found
    step = report["ms"]["shortcut, training, 1 image"]["median"]
    for kind in NUM_POINTS:
        work = report["ms"][f"host work, {kind}, {SplitRule.BENCHMARK}, 16 images"]["median"] / 16
        report[f"share of host work, {kind}"] = work / step
        print(f"host work of a training step with the shortcut, {kind}: {100 * work / step:.1f} %", flush=True)
    save(args.out, report)


if __name__ == "__main__":
    main()
