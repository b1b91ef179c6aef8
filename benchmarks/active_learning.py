"""Times the parts of a round of active learning: training, acquisition, test, calibration.

    python benchmarks/active_learning.py [--quick] [--out=benchmarks/results/active_learning-cpu.json]

Acquisition: images a second with T = 20 passes, whole passes of the network ("naive") against one pass of the trunk and
T of the last two layers ("cached"), in turn, for VGG-16 on 32×32 images and for the network of the preset `small`.
"Naive" has the first dense layer on the 7×7 map, as the published network runs it; "folded" whole passes with the
folded layer. Shares of a round are those of the paper's round in the middle (8,000 labels of a pool of 70,000, 10,000
images each of calibration, validation and test), from the measured times of a step, an image and an epoch.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from measuring import new_report, save

sys.path.insert(0, str(Path(__file__).parents[1]))
from jaxrepro.config import OptimConfig
from jaxrepro.experiment import Context
from jaxrepro.models import vgg
from jaxrepro.models.trunk import prepare
from jaxrepro.training import active
from jaxrepro.training.acquisition import monte_carlo_logits
from jaxrepro.training.active import METHODS, ActiveTask
from jaxrepro.training.calibration import CalibrationConfig
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.pool import start_pool

PASSES = 20
NETWORKS = {
    "VGG-16, 32×32": (vgg.VGG16(26), 32),
    "small, 16×16": (vgg.VGG16(26, blocks=((16,), (32,), (64,)), hidden_size=128, pooled=2), 16),
}
LABELS, POOL, HELD_OUT, EPOCHS = 8_000, 70_000, 10_000, 10


def unfolded(model: vgg.VGG16, variables, images):
    """Returns `model.hidden` with the first dense layer on the pooled map."""
    params, x = variables["params"], images
    for i, block in enumerate(model.blocks):
        for j in range(len(block)):
            layer = params[f"Conv_{sum(map(len, model.blocks[:i])) + j}"]
            x = jax.nn.relu(vgg.Conv(block[j], (3, 3), padding=1).apply({"params": layer}, x))
        x = vgg.max_pool(x, (2, 2), (2, 2))
    x = vgg.adaptive_avg_pool(x, model.pooled).reshape(len(x), -1)
    return jax.nn.relu(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])


def acquisitions(model: vgg.VGG16):
    """Returns name -> jitted `(variables, images, key) -> logits [T, B, K]`."""

    def passes(one):
        return jax.jit(
            lambda v, x, key: jax.lax.map(lambda t: one(v, x, jax.random.fold_in(key, t)), jnp.arange(PASSES))
        )

    def naive(v, x, key):
        hidden = unfolded(model, v, jax.lax.optimization_barrier(x + 0 * jax.random.uniform(key)))
        return model.apply(v, hidden, True, method="classify", rngs={"dropout": key})

    def folded(v, x, key):  # the image depends on the pass, or the compiler would run the trunk once
        x = jax.lax.optimization_barrier(x + 0 * jax.random.uniform(key))
        return model.apply(v, x, True, rngs={"dropout": key})

    cached = jax.jit(lambda v, x, key: monte_carlo_logits(model, v, x, key, PASSES))
    return {"naive": passes(naive), "folded": passes(folded), "cached": cached}


def time_in_turn(programs, repetitions):
    """Returns name -> fastest and median seconds; all are compiled before the clock starts."""
    for program in programs.values():
        jax.block_until_ready(program())
    times = {name: [] for name in programs}
    for _ in range(repetitions):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program())
            times[name].append(time.perf_counter() - start)
    return {name: {"fastest": min(t), "median": statistics.median(t)} for name, t in times.items()}


def measure_acquisition(model, size, batch, repetitions):
    """Returns images a second of the three forms, and the largest difference of their logits."""
    images = jnp.asarray(np.random.default_rng(0).random((batch, size, size, 3), np.float32))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images[:1], False))()
    key, forms = jax.random.key(1), acquisitions(model)
    logits = {name: np.asarray(form(variables, images, key)) for name, form in forms.items()}
    times = time_in_turn({n: lambda f=f: f(variables, images, key) for n, f in forms.items()}, repetitions)
    rates = {name: batch / t["fastest"] for name, t in times.items()}
    return {
        "batch": batch,
        "images_per_second": rates,
        "cached_over_naive": rates["cached"] / rates["naive"],
        "cached_over_folded": rates["cached"] / rates["folded"],
        "largest_difference": float(max(np.abs(logits["cached"] - logits[n]).max() for n in ("naive", "folded"))),
    }


def measure_round(model, size, batch, repetitions):
    """Returns seconds of the paper's round in the middle by part, extrapolated from small ones, and their shares."""
    optimizer = make_optimizer(OptimConfig(name="sgd", lr=1e-3, momentum=0.9, nesterov=True, l2=5e-4), 1)
    calibration = CalibrationConfig(epochs=1, rates=(1e-3,))
    task = ActiveTask(model, prepare, optimizer, 1, PASSES, calibration=calibration, batch_size=batch)
    random = np.random.default_rng(0)
    images = jnp.asarray(random.integers(0, 256, (batch, size, size, 3), dtype=np.uint8))
    arrays = {"image": images, "label": jnp.asarray(random.integers(0, 26, batch))}
    method, context = METHODS["BALD Calibrated"], Context(0, 0, jax.random.key(0))

    def start():
        params = model.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), False)["params"]
        return active.start_learner(task, method, params, start_pool(jax.random.key(0), batch, 2), 2)

    learner = jax.jit(start)()
    train_batch = {k: a[:32] for k, a in arrays.items()} | {"mask": jnp.ones(32)}
    step = jax.jit(lambda learner: active.train_step(task, learner, train_batch, context)[0].params)
    score = jax.jit(lambda learner: active.scores(task, method, learner, images, context.key))
    test = jax.jit(lambda learner: active.test_learner(task, method, learner, arrays, context)[1])
    parts = {"calibration": arrays, "valid": arrays}
    calibrate = jax.jit(lambda learner: active.calibrate(task, learner, parts, context))
    programs = {"training": step, "acquisition": score, "test": test, "calibration": calibrate}
    found = time_in_turn({name: lambda p=p: p(learner) for name, p in programs.items()}, repetitions)
    times = {
        "training": EPOCHS * LABELS / 32,
        "acquisition": POOL / batch,
        "test": HELD_OUT / batch,
        "calibration": 2 * EPOCHS * HELD_OUT / batch,  # the trunk's one pass is counted with every epoch: too much
    }
    seconds = {name: found[name]["fastest"] * times[name] for name in programs}
    total = sum(seconds.values())
    return {"seconds": seconds, "share_percent": {name: 100 * s / total for name, s in seconds.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small network only, once")
    parser.add_argument("--out", type=Path, help="JSON file of all numbers")
    options = parser.parse_args()
    repetitions = 1 if options.quick else 3
    networks = list(NETWORKS.items())[1:] if options.quick else list(NETWORKS.items())
    found = {}
    for name, (model, size) in networks:
        batch = 64 if size == 32 else 256
        found[name] = measure_acquisition(model, size, batch, repetitions)
        rates = found[name]["images_per_second"]
        print(
            f"{name}: " + ", ".join(f"{k} {v:,.1f}" for k, v in rates.items()) + f" images/s at T = {PASSES}; "
            f"cached is {found[name]['cached_over_naive']:.1f} times naive, {found[name]['cached_over_folded']:.1f} "
            f"times folded; logits differ by {found[name]['largest_difference']:.1e} at most",
            flush=True,
        )
        found[name]["round"] = measure_round(model, size, batch, repetitions)
        shares = found[name]["round"]["share_percent"]
        print(f"{name}: a round is " + ", ".join(f"{v:.0f} % {k}" for k, v in shares.items()), flush=True)
    save(options.out, new_report(networks=found))


if __name__ == "__main__":
    main()
