"""A tiny experiment for tests of the core: a noisy linear fit with one of everything the contract offers."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrepro.config import CheckpointConfig, EvalConfig, LogConfig, RunConfig, TrainConfig
from jaxrepro.data import make_source, table_from_arrays
from jaxrepro.experiment import Evaluation, Evaluator, Experiment, Transition, When

WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)


@dataclass(frozen=True)
class Config(RunConfig):
    lr: float = 0.01


def config(**changes) -> Config:
    defaults = {
        "experiment": "toy",
        "name": "toy",
        "train": TrainConfig(duration="40 steps", batch_size=8),
        "log": LogConfig(every="10 steps"),
        "eval": EvalConfig(every="20 steps"),
        "checkpoint": CheckpointConfig(every="15 steps"),
    }
    return Config(**defaults | changes)


def build(config: Config, *, stop_at: int | None = None, poison_at: int | None = None) -> Experiment:
    """Fits w to y = x.WEIGHTS; `stop_at` raises the early-stop flag, `poison_at` makes the loss NaN at a step."""
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    table = table_from_arrays("toy", {"x": x, "y": x @ WEIGHTS})
    source, draw = make_source(table, config.train.batch_size, columns=("x", "y"), resident_limit_mb=1)
    tx = optax.adam(config.lr)

    def init(context, given):
        params = {"w": jax.random.normal(context.key, (3,))}
        return {"params": params, "opt": tx.init(params), "stopped": jnp.bool_(False)}

    def update(state, batch, context):
        def loss(params):
            noise = 0.1 * jax.random.normal(context.key, batch["y"].shape)
            return jnp.mean((batch["x"] @ params["w"] - batch["y"] + noise) ** 2)

        value, grads = jax.value_and_grad(loss)(state["params"])
        if poison_at is not None:
            value = jnp.where(context.step == poison_at, jnp.nan, value)
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {**state, "params": params, "opt": opt}, {"loss": value}

    def end_of_round(state, arrays, context):
        stopped = context.step >= stop_at if stop_at is not None else jnp.bool_(False)
        kick = 1e-3 * jax.random.normal(context.key, (3,))
        return {**state, "params": {"w": state["params"]["w"] + kick}, "stopped": stopped}, {}

    def evaluate(state, arrays, context):
        error = jnp.mean((arrays["x"] @ state["params"]["w"] - arrays["y"]) ** 2)
        picture = np.zeros((4, 4, 3), np.uint8)
        return Evaluation({"error": float(error)}, {"blank": picture})

    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=update,
        transitions=(Transition("round", When(every=12), end_of_round),),
        evaluators=(Evaluator("error", "test", When(every=20, end=True), evaluate, {"x": x, "y": x @ WEIGHTS}),),
        stopped=lambda state: state["stopped"],
    )
