"""Few-shot training: episodes per second of the three methods, and what batches, seeds and orders cost.

    python benchmarks/few_shot.py [--small] [--only=MAML] [--rounds=5] [--out=benchmarks/results/few_shot-cpu.json]

All programs of a method take turns within a round; figures are medians over rounds.

  1 episode      one optimisation step of one episode of 5 ways, 5 shots, 15 queries, 32×32 pixels
  8 episodes     one step on the mean of eight
  3 seeds        three learners of one episode each as one program, unrolled (not MAML's) or vmapped
  first order    MAML without the derivative of its steps
  evaluation     one episode without a gradient, images encoded for it
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measuring import new_report, save, spread, time_in_turn

from jaxrepro import config_file, seeds
from jaxrepro.config import SeedMode, parse
from jaxrepro.experiment import Context
from jaxrepro.experiments import synbols_few_shot as few_shot
from jaxrepro.training import episodic
from jaxrepro.training.optim import make_optimizer

NUM_CLASSES, PER_CLASS = 60, 60
NUM_SEEDS = 3
MODES = {"MAML": (SeedMode.VMAP,)}  # a learner takes 45 CPU seconds to compile; unrolled ones are as many learners
STEPS = {"ProtoNet": 4, "RelationNet": 4, "MAML": 1}  # in one dispatch; an episode of MAML is itself several steps


def make_task(name: str, small: bool, **method) -> episodic.Task:
    """Returns the task of the paper's (or the small) preset for a method."""
    config = config_file.load(f"configs/synbols_few_shot.py:{'small' if small else 'paper'}")
    for key, value in {"name": name, **method}.items():
        config_file.set_value(config, f"method.{key}", value)
    typed = parse(few_shot.Config, config)
    return episodic.Task(
        few_shot.make_method(typed), typed.episodes.shape, few_shot.prepare, make_optimizer(typed.optim, 1000, 500),
        typed.optim.plateau, 1, at_once=8,
    )  # fmt: skip


def make_arrays(side: int) -> dict[str, jax.Array]:
    images = np.random.default_rng(0).integers(0, 256, (NUM_CLASSES * PER_CLASS, side, side, 3), dtype=np.uint8)
    members = np.arange(len(images), dtype=np.int32).reshape(NUM_CLASSES, PER_CLASS)
    return {
        "image": jnp.asarray(images),
        "members": jnp.asarray(members),
        "counts": jnp.full(NUM_CLASSES, PER_CLASS, jnp.int32),
    }


def init(task: episodic.Task, side: int, key: jax.Array) -> episodic.Learner:
    variables = task.method.init(key, jnp.zeros((2, side, side, 3)))
    return episodic.init_learner(task, variables, NUM_CLASSES, key)


def chunk(task: episodic.Task, num_episodes: int, num_steps: int) -> Callable:
    """Returns `(state, arrays) -> state` after so many steps."""

    def run(state, arrays):
        def body(i, state):
            context = Context(i, 0, jax.random.key(i))
            batch = episodic.draw_batch(task, state, arrays, num_episodes, context.key)
            return episodic.train_step(task, state, batch, context)[0]

        return jax.lax.fori_loop(0, num_steps, body, state)

    return run


def programs_of(name: str, small: bool, arrays: dict) -> dict[str, tuple[Callable, int]]:
    """Returns label -> (a call without arguments, episodes in it)."""
    side, num_steps = arrays["image"].shape[1], STEPS[name]
    task = make_task(name, small)
    one = init(task, side, jax.random.key(0))
    several = seeds.stack([init(task, side, jax.random.key(i)) for i in range(NUM_SEEDS)])
    found = {}
    for n in (1, 8):
        step = jax.jit(chunk(task, n, num_steps))
        found[f"{n} episode{'s' * (n > 1)} a step"] = (lambda step=step: step(one, arrays), n * num_steps)
    for mode in MODES.get(name, (SeedMode.UNROLL, SeedMode.VMAP)):
        step = jax.jit(seeds.over_seeds(chunk(task, 1, num_steps), mode, in_axes=(0, None)))
        found[f"{NUM_SEEDS} seeds, {mode}"] = (lambda step=step: step(several, arrays), NUM_SEEDS * num_steps)
    if name == "MAML":
        step = jax.jit(chunk(make_task(name, small, first_order=True), 1, num_steps))
        found["1 episode a step, first order"] = (lambda: step(one, arrays), num_steps)
    test = jax.jit(lambda state: episodic.run_episodes(task, state.variables, arrays, num_steps, jax.random.key(0)))
    found["evaluation"] = (lambda: test(one), num_steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the networks and images of the preset small")
    parser.add_argument("--only", default="", help="only methods whose name contains this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    report = new_report(preset="small" if args.small else "paper", episodes_per_s={})
    arrays = make_arrays(24 if args.small else 32)
    for name in few_shot.MethodName:
        if args.only.lower() not in name.lower():
            continue
        programs = programs_of(name, args.small, arrays)
        times = time_in_turn({label: program for label, (program, _) in programs.items()}, args.rounds)
        found = report["episodes_per_s"][str(name)] = {}
        for label, (_, num_episodes) in programs.items():
            rates = found[label] = spread(num_episodes / t for t in times[label])
            shown = f"{rates['median']:8.2f} episodes/s ({rates['low']:.2f} to {rates['high']:.2f})"
            print(f"{name:12} {label:32} {shown}", flush=True)
        save(args.out, report)
        jax.clear_caches()


if __name__ == "__main__":
    main()
