"""A trunk for active learning on Synbols, where the ImageNet weights of VGG-16 are not at hand.

python launch.py --config=configs/synbols_trunk.py           # VGG-16
python launch.py --config=configs/synbols_trunk.py:small     # the small network of synbols_active_learning.py:small
python launch.py --config=configs/synbols_trunk.py:smoke

More fonts make a better trunk: `pip install -e .[fonts]`.
"""

from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, Precision, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.experiments.synbols_trunk import Config
from jaxrepro.models.trunk import TrunkConfig

PAPER = Config(
    experiment="synbols_trunk",
    name="synbols_trunk",
    precision=Precision.BFLOAT16,
    train=TrainConfig(duration="30 epochs", batch_size=256),
    optim=OptimConfig(name="adam", lr=3e-4, schedule="cosine", warmup_steps=500),
    data=DataConfig(source="synbols:default?num_samples=500000&language=russian&auxiliary=false&seed=1"),
    trunk=TrunkConfig(weights=""),
    eval=EvalConfig(every="1 epochs"),
    log=LogConfig(every="200 steps"),
    checkpoint=CheckpointConfig(every="1 epochs"),
)

SMALL = {
    "precision": "float32",
    "train.duration": "30 epochs",
    "train.batch_size": 64,
    "optim.lr": 2e-3,
    "optim.warmup_steps": 100,
    "data.source": "synbols:default?num_samples=30000&language=russian&auxiliary=false&seed=1&resolution=16",
    "trunk.blocks": ((16,), (32,), (64,)),
    "trunk.hidden_size": 128,
    "trunk.pooled": 2,
    "trunk.dropout": 0.2,
    "eval.every": "3 epochs",
    "checkpoint.every": "2 epochs",
}
SMOKE = SMALL | {
    "train.duration": "3 epochs",
    "data.source": "synbols:default-bw?num_samples=3000&language=russian&auxiliary=false&seed=1&resolution=16",
}

PRESETS = {"small": SMALL, "smoke": SMOKE}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)
