"""Scale-equivariant steerable networks on STL-10: table 3.

python launch.py --config=configs/sesn_stl10.py                     # SESN-B, 96x96, 1,000 epochs
python launch.py --config=configs/sesn_stl10.py --sweep             # the nine methods of table 3
python launch.py --config=configs/sesn_stl10.py:small --sweep       # WRN, SESN-B and SESN-C on letters of random scales
python launch.py --config=configs/sesn_stl10.py:smoke               # three narrow networks side by side, embedded data

A batch of 128 at 96×96 takes tens of GB; --config.model.remat, --config.precision=bfloat16 and
--config.memory.micro_batches make it fit. benchmarks/results/sesn_memory.md says how much each saves.
"""

from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.data.pictures import AugmentConfig, PicturesConfig
from jaxrepro.experiments.sesn_stl10 import Config, MemoryConfig
from jaxrepro.models.scale.residual_methods import ResidualConfig

PAPER = Config(
    experiment="sesn_stl10",
    name="sesn_stl10",
    seeds=(0,),
    train=TrainConfig(duration="1000 epochs", batch_size=128),
    # Released code: decay of 5e-4 in the gradient of all parameters.
    optim=OptimConfig(
        name="sgd",
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        l2=5e-4,
        schedule="drops",
        drops=("300 epochs", "400 epochs", "600 epochs", "800 epochs"),
        drop_factor=0.2,
    ),
    data=DataConfig(source="tfds:stl10"),
    task=PicturesConfig(
        column="STL-10",
        num_classes=10,
        image_size=96,
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2713),
    ),
    augment=AugmentConfig(padding=12, flip=True, cutout=32),
    model=ResidualConfig(method="SESN-B", width=8, dropout=0.3),
    memory=MemoryConfig(micro_batches=1),
    eval=EvalConfig(every="50 epochs", batch_size=100),
    log=LogConfig(every="1 epochs"),
    checkpoint=CheckpointConfig(every="10 epochs"),
)

# Letters at random scales, 32×32: everything behind the stem at 16×16, an eighth of the channels.
LETTERS = {
    "train.batch_size": 32,
    "optim.lr": 0.05,
    "optim.drops": ("60%", "85%"),
    "task.column": "letters",
    "task.num_classes": 26,
    "task.image_size": 32,
    "task.mean": (0.1, 0.1, 0.1),
    "task.std": (0.3, 0.3, 0.3),
    "augment.padding": 2,
    "augment.flip": False,
    "augment.cutout": 0,
    "model.width": 1,
    "model.stem_strides": 2,
    "model.dropout": 0.1,
    "eval.every": "25%",
    "eval.batch_size": 200,
}

PRESETS = {
    "small": LETTERS
    | {
        "train.duration": "12 epochs",
        "data.source": "synbols:default-bw?num_samples=5000&auxiliary=false",
        "task.zoom": (0.5, 1.2),
        "eval.num_examples": 1000,
        "checkpoint.every": "25%",
    },
    "smoke": LETTERS
    | {
        "train.duration": "60 steps",
        "train.batch_size": 16,
        "data.source": "synbols:default-bw?num_samples=600&resolution=16&auxiliary=false",
        "task.image_size": 16,
        "model.stem_strides": 0,
        "model.method": "SESN-B",
        "model.beside": ("WRN", "Harm WRN"),
        "eval.num_examples": 100,
        "log.every": "20 steps",
        "checkpoint.every": "50%",
    },
}

METHODS = ("WRN", "SiCNN", "SI-ConvNet", "DSS", "SS-CNN", "SESN-A", "SESN-B", "SESN-C", "Harm WRN")
SMALL_METHODS = ("WRN", "SESN-B", "SESN-C")
SEEDS = (0, 1, 2)


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """The methods of table 3 times three seeds; `small` has those that the paper's argument needs, `smoke` one seed."""
    methods, seeds = (SMALL_METHODS if preset == "small" else METHODS), (SEEDS[:1] if preset == "smoke" else SEEDS)
    alone = {"model.beside": ()} if preset == "smoke" else {}
    return [{"model.method": method, "seeds": (seed,)} | alone for seed in seeds for method in methods]
