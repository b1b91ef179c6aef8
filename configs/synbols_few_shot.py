"""Table 6 of Synbols: few-shot classification of characters and fonts by three methods.

python launch.py --config=configs/synbols_few_shot.py             # ProtoNet on characters, three seeds
python launch.py --config=configs/synbols_few_shot.py:small --sweep   # 3 methods × 2 attributes, for a processor
python launch.py --config=configs/synbols_few_shot.py:smoke --sweep   # 3 methods on the few fonts of a plain install
python launch.py --config=configs/synbols_few_shot.py --sweep --mode=print   # the paper's search, 66 configurations

A run fills two columns of the table: it tests on both attributes what it trained on one. Of a search the best mean
validation accuracy is reported: python -m jaxrepro.report … --select=valid/best_accuracy:max. All presets but `smoke`
need more fonts than a plain install has: pip install -e .[fonts].
"""

import random

from jaxrepro.config import CheckpointConfig, DataConfig, LogConfig, OptimConfig, PlateauConfig, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.evaluators.few_shot import Look
from jaxrepro.experiments.synbols_few_shot import Config, EpisodesConfig, EvaluationConfig, MethodConfig

SEEDS = (0, 1, 2)

PAPER = Config(
    experiment="synbols_few_shot",
    name="synbols_few_shot",
    version="v1",
    seeds=SEEDS,
    train=TrainConfig(duration="5000 epochs", batch_size=1),  # of 500 episodes; the validation ends training earlier
    # Released code: Adam without weight decay. No rate is the last: what ends training is the accuracy.
    optim=OptimConfig(
        name="adam",
        lr=1e-3,
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        schedule="plateau",
        plateau=PlateauConfig(factor=0.1, patience=25, threshold=1e-4, stop_at=1e-6),
    ),
    data=DataConfig(source="synbols:few-shot?num_samples=1000000"),
    method=MethodConfig(name="ProtoNet", channels=(64, 64, 64, 64), inner_lr=0.01, inner_steps=4),
    episodes=EpisodesConfig(
        train="char",
        ways=5,
        shots=5,
        queries=15,
        shares=(0.6, 0.2, 0.2),
        num_train=500,
        num_valid=500,
        num_test=500,
    ),
    eval=EvaluationConfig(
        every="1 epochs",
        batch_size=16,
        look=Look(shots=(1, 2, 5, 10), ways=(2, 5, 10, 20), num_episodes=200),
    ),
    log=LogConfig(every="1 epochs"),
    checkpoint=CheckpointConfig(every="5 epochs"),
)

# The fonts of a plain install write four languages: so few test fonts that an episode has three classes. MAML shows
# that it runs: it stayed near chance for 1,200 episodes at rates of 1e-3 and 5e-3 with an inner one of 0.5.
SMOKE = {
    "seeds": (0,),
    "train.duration": "8 epochs",
    "data.source": "synbols:few-shot?num_samples=6000&resolution=16",
    "method.channels": (16, 16, 16),
    "method.inner_lr": 0.1,
    "method.inner_steps": 1,
    "optim.lr": 5e-3,
    "optim.plateau.patience": 4,
    "episodes.ways": 3,
    "episodes.queries": 10,
    "episodes.shares": (0.4, 0.3, 0.3),
    "episodes.num_train": 100,
    "episodes.num_valid": 25,
    "episodes.num_test": 50,
    "eval.look.shots": (1, 5),
    "eval.look.ways": (2, 3),
    "eval.look.num_episodes": 20,
    "checkpoint.every": "2 epochs",
    "parallel.quick_compile": True,
}

# Smaller images, narrower maps, shorter epochs, the rate that the search has twice.
SMALL = {
    "train.duration": "40 epochs",
    "data.source": "synbols:few-shot?num_samples=60000&resolution=24",
    "method.channels": (16, 32, 32),
    "method.inner_lr": 0.1,
    "method.inner_steps": 2,
    "optim.lr": 2e-3,
    "optim.plateau.patience": 5,
    "episodes.num_train": 100,
    "episodes.num_valid": 100,
    "eval.look.shots": (1, 5, 10),
    "eval.look.ways": (2, 10),
    "eval.look.num_episodes": 100,
}

PRESETS = {"small": SMALL, "smoke": SMOKE}

# RelationNet answers the same for every pair until it begins to learn. So it does in two seeds of three instead of one
# at `small`, and at all at `smoke`. For fonts no such rate was found. MAML does not get that far at `smoke`.
OWN = {
    ("small", "RelationNet", "char"): {"optim.lr": 5e-4},
    ("smoke", "RelationNet", "char"): {
        "optim.lr": 5e-4,
        "optim.plateau.patience": 25,
        "train.duration": "25 epochs",
    },
    ("smoke", "MAML", "char"): {"train.duration": "2 epochs"},
}

ATTRIBUTES = ("char", "font")
METHODS = ("ProtoNet", "RelationNet", "MAML")
# Random search, appendix and released code: 0.002 stands there twice. Configurations tried of each method.
RATES = (0.005, 0.002, 0.002, 0.001, 0.0005, 0.0001)
PATIENCES = (10, 25, 50)
INNER_RATES = (0.5, 0.1, 0.01, 0.001, 0.0001)
INNER_STEPS = (1, 2, 4, 8, 16)
TRIALS = {"ProtoNet": 14, "RelationNet": 14, "MAML": 38}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def search(method, attribute, num_trials):
    """Returns different random configurations; the same ones every time."""
    draw, found = random.Random(f"{method} {attribute}"), []
    while len(found) < num_trials:
        values = {"optim.lr": draw.choice(RATES), "optim.plateau.patience": draw.choice(PATIENCES)}
        if method == "MAML":
            values |= {"method.inner_lr": draw.choice(INNER_RATES), "method.inner_steps": draw.choice(INNER_STEPS)}
        if values not in found:
            found.append(values)
    return [{"method.name": method, "episodes.train": attribute} | values for values in found]


def one_each(preset, method, attribute):
    return {"method.name": method, "episodes.train": attribute} | OWN.get((preset, method, attribute), {})


def sweep(preset: str = "paper"):
    """The search, half of a method's trials for each attribute; for `small` and `smoke` a configuration of each."""
    if preset in PRESETS:
        attributes = ATTRIBUTES if preset == "small" else ATTRIBUTES[:1]
        return [one_each(preset, method, attribute) for method in METHODS for attribute in attributes]
    return [p for method, n in TRIALS.items() for attribute in ATTRIBUTES for p in search(method, attribute, n // 2)]
