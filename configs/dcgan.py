"""DCGAN: the authors' nets, the report's net, and a run on digits that any machine manages.

    python launch.py --config=configs/dcgan.py                # the authors' 64x64 net for faces, on CelebA
    python launch.py --config=configs/dcgan.py:report         # the PyTorch tutorial's net with the report's settings
    python launch.py --config=configs/dcgan.py:imagenet       # the 32x32 feature extractor; table 1: SVM on CIFAR-10
    python launch.py --config=configs/dcgan.py:svhn           # also :mnist (conditional), :lsun_bedroom, :lsun_church
    python launch.py --config=configs/dcgan.py:smoke          # embedded digits, under three minutes on two cores

CelebA, LSUN and ImageNet are streamed where they are larger than config.data.resident_limit_mb. LSUN's pictures differ
in size: `?size=64` scales them.

Vector arithmetic (figure 7) finds its smiling women by CelebA's attributes. The authors' weights are read by
config.weights, see `jaxrepro.models.dcgan_arrays`.

Vector arithmetic by hand: look at figures/numbered_samples.png of a finished run, then
    python launch.py --config=configs/dcgan.py:report --mode=eval \
        --config.eval.arithmetic.indices="(3,14,15, 9,26,5, 35,8,97)"     # a, b and c of a - b + c, three each
"""

from jaxrepro.config import CheckpointConfig, DataConfig, LogConfig, OptimConfig, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.evaluators.dcgan import DCGANEvalConfig
from jaxrepro.experiments.dcgan import Config
from jaxrepro.models.dcgan import DCGANConfig

# The authors' code for faces. Their 350,000 faces were never published; CelebA stands in for them.
PAPER = Config(
    experiment="dcgan",
    name="dcgan",
    train=TrainConfig(duration="25 epochs", batch_size=128),
    optim=OptimConfig(name="adam", lr=2e-4, b1=0.5, b2=0.999, eps=1e-8, l2=1e-5),
    data=DataConfig(source="tfds:celeb_a", train="train", valid="valid", test="test"),
    model=DCGANConfig(
        image_size=64,
        image_channels=3,
        base_width=128,
        kernel=5,
        ends="dense",
        slope=0.2,
        output="tanh",
        pixels="signed",
        latent=100,
        latent_law="uniform",
        batch_norm_eps=1e-8,
    ),
    updates="alternating",
    eval=DCGANEvalConfig(every="10%", batch_size=128, num_examples=10_000),
    log=LogConfig(every="200 steps"),
    checkpoint=CheckpointConfig(every="1 epochs"),
)

# The report says it follows the PyTorch tutorial: its net, its schedule, but a batch of 128. It does not report epochs.
REPORT = {
    "model.base_width": 64,
    "model.kernel": 4,
    "model.ends": "convolution",
    "model.latent_law": "normal",
    "model.batch_norm_eps": 1e-5,
    "updates": "both",
    "optim.l2": 0.0,
}

PRESETS = {
    "report": REPORT,
    # Article: LSUN bedrooms, 5 epochs.
    "lsun_bedroom": {
        "data.source": "tfds:lsun/bedroom?size=64",
        "data.test": "valid",
        "train.duration": "5 epochs",
        "eval.num_searched": 200_000,  # of three million
    },
    # 126,227 pictures, the report's "20 % of bedrooms", are exactly the training pictures of church_outdoor.
    "lsun_church": {**REPORT, "data.source": "tfds:lsun/church_outdoor?size=64", "data.test": "valid"},
    # The authors' net whose pooled features have the 28,672 dimensions that the article and the report quote.
    "imagenet": {
        "data.source": "tfds:imagenet_resized/32x32",
        "data.test": "valid",
        "model.image_size": 32,
        "model.kernel": 3,
        "model.layers_per_stage": 2,
        "model.latent": 256,
        "train.duration": "30 epochs",
        "eval.features.source": "tfds:cifar10",
        "eval.features.name": "CIFAR-10",
    },
    "svhn": {
        "data.source": "tfds:svhn_cropped",
        "data.train": "train[10000:]",
        "data.valid": "train[:10000]",
        "model.image_size": 32,
        "model.base_width": 64,
        "model.latent_law": "normal",
        "optim.lr": 5e-4,
        "train.batch_size": 64,
        "train.duration": "200 epochs",
        "eval.judge": "label",
        # 1,000 labels, table 2 of the article: C is chosen on the images held out.
        "eval.features.source": "same",
        "eval.features.train": "train[10000:]",
        "eval.features.valid": "train[:10000]",
        "eval.features.num_labels": 1000,
        "eval.features.name": "SVHN",
        "eval.arithmetic.concepts": ("label=9", "label=4", "label=0"),
    },
    # Conditional; batch norms neither scale nor shift, pixels lie in [0, 1]; the rate falls over the last 100 epochs.
    "mnist": {
        "data.source": "tfds:mnist",
        "data.train": "train[:50000]",
        "data.valid": "train[50000:]",
        "model.image_size": 28,
        "model.image_channels": 1,
        "model.map_size": 7,
        "model.base_width": 64,
        "model.hidden": 1024,
        "model.num_labels": 10,
        "model.batch_norm_affine": False,
        "model.output": "sigmoid",
        "model.pixels": "unit",
        "optim.l2": 2.5e-5,
        "optim.schedule": "linear_tail",
        "optim.linear_tail": 0.5,
        "train.duration": "200 epochs",
        "eval.judge": "label",
        "eval.arithmetic.concepts": ("label=9", "label=4", "label=0"),
    },
    "smoke": {
        **REPORT,
        "data.source": "mnist5k",
        "model.image_size": 28,
        "model.image_channels": 1,
        "model.map_size": 7,
        "model.base_width": 32,
        "optim.lr": 1e-3,
        "train.duration": "1000 steps",
        "train.batch_size": 64,
        "eval.every": "50%",
        "eval.judge": "label",
        "eval.judge_steps": 600,
        "eval.arithmetic.concepts": ("label=9", "label=4", "label=0"),
        "eval.features.source": "same",
        "eval.features.c_grid": (1e-4, 1e-3, 1e-2),
        "log.every": "50 steps",
        "checkpoint.every": "50%",
    },
}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)
