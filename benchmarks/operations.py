"""Where the time of a training step goes, by kind of operation.

    python benchmarks/operations.py [--only=ResNet-12] [--rounds=3] [--out=benchmarks/results/operations-cpu.json]

Every convolution, normalisation and maximum pooling of a network is timed alone, in the shapes it has in the network
at batch 64: forward, and both gradients together. The whole step (forward, backward, Adam) is timed in turn with them;
what the parts do not explain is "rest": dense layers, rectifiers, dropout, optimizer. Milliseconds, the fastest of the
rounds. Only public layers are used, so the file also runs in an older checkout, to compare: `--label` names the column.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrepro.layers import Conv, conv2d, max_pool, pooling
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.models.classifiers import make_classifier

BATCH = 64
KINDS = ("convolutions, forward", "convolutions, gradients", "normalisation", "pooling", "rest", "step")


def random(shape) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def operations(model: nn.Module, images: jax.Array) -> Counter:
    """Returns how often the network computes each (kind, shapes and options)."""
    found, pool = Counter(), pooling.max_pool

    def watch(next_function, args, kwargs, context):
        y = next_function(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and isinstance(module, Conv):
            strides = module.strides if isinstance(module.strides, int) else tuple(module.strides)
            kernel = module.variables["params"]["kernel"].shape
            found["conv", args[0].shape, kernel, strides, module.padding] += 1
        if context.method_name == "__call__" and isinstance(module, BatchNorm):
            found["norm", args[0].shape] += 1
        return y

    def watched_pool(x, window, strides=None, padding="VALID"):
        found["pool", x.shape, tuple(window), tuple(strides), padding] += 1
        return pool(x, window, strides, padding)

    module = sys.modules[type(model).__module__]
    module.max_pool = watched_pool
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images[:2], False))
    found.clear()
    try:
        with nn.intercept_methods(watch):
            jax.eval_shape(lambda v: model.apply(v, images, False), variables)
    finally:
        module.max_pool = pool
    return found


def programs(operation: tuple) -> dict[str, callable]:
    """Returns kind -> a program without arguments."""
    kind, shape, *options = operation
    x = random(shape)
    if kind == "conv":
        kernel_shape, strides, padding = options
        kernel = random(kernel_shape) * 0.02
        call = lambda x, w: conv2d(x, w, strides, padding)  # noqa: E731
        forward = jax.jit(call)
        g = forward(x, kernel)
        first = shape[3] == 3  # nobody asks for the gradient of the images
        wanted = (lambda x, w, g: jax.vjp(lambda w: call(x, w), w)[1](g)) if first else (
            lambda x, w, g: jax.vjp(call, x, w)[1](g))  # fmt: skip
        gradients = jax.jit(wanted)
        return {KINDS[0]: lambda: forward(x, kernel), KINDS[1]: lambda: gradients(x, kernel, g)}
    if kind == "norm":
        norm = BatchNorm()
        variables = norm.init(jax.random.key(0), x, True)

        def both(x, scale):
            params = variables["params"] | {"scale": scale}
            return norm.apply(variables | {"params": params}, x, True, mutable=["batch_stats"])[0]

        run = jax.jit(lambda x, scale: (lambda y, back: (y, back(y)))(*jax.vjp(both, x, scale)))
        return {KINDS[2]: lambda: run(x, variables["params"]["scale"])}
    run = jax.jit(lambda x: (lambda y, back: (y, back(y)))(*jax.vjp(lambda x: max_pool(x, *options), x)))
    return {KINDS[3]: lambda: run(x)}


def whole_step(model: nn.Module, images: jax.Array):
    tx, labels = optax.adam(4e-4), jnp.zeros(len(images), int)
    variables = {"batch_stats": {}} | dict(jax.jit(lambda k: model.init(k, images[:2], False))(jax.random.key(0)))

    def step(state):
        params, stats, moments = state

        def loss(params):
            logits, new = model.apply(
                {"params": params, "batch_stats": stats}, images, True, mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )  # fmt: skip
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new.get("batch_stats", {})

        grads, stats_ = jax.grad(loss, has_aux=True)(params)
        updates, moments = tx.update(grads, moments)
        return optax.apply_updates(params, updates), stats_, moments

    step = jax.jit(step, donate_argnums=0)  # as the loop does: without it Adam's results need fresh pages every step
    state = [(variables["params"], variables["batch_stats"], tx.init(variables["params"]))]

    def run():
        state[0] = step(state[0])
        return state[0]

    return run


def seconds(run) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def measure(name: str, rounds: int) -> dict[str, float]:
    model, images = make_classifier(name, 26), random((BATCH, 32, 32, 3))
    timed = [("step", whole_step(model, images), 1)]
    for operation, count in operations(model, images).items():
        timed += [(kind, run, count) for kind, run in programs(operation).items()]
    best = [float("inf")] * len(timed)
    for i in range(rounds + 1):
        for j, (_, run, _) in enumerate(timed):
            best[j] = min(best[j], seconds(run)) if i else (seconds(run), best[j])[1]
    ms = dict.fromkeys(KINDS, 0.0)
    for (kind, _, count), once in zip(timed, best):
        ms[kind] += 1e3 * count * once
    ms["rest"] = ms["step"] - sum(ms[kind] for kind in KINDS[:4])
    return ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="ResNet-12,VGG-16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--label", default="now")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    report = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    for name in args.only.split(","):
        found = measure(name, args.rounds)
        report.setdefault(name, {})[args.label] = {kind: round(ms, 1) for kind, ms in found.items()}
        print(f"{name}, {args.label}: " + ", ".join(f"{kind} {ms:.0f}" for kind, ms in found.items()), flush=True)
        if args.out:
            args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
