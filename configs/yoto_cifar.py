"""YOTO beta-VAE on CIFAR-10.

python launch.py --config=configs/yoto_cifar.py             # the released setting: 1.2M steps, 2x width
python launch.py --config=configs/yoto_cifar.py:report      # the reproduction report: 100 epochs, 1x
python launch.py --config=configs/yoto_cifar.py:smoke       # embedded letters, under two minutes on two cores
python launch.py --config=configs/yoto_cifar.py:report --sweep      # figures 1a and 1b: widths x (YOTO + fixed)
"""

from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.data.augment import CropFlipConfig
from jaxrepro.experiments.yoto import Config
from jaxrepro.models.conv_vae import VAEConfig
from jaxrepro.training.loss_weights import BetaConfig

PAPER = Config(
    experiment="yoto",
    name="yoto_cifar",
    train=TrainConfig(duration="1200000 steps", batch_size=128),
    # Released code: Adam, decoupled decay 1e-5, halved four times.
    optim=OptimConfig(
        name="adam",
        lr=1e-4,
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        weight_decay=1e-5,
        schedule="drops",
        drops=("600000 steps", "780000 steps", "960000 steps", "1140000 steps"),
        drop_factor=0.5,
    ),
    data=DataConfig(source="tfds:cifar10", train="train", valid="test", test="test"),
    model=VAEConfig(
        image_shape=(32, 32, 3),
        num_blocks=3,
        layers_per_block=2,
        base_channels=8,
        width=2,  # the released net has 16 channels at its base: the 2x model of the paper's figures
        hidden=512,
        latent=256,
        likelihood="gaussian",
        kernel_init="fan_avg",
        conditioning="film",
        condition_input="log_weights",
        film="affine",
        film_hidden=512,
        film_scale=0.1,
    ),
    beta=BetaConfig(low=0.125, high=512.0, grid=tuple(2.0**n for n in range(-3, 10)), pictured=(1.0, 128.0, 512.0)),
    augment=CropFlipConfig(resize=40, flip=True),
    eval=EvalConfig(every="10%", batch_size=500),
    log=LogConfig(every="1000 steps"),
    checkpoint=CheckpointConfig(every="10000 steps"),
)

PRESETS = {
    "report": {
        "train.duration": "100 epochs",
        "optim.schedule": "constant",
        "optim.drops": (),
        "optim.drop_factor": 0.1,
        "model.width": 1,
        "model.hidden": 256,
        "model.condition_input": "repeated_beta",
        "model.film": "sigmoid",
        "model.film_hidden": 256,
        "log.every": "1 epochs",
        "checkpoint.every": "5 epochs",
    },
    "smoke": {
        "train.duration": "1500 steps",
        "train.batch_size": 64,
        "optim.lr": 1.5e-3,
        "optim.schedule": "cosine",
        "optim.warmup_steps": 100,
        "optim.drops": (),
        "optim.drop_factor": 0.1,
        "optim.clip_norm": 300.0,
        "data.source": "synbols:default?num_samples=8000&auxiliary=false",
        "data.valid": "valid",
        "model.width": 1,
        "model.hidden": 256,
        "model.latent": 32,
        "model.film_hidden": 64,
        # A Bernoulli likelihood learns colours in few steps; its smaller range of losses asks for smaller betas.
        "model.likelihood": "bernoulli",
        "beta.low": 2.0**-5,
        "beta.high": 2.0**5,
        "beta.grid": tuple(2.0**n for n in range(-5, 6)),
        "beta.pictured": (0.25, 1.0, 4.0),
        "beta.baselines": (0.25, 4.0),
        "augment.resize": 0,
        "augment.flip": False,
        "eval.every": "20%",
        "eval.num_examples": 1000,
        "log.every": "100 steps",
        "checkpoint.every": "20%",
    },
}

FIXED_BETAS = (1.0, 16.0, 64.0, 256.0)  # of the report
WIDTHS = (1, 2, 4)


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """The points of figures 1a and 1b: YOTO and one model per fixed beta, at every width."""
    del preset
    return [{"model.width": width, "beta.fixed": beta} for width in WIDTHS for beta in (0.0, *FIXED_BETAS)]
