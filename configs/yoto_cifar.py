"""YOTO beta-VAE on CIFAR-10.

python launch.py --config=configs/yoto_cifar.py             # the released setting: 1.2M steps, 2x width
python launch.py --config=configs/yoto_cifar.py:report      # the reproduction: 100 epochs, YOTO and four fixed weights
python launch.py --config=configs/yoto_cifar.py:smoke       # embedded digits, under two minutes on two cores
python launch.py --config=configs/yoto_cifar.py --sweep             # figure 1 of the paper: widths x (YOTO + fixed)
python launch.py --config=configs/yoto_cifar.py:report --sweep      # figure 1 of the reproduction: its widths

Preset `report` is what the reproduction's public code does. Its text describes another network, with a hidden layer in
FiLM and a beta per example: add --config.model.layout=release --config.model.film_hidden=256 --config.beta.per=example
--config.kl.squared_head=False --config.kl.reduction=sum. The last two alone give the code's network a correct KL.
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
        no_decay=(r".*/FiLM_\d+/.*",),
        schedule="drops",
        drops=("600000 steps", "780000 steps", "960000 steps", "1140000 steps"),
        drop_factor=0.5,
    ),
    data=DataConfig(source="tfds:cifar10", train="train[20%:]", valid="train[:20%]", test="test"),
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

FIXED_BETAS = (1.0, 16.0, 64.0, 256.0)  # of the report
WIDTHS = (1, 2, 4)

# What the report's code does on both data sets. Its L2 is PyTorch's: added to the gradient, of all parameters.
REPORT = {
    "train.duration": "100 epochs",
    "train.batch_size": 128,
    "optim.lr": 1e-4,
    "optim.weight_decay": 0.0,
    "optim.no_decay": (),
    "optim.l2": 1e-5,
    "optim.schedule": "constant",
    "optim.drops": (),
    "optim.drop_factor": 0.1,
    "model.layout": "report",
    "model.num_blocks": 3,
    "model.layers_per_block": 2,
    "model.width": 1,
    "model.hidden": 256,
    "model.latent": 256,
    "model.likelihood": "bernoulli",
    "model.condition_input": "repeated_beta",
    "model.film": "sigmoid",
    "model.film_hidden": 0,
    "kl.reduction": "mean",
    "kl.squared_head": True,
    "beta.low": 0.125,
    "beta.high": 512.0,
    "beta.per": "batch",
    "beta.grid": tuple(2.0**n for n in range(-3, 10)),
    "augment.resize": 0,
    "augment.flip": False,
    "log_last_batches": True,
    "log.every": "1 epochs",
    "checkpoint.every": "1 epochs",
}

PRESETS = {
    "report": {**REPORT, "data.train": "train", "beta.baselines": FIXED_BETAS},
    # Digits, which a small net learns to write in a minute; their smaller range of losses asks for smaller betas.
    "smoke": {
        "train.duration": "1000 steps",
        "train.batch_size": 64,
        "optim.lr": 3e-3,
        "optim.schedule": "cosine",
        "optim.warmup_steps": 100,
        "optim.drops": (),
        "optim.drop_factor": 0.1,
        "optim.clip_norm": 300.0,
        "data.source": "mnist5k",
        "data.train": "train",
        "data.valid": "test",
        "resize": True,
        "model.image_shape": (32, 32, 1),
        "model.layers_per_block": 1,
        "model.width": 1,
        "model.hidden": 128,
        "model.latent": 16,
        "model.film_hidden": 64,
        "model.film_scale": 0.3,
        "model.likelihood": "bernoulli",
        "beta.low": 2.0**-3,
        "beta.high": 2.0**4,
        "beta.grid": tuple(2.0**n for n in range(-3, 5)),
        "beta.pictured": (0.25, 1.0, 4.0, 16.0),
        "beta.baselines": (0.25, 4.0),
        "augment.resize": 0,
        "augment.flip": False,
        "eval.every": "50%",
        "log.every": "100 steps",
        "checkpoint.every": "20%",
    },
}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """The points of figures 1a and 1b: YOTO and one model per fixed beta, at every width.

    The report's five models of a width are one run: they see the same batches.
    """
    if preset == "report":
        return [{"model.width": width} for width in WIDTHS]
    return [{"model.width": width, "beta.fixed": beta} for width in WIDTHS for beta in (0.0, *FIXED_BETAS)]
