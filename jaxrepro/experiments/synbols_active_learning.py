"""Active learning with Monte-Carlo dropout on faulty data: tables 3 and 7 and figure 6 of Synbols.

    python launch.py --config=configs/synbols_active_learning.py:smoke

A round trains VGG-16 from its first weights on the labels so far, is tested, scores the whole pool, and has the images
with the highest scores labelled. Several methods share a run, so that they begin with the same labels and weights.

Source: Lacoste et al., "Synbols: Probing Learning Algorithms with Synthetic Datasets" (NeurIPS 2020), section 4, tables
3 and 7, and the released benchmark code, which has what the paper leaves out: SGD, 2,000 labels to begin with, ten
epochs a round, the calibration layer. Different from it: results are filed under the number of labels that the network
was trained on, not of the round after; the optimizer's momentum does not survive a round (`active.keep_momentum`).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrepro.config import RunConfig, Schedule
from jaxrepro.data.active import FaultConfig, Flag, active_parts
from jaxrepro.data.rounds import Rounds
from jaxrepro.data.sources import facts_of_source
from jaxrepro.durations import num_steps
from jaxrepro.errors import UserError, check, unknown
from jaxrepro.evaluators.active_learning import active_learning_evaluator
from jaxrepro.experiment import Experiment, Source, Transition, When
from jaxrepro.models.trunk import TrunkConfig, load_trunk, prepare, with_trunk
from jaxrepro.progress import say
from jaxrepro.training import active
from jaxrepro.training.acquisition import Averaged
from jaxrepro.training.active import METHODS, ActiveTask
from jaxrepro.training.calibration import CalibrationConfig
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.pool import start_pool


@dataclass(frozen=True)
class ActiveConfig:
    """The protocol.

    Attributes:
      methods: rows of table 3; each is a network of its own in the run.
      initial: labels of the first round, drawn uniformly.
      queries: labels more in every further round.
      epochs: of a round; the last batch of an epoch may be small.
      passes: with dropout, of acquisition and of test.
      averaged: what the entropy of P-Entropy is that of.
      keep_momentum: whether the optimizer's state survives the reset (released code).
    """

    methods: tuple[str, ...] = ("BALD",)
    initial: int = 2000
    queries: int = 100
    epochs: int = 10
    passes: int = 20
    averaged: Averaged = Averaged.PROBABILITIES
    keep_momentum: bool = False

    def __post_init__(self):
        check(len(self.methods) > 0, "methods is empty; give at least one, such as ('BALD',)")
        check(len(set(self.methods)) == len(self.methods), f"methods is {self.methods}; one stands there twice")
        for method in self.methods:
            if method not in METHODS:
                raise unknown("method in config.active.methods:", method, METHODS)
        for name in ("initial", "queries", "epochs", "passes"):
            check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True)
class TaskConfig:
    """The data of a column.

    Attributes:
      column: of the tables.
      num_pool, num_classes: the published numbers, for --mode=print and the sweep.
      official_test: whether the source's own test set is the test.
      flag: what is counted among the queries.
    """

    column: str = "No Noise"
    num_pool: int = 70_000
    num_classes: int = 26
    official_test: bool = False
    flag: Flag = Flag.NONE


@dataclass(frozen=True)
class Config(RunConfig):
    """version: of the data, "v1" (26 letters) or "v2" (48 symbols); reports join that version's numbers only."""

    version: str = "v1"
    active: ActiveConfig = ActiveConfig()
    trunk: TrunkConfig = TrunkConfig()
    task: TaskConfig = TaskConfig()
    faults: FaultConfig = FaultConfig()
    calibration: CalibrationConfig = CalibrationConfig()

    def __post_init__(self):
        super().__post_init__()
        schedule = str(self.optim.schedule)
        check(schedule == Schedule.CONSTANT, f"optim.schedule is {schedule!r}; rounds need 'constant'")
        check(not self.optim.warmup_steps, "optim.warmup_steps must be 0: the rate is the same in every round")
        check(self.eval.every == "end", f"eval.every is {self.eval.every!r}; every round is tested: write 'end'")


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns random parameters for the published number of classes."""
    images = jnp.zeros((1, 32, 32, 3))
    return config.trunk.network(config.task.num_classes).init(key, images, False)["params"]


def rounds_of(config: Config) -> Rounds:
    active = config.active
    return Rounds(active.initial, active.queries, active.epochs, config.train.batch_size)


def num_rounds(config: Config, num_pool: int) -> int:
    """Returns how many rounds a run has.

    Raises:
      UserError: the pool is too small for them, or the run ends in the middle of one.
    """
    rounds, active = rounds_of(config), config.active
    check(
        active.initial <= num_pool,
        f"config.active.initial is {active.initial}, but the pool of {config.data.source} has {num_pool} images",
    )
    total = num_steps(config.train.duration, steps_per_epoch=rounds.steps_per_epoch(0))
    found = rounds.round_at(total - 1) + 1
    most = 1 + (num_pool - active.initial) // active.queries
    if found > most:
        raise UserError(
            f"config.train.duration is {config.train.duration!r}, {found} rounds, which ask for more labels than the "
            f"pool of {num_pool} images holds; {most} rounds are '{rounds.end_of(most - 1)} steps'"
        )
    if total != rounds.end_of(found - 1):
        raise UserError(
            f"config.train.duration is {config.train.duration!r}, in the middle of round {found}; "
            f"{found} rounds are '{rounds.end_of(found - 1)} steps'"
        )
    return found


def build(config: Config) -> Experiment:
    """Returns the experiment: training in rounds, and at the end of each calibration, test, and acquisition."""
    smoke = f"python launch.py --config=configs/{config.name}.py:smoke"
    task = config.task
    parts, num_classes, notes = active_parts(
        config.data.source,
        train=config.data.train,
        test=config.data.test,
        official_test=task.official_test,
        flag=task.flag,
        faults=config.faults,
        smoke=smoke,
    )
    pool = parts["pool"]
    rows = config.eval.num_examples or None
    held_out = {k: {"image": parts[k]["image"], "label": parts[k]["label"]} for k in ("calibration", "valid")}
    tested = {k: parts["test"][k][:rows] for k in ("image", "label")}
    num_pool, image_shape = len(pool["label"]), (*pool["image"].shape[1:3], 3)
    rounds, ends = rounds_of(config), rounds_of(config).ends(num_rounds(config, num_pool))
    config.trunk.check_images(image_shape)
    network = config.trunk.network(num_classes)
    trunk = load_trunk(config.trunk.weights, network, image_shape)
    say(f"{len(ends)} rounds on a pool of {num_pool:,} images; trunk: {trunk.name}")
    learning = ActiveTask(
        network,
        prepare,
        make_optimizer(config.optim, ends[-1]),
        config.active.queries,
        config.active.passes,
        config.active.averaged,
        config.active.keep_momentum,
        config.calibration,
        config.eval.batch_size,
        config.precision,
    )
    methods = {name: METHODS[name] for name in config.active.methods}
    most_rounds = 1 + (num_pool - rounds.initial) // rounds.queries
    facts = {
        "num_classes": num_classes,
        "num_pool": num_pool,
        "num_test": len(tested["label"]),
        "trunk": trunk.name,
        "data_set": facts_of_source(config.data.source)["data_set"],
        "image_side": image_shape[0],
        "faults": config.faults.text,
    }

    def init(context, given):
        weights_key, pool_key = jax.random.split(context.key)
        params = network.init(weights_key, jnp.zeros((1, *image_shape)), False)["params"]
        first = start_pool(pool_key, num_pool, rounds.initial)
        params = with_trunk(params, given)
        return {k: active.start_learner(learning, method, params, first, most_rounds) for k, method in methods.items()}

    def draw(state, arrays, positions, context):
        mask = (positions >= 0).astype(jnp.float32)
        drawn = {k: learner.pool.order[jnp.maximum(positions, 0)] for k, learner in state.items()}
        return {k: {"image": arrays["image"][r], "label": arrays["label"][r], "mask": mask} for k, r in drawn.items()}

    def update(state, batch, context):
        return over_methods(lambda k, learner: active.train_step(learning, learner, batch[k], context), state)

    def calibrate(state, arrays, context):
        def one(name, learner):
            if not methods[name].calibrated:
                return learner, {}
            return learner.replace(calibration=active.calibrate(learning, learner, arrays, context)), {}

        return over_methods(one, state)

    def test(state, arrays, context):
        return over_methods(lambda k, v: active.test_learner(learning, methods[k], v, arrays, context), state)

    def acquire(state, arrays, context):
        return over_methods(lambda k, v: (active.acquire(learning, methods[k], v, arrays["image"], context), {}), state)

    at = When(at=ends)
    return Experiment(
        source=Source(
            {"image": pool["image"], "label": pool["label"]}, rounds.block, config.train.batch_size, rounds.initial
        ),
        init=init,
        given=dict(trunk.params),
        draw=draw,
        update=update,
        transitions=(
            Transition("calibration", at, calibrate, held_out, before_evaluation=True),
            Transition("test", at, test, tested, split="test", before_evaluation=True),
            Transition("acquisition", at, acquire),
        ),
        evaluators=(active_learning_evaluator(config, learning, rounds, parts, held_out, tested, facts),),
        notes=notes,
    )


def over_methods(fn, state: dict[str, active.Learner]) -> tuple[dict[str, active.Learner], dict[str, Any]]:
    """Returns (state, metrics named "METHOD/metric") of a function `(name, learner) -> (learner, metrics)`."""
    found = {name: fn(name, learner) for name, learner in state.items()}
    metrics = {f"{name}/{k}": v for name, (_, m) in found.items() for k, v in m.items()}
    return {name: learner for name, (learner, _) in found.items()}, metrics
