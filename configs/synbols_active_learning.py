"""Active learning on Synbols: tables 3 and 7 and figure 6.

python launch.py --config=configs/synbols_active_learning.py          # BALD on No Noise, three seeds, to 20 %
python launch.py --config=configs/synbols_active_learning.py --sweep  # 5 methods x 7 columns x 3 seeds
python launch.py --config=configs/synbols_trunk.py:small              # first, for the next: its trunk
python launch.py --config=configs/synbols_active_learning.py:small    # a small network, a pool of 7,000
python launch.py --config=configs/synbols_active_learning.py:small --sweep   # three methods x two columns
python launch.py --config=configs/synbols_active_learning.py:smoke    # BALD and Random, four rounds

`paper` needs the ImageNet weights of VGG-16: they come from the hub, or --config.trunk.weights=vgg16.safetensors.
Runs with another trunk stand beside the published numbers, not among them.
"""

from jaxrepro.config import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LogConfig,
    OptimConfig,
    Precision,
    TrainConfig,
)
from jaxrepro.config_file import make_config
from jaxrepro.data.active import FaultConfig, Flag
from jaxrepro.data.rounds import Rounds
from jaxrepro.experiments.synbols_active_learning import ActiveConfig, Config, TaskConfig
from jaxrepro.models.trunk import TrunkConfig
from jaxrepro.training.calibration import CalibrationConfig

SEEDS = (1337, 1338, 1339)  # three of the released code's four


def steps(num_rounds, initial, queries, epochs, batch_size):
    """Returns the duration of so many rounds."""
    return f"{Rounds(initial, queries, epochs, batch_size).end_of(num_rounds - 1)} steps"


PAPER = Config(
    experiment="synbols_active_learning",
    name="synbols_active_learning",
    version="v1",
    seeds=SEEDS,
    precision=Precision.FLOAT32,
    train=TrainConfig(duration=steps(121, 2000, 100, 10, 32), batch_size=32),  # 14,000 labels, 20 % of the pool
    # The paper has Adam for all models; the released code, whose numbers these are, has SGD.
    optim=OptimConfig(name="sgd", lr=1e-3, momentum=0.9, nesterov=True, l2=5e-4),
    data=DataConfig(source="synbols:default?num_samples=100000&auxiliary=false"),
    active=ActiveConfig(methods=("BALD",), initial=2000, queries=100, epochs=10, passes=20),
    trunk=TrunkConfig(weights="timm/vgg16.tv_in1k"),
    task=TaskConfig(column="No Noise", num_pool=70_000, num_classes=26),
    faults=FaultConfig(),
    calibration=CalibrationConfig(rates=(1e-3, 1e-4), epochs=10, batch_size=16),
    eval=EvalConfig(every="end", batch_size=512),
    log=LogConfig(every="200 steps"),
    checkpoint=CheckpointConfig(every="1%"),
)

# Up to 10 % of a pool of 7,000 smaller images. Adam, as the paper says: so few steps of SGD would not leave the start.
SMALL = {
    "train.duration": steps(11, 200, 50, 20, 32),
    "optim.name": "adam",
    "optim.momentum": 0.9,
    "optim.nesterov": False,
    "optim.lr": 1e-3,
    "optim.l2": 0.0,
    "data.source": "synbols:missing-symbol-paper?num_samples=10000&auxiliary=false&masks=true&resolution=16",
    "active.initial": 200,
    "active.queries": 50,
    "active.epochs": 20,
    "task.column": "10% Missing",
    "task.flag": "missing",
    "trunk.weights": "runs/synbols_trunk-small",
    "trunk.blocks": ((16,), (32,), (64,)),
    "trunk.hidden_size": 128,
    "trunk.pooled": 2,
    "eval.batch_size": 500,
    "checkpoint.every": "5%",
}

# Digits, a tenth of them blank: without a trunk nothing is learnt from so few letters.
SMOKE = SMALL | {
    "seeds": (1337,),
    "train.duration": steps(4, 200, 50, 10, 16),
    "train.batch_size": 16,
    "optim.lr": 2e-3,
    "data.source": "mnist5k",
    "faults.blank_share": 0.1,
    "task.num_pool": 3500,
    "task.num_classes": 10,
    "active.methods": ("BALD", "Random"),
    "active.epochs": 10,
    "trunk.weights": "",
    "trunk.dropout": 0.2,
    "calibration.epochs": 3,
    "log.every": "50 steps",
}

PRESETS = {"small": SMALL, "smoke": SMOKE}

LETTERS = "num_samples=100000&auxiliary=false"
MISSING = {
    "task.column": "10% Missing",
    "data.source": f"synbols:missing-symbol-paper?{LETTERS}&masks=true",
    "task.flag": str(Flag.MISSING),
}
COLUMNS = (
    {
        "task.column": "CIFAR10",
        "data.source": "tfds:cifar10",
        # 10 % of the training set each for calibration and validation, 70 % pool, the official test set.
        "task.official_test": True,
        "task.num_pool": 35_000,
        "task.num_classes": 10,
        "train.duration": steps(51, 2000, 100, 10, 32),  # 7,000 labels, 20 % of the pool
    },
    {"task.column": "No Noise"},
    {"task.column": "Label Noise", "faults.label_share": 0.1},
    {"task.column": "Pixel Noise", "faults.pixel_std": 0.7, "faults.pixel_share": 0.5},
    MISSING,
    {"task.column": "Out of the Box", "data.source": f"synbols:large-translation?{LETTERS}"},
    {
        "task.column": "20% Occluded",
        "data.source": f"synbols:some-large-occlusion?{LETTERS}&masks=true",
        "task.flag": str(Flag.OCCLUDED),
    },
)
METHODS = ("BALD", "P-Entropy", "Random", "BALD Calibrated", "Entropy Calibrated")
SMALL_COLUMNS = (
    {"task.column": "10% Missing"},
    {
        "task.column": "No Noise",
        "data.source": "synbols:default?num_samples=10000&auxiliary=false&resolution=16",
        "task.flag": str(Flag.NONE),
    },
)


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """All cells of table 3, a seed each; for `small` three methods on two columns, all seeds in one program."""
    if preset == "paper":
        return [
            {"task.column": c["task.column"], "active.methods": (m,), "seeds": (seed,)} | c
            for seed in SEEDS
            for c in COLUMNS
            for m in METHODS
        ]
    if preset == "small":
        return [{"active.methods": (m,)} | c for c in SMALL_COLUMNS for m in METHODS[:3]]
    return [{"active.methods": (m,)} for m in METHODS]
