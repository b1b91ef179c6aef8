"""How accurate the strategies of the convolution on CPU are, and whether training notices.

    python benchmarks/conv_accuracy.py [--steps=500] [--out=benchmarks/results/conv-accuracy-cpu.json]

Errors are against the same map in float64: the largest difference over the largest number, and the root of the mean
squares of both. "trained" inputs are what the second to fourth convolutions of a Conv-4 with 64 channels and pooling
see and learn when it has been trained on digits, with the gradients of its loss; "random" ones are normal numbers of
the same shapes. The same network is then trained from the same weights on the same batches with every 3×3 convolution
computed in one way; two direct ways, which differ by rounding only, show how far apart curves get that mean the same.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

sys.path.insert(0, str(Path(__file__).parents[1]))
from jaxrepro.data import load_dataset
from jaxrepro.layers import Conv
from jaxrepro.layers.cpu import choose, correlate, winograd
from jaxrepro.layers.cpu.choose import Strategy
from jaxrepro.layers.cpu.geometry import Geometry
from jaxrepro.layers.xla import DIMENSION_NUMBERS
from jaxrepro.models.conv4 import Conv4

BATCH = 64
WAYS = (Strategy.LAX, Strategy.COLUMNS, Strategy.WINOGRAD)
MODEL = Conv4(10, channels=(64,) * 4, max_pooling=True)


def force(strategy: Strategy) -> None:
    """Computes every convolution in one way, as far as it can; the first layer and its like stay direct."""

    def chosen(geometry, batch, num_in, num_out, dtype):
        possible = strategy != Strategy.WINOGRAD or winograd.applies(geometry)
        return strategy if possible and min(num_in, num_out) >= 16 else Strategy.COLUMNS

    choose.spectrum_pays = lambda *shape: False
    choose.for_result = choose.for_kernel_gradient = chosen


def digits() -> tuple[np.ndarray, np.ndarray]:
    table = load_dataset("mnist5k")["train"]
    rows = table.take(np.arange(table.num_rows))
    images = rows["image"].astype(np.float32).reshape(-1, 28, 28, 1)
    return np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))) / 127.5 - 1, rows["label"]


def make_step(tx):
    def step(state, batch):
        params, stats, moments = state
        images, labels = batch

        def loss(params):
            logits, new = MODEL.apply({"params": params, "batch_stats": stats}, images, True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new["batch_stats"]

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = tx.update(grads, moments)
        return (optax.apply_updates(params, updates), stats, moments), value

    return step


def train(strategy: Strategy, images, labels, steps: int):
    """Returns (variables, losses [steps]) of the same training, its convolutions computed in one way."""
    force(strategy)
    variables = MODEL.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), False)
    tx = optax.adam(1e-3)
    rows = np.random.default_rng(0).integers(0, len(images), (steps, BATCH))
    state = (variables["params"], variables["batch_stats"], tx.init(variables["params"]))
    run = jax.jit(lambda state, batches: lax.scan(make_step(tx), state, batches))
    curve = []
    for start in range(0, steps, 50):
        chosen = rows[start : start + 50]
        state, values = run(state, (jnp.asarray(images[chosen]), jnp.asarray(labels[chosen])))
        curve.append(np.asarray(values))
        print(f"{strategy}: step {start + len(chosen)}, loss {values[-10:].mean():.4f}", flush=True)
    jax.clear_caches()
    return {"params": state[0], "batch_stats": state[1]}, np.concatenate(curve)


def layers_of(variables, images, labels) -> list[tuple[np.ndarray, ...]]:
    """Returns (x, kernel, gradient of the result) of the second and later convolutions."""
    seen = []

    def watch(next_function, args, kwargs, context):
        y = next_function(*args, **kwargs)
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            seen.append((args[0], context.module.variables["params"]["kernel"]))
            y = y + offsets[len(seen) - 1]
        return y

    def loss(given):
        nonlocal offsets
        offsets = given
        seen.clear()
        with nn.intercept_methods(watch):
            logits = MODEL.apply(variables, images, True, mutable=["batch_stats"])[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    offsets = [jnp.zeros((len(images), n, n, 64)) for n in (32, 32, 16, 8)]
    grads = jax.grad(loss)(offsets)
    offsets = [0.0] * 4
    seen.clear()
    loss(offsets)
    return [tuple(map(np.asarray, (x, kernel, g))) for (x, kernel), g in list(zip(seen, grads))[1:]]


def exact(x, kernel, g) -> dict[str, np.ndarray]:
    with jax.enable_x64(True):
        x, kernel, g = (jnp.asarray(a, jnp.float64) for a in (x, kernel, g))
        conv = functools.partial(
            lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=DIMENSION_NUMBERS
        )
        y, pull_back = jax.vjp(conv, x, kernel)
        dx, dw = pull_back(g)
        return {"result": np.asarray(y), "input gradient": np.asarray(dx), "kernel gradient": np.asarray(dw)}


def errors(strategy: Strategy, x, kernel, g, truth) -> dict[str, dict[str, float]]:
    geometry = Geometry(x.shape[1:3], kernel.shape[:2], (1, 1), ((1, 1), (1, 1)))
    x, kernel, g = map(jnp.asarray, (x, kernel, g))
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    found = {"result": correlate.RESULTS[strategy](x, kernel, geometry)}
    if strategy == Strategy.WINOGRAD:
        found["input gradient"], found["kernel gradient"] = winograd.gradients(x, kernel, g, geometry)
    else:
        found["input gradient"] = correlate.RESULTS[strategy](g, flipped, geometry)
        if strategy in correlate.KERNEL_GRADIENTS:
            found["kernel gradient"] = correlate.KERNEL_GRADIENTS[strategy](x, g, geometry)
    return {
        name: {
            "largest": float(np.abs(value - truth[name]).max() / np.abs(truth[name]).max()),
            "root_mean_square": float(np.sqrt(np.mean((value - truth[name]) ** 2) / np.mean(truth[name] ** 2))),
        }
        for name, value in ((n, np.asarray(v, float)) for n, v in found.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--ways", default=",".join(WAYS), help="trained in; the first yields the inputs to test with")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    ways = [Strategy(name) for name in args.ways.split(",")]
    images, labels = digits()
    report = {"command": f"python benchmarks/conv_accuracy.py --ways={args.ways}", "errors": {}, "training": {}}
    trained, curves = {}, {}
    for strategy in ways:
        trained[strategy], curves[strategy] = train(strategy, images, labels, args.steps)
    inputs = {"trained": layers_of(trained[ways[0]], jnp.asarray(images[:BATCH]), jnp.asarray(labels[:BATCH]))}
    generator = np.random.default_rng(0)
    inputs["random"] = [
        tuple(generator.standard_normal(a.shape, np.float32) for a in layer) for layer in inputs["trained"]
    ]
    for kind, layers in inputs.items():
        for x, kernel, g in layers:
            truth = exact(x, kernel, g)
            for strategy in Strategy:
                found = report["errors"][f"{kind}, {x.shape[1]}², {strategy}"] = errors(strategy, x, kernel, g, truth)
                cells = (f"{name} {e['largest']:.1e} (rms {e['root_mean_square']:.1e})" for name, e in found.items())
                print(f"{kind:8} {x.shape[1]:3}² {strategy:9} " + ", ".join(cells), flush=True)
    for strategy, curve in curves.items():
        means = curve.reshape(-1, 50).mean(1) if len(curve) % 50 == 0 else curve
        report["training"][str(strategy)] = {
            "loss_over_50_steps": [round(float(v), 5) for v in means],
            "mean_absolute_difference_to_first": (apart := float(np.abs(curve - curves[ways[0]]).mean())),
        }
        print(f"{strategy:9} last 50 losses {means[-1]:.4f}; mean |difference| to {ways[0]} {apart:.5f}")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
