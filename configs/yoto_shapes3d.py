"""YOTO beta-VAE on Shapes3D.

    python launch.py --config=configs/yoto_shapes3d.py             # the released setting: 700k steps
    python launch.py --config=configs/yoto_shapes3d.py:report      # the reproduction; figure 2: beside fixed weights
    python launch.py --config=configs/yoto_shapes3d.py:smoke       # embedded letters at 64x64, minutes on two cores
    python launch.py --config=configs/yoto_shapes3d.py --sweep     # widths x (YOTO + fixed)

The training split takes 4.4 GiB: it is streamed unless config.data.resident_limit_mb is 4500 or more.

The report trains on the first 100,000 pictures of the published file and means to test on the next 10,000 (its script
writes the first 10,000 again: --config.data.test="train[:10000]"). TFDS shuffles the file; config.order_by restores it.
"""

from pathlib import Path

from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig
from jaxrepro.config_file import load_module, make_config
from jaxrepro.data.augment import CropFlipConfig
from jaxrepro.experiments.yoto import Config
from jaxrepro.models.conv_vae import VAEConfig
from jaxrepro.training.loss_weights import BetaConfig

cifar = load_module(str(Path(__file__).with_name("yoto_cifar.py")))

PAPER = Config(
    experiment="yoto",
    name="yoto_shapes3d",
    train=TrainConfig(duration="700000 steps", batch_size=64),
    optim=OptimConfig(
        name="adam",
        lr=2e-4,
        weight_decay=1e-5,
        no_decay=(r".*/FiLM_\d+/.*",),
        schedule="drops",
        drops=("300000 steps", "390000 steps", "480000 steps", "570000 steps"),
        drop_factor=0.5,
    ),
    # The first 20 % of the only split is validation data; results are reported on it.
    data=DataConfig(source="tfds:shapes3d", train="train[20%:]", valid="train[:20%]", test="train[:20%]"),
    model=VAEConfig(
        image_shape=(64, 64, 3),
        num_blocks=4,
        layers_per_block=1,
        base_channels=8,
        width=1,
        hidden=256,
        latent=10,
        likelihood="bernoulli",
        kernel_init="fan_in",
        conditioning="film",
        condition_input="log_weights",
        film="affine",
        film_hidden=256,
        film_scale=0.01,
    ),
    # The grid goes beyond the training range on purpose.
    beta=BetaConfig(low=0.5, high=512.0, grid=tuple(2.0**n for n in range(-1, 13)), pictured=(1.0, 128.0, 512.0)),
    augment=CropFlipConfig(resize=0, flip=False),
    eval=EvalConfig(every="10%", batch_size=500),
    log=LogConfig(every="1000 steps"),
    checkpoint=CheckpointConfig(every="10000 steps"),
)

FIXED_BETAS = (1.0, 128.0, 512.0)  # of the report
WIDTHS = (1, 2, 4)
FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")  # of the file, the slowest first

PRESETS = {
    "report": {
        **cifar.REPORT,
        "data.train": "train[:100000]",
        "data.test": "train[100000:110000]",
        "order_by": tuple(f"label_{factor}" for factor in FACTORS),
        "resize": True,
        "model.image_shape": (32, 32, 3),
        "model.last_channels": 32,  # at every width
        "beta.baselines": FIXED_BETAS,
    },
    "smoke": {
        "train.duration": "300 steps",
        "train.batch_size": 32,
        "optim.lr": 1e-3,
        "optim.schedule": "constant",
        "optim.drops": (),
        "optim.drop_factor": 0.1,
        "data.source": "synbols:default?num_samples=2000&resolution=64",
        "data.train": "train",
        "data.valid": "valid",
        "data.test": "test",
        "eval.every": "end",
        "eval.num_examples": 200,
        "log.every": "50 steps",
        "checkpoint.every": "50%",
    },
}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """The points of the figures: YOTO at every width, and one model per fixed beta; the report's are one run."""
    if preset == "report":
        return [{"model.width": width} for width in WIDTHS]
    return [{"model.width": width, "beta.fixed": beta} for width in WIDTHS for beta in (0.0, *FIXED_BETAS)]
