"""DCGAN with single modifications: the report's table 2, and the baseline that it lacks.

    python launch.py --config=configs/dcgan_ablations.py:report --sweep      # 13 runs on CelebA
    python launch.py --config=configs/dcgan_ablations.py:smoke --sweep       # 13 tiny runs on embedded digits
    python -m jaxrepro.report runs/dcgan_ablations-report/sweep/* --out=report

The report states neither data set nor epochs nor seeds. `paper` modifies the authors' net in the same ways.
"""

import dataclasses
from pathlib import Path

from jaxrepro.config_file import load_module, make_config
from jaxrepro.evaluators.latents import ArithmeticConfig

dcgan = load_module(str(Path(__file__).with_name("dcgan.py")))

# A table of losses needs no judge, which arithmetic would train.
EVAL = dataclasses.replace(dcgan.PAPER.eval, arithmetic=ArithmeticConfig(by_default=False))
PAPER = dataclasses.replace(dcgan.PAPER, name="dcgan_ablations", row="Baseline", eval=EVAL)

PRESETS = {
    "report": dcgan.REPORT,
    "smoke": {
        **dcgan.REPORT,
        "data.source": "mnist5k",
        "model.image_channels": 1,
        "model.base_width": 8,
        "train.duration": "60 steps",
        "train.batch_size": 32,
        "eval.every": "end",
        "eval.num_samples": 200,
        "eval.num_examples": 500,
        "log.every": "10 steps",
        "checkpoint.every": "50%",
    },
}

# Row of table 2 -> what differs from the baseline. Both output activations meet data in [-1, 1], as in the report.
MODIFICATIONS = {
    "Baseline": {},
    "LR = 0.0001": {"optim.lr": 1e-4},
    "LR = 0.00001": {"optim.lr": 1e-5},
    "Beta = 0.9": {"optim.b1": 0.9},
    "Latent space dimension = 10": {"model.latent": 10},
    "Latent space dimension = 1000": {"model.latent": 1000},
    "Pooling layer": {"model.downsampling": "max_pool"},
    "Fully connected layer": {"model.ends": "plain_dense"},
    "ReLU in discriminator": {"model.slope": 0.0},
    "Sigmoid in generator": {"model.output": "sigmoid"},
    "ReLU in generator": {"model.output": "relu"},
    "32x32 output dimension": {"model.image_size": 32},
    "128x128 output dimension": {"model.image_size": 128},
}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """The rows of table 2."""
    del preset
    return [{"row": row, **changes} for row, changes in MODIFICATIONS.items()]
