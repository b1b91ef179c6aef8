"""Table 4 of Synbols: what probes read from representations that were learnt without labels.

python launch.py --config=configs/synbols_unsupervised.py                       # VAE on Solid Pattern, first seed
python launch.py --config=configs/synbols_unsupervised.py --sweep --mode=print  # 5 models × 3 data sets × 3 seeds
python launch.py --config=configs/synbols_unsupervised.py:report --sweep        # the later data; a grid of probes
python launch.py --config=configs/synbols_unsupervised.py:small --sweep         # an eighth of the width
python launch.py --config=configs/synbols_unsupervised.py:smoke --sweep         # three models on a few small letters

Probes are trained beside the encoder, as in the released code; config.probe.schedules=('frozen',) trains them after it,
as in the paper's text, and ('online','frozen') both.
"""

from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.experiments.synbols_unsupervised import Config, InfoMaxConfig, TaskConfig
from jaxrepro.models.representations import RepresentationConfig
from jaxrepro.training.loss_weights import CyclicalConfig
from jaxrepro.training.probes import FitConfig, ProbeConfig

PAPER = Config(
    experiment="synbols_unsupervised",
    name="synbols_unsupervised",
    version="v1",
    seeds=(3,),
    train=TrainConfig(duration="200 epochs", batch_size=256),
    # Released code: one constant rate for encoder, decoder, discriminators and probes; no early stop.
    optim=OptimConfig(name="adam", lr=1e-4, b1=0.9, b2=0.999, eps=1e-8, schedule="constant"),
    data=DataConfig(source="synbols:non-camou-bw?num_samples=100000&auxiliary=false", train="train", valid="valid"),
    model=RepresentationConfig(name="VAE", width=1.0, codes=(64, 64), encoder_blocks=(2, 1, 2)),
    reconstruction="l1",
    kl=CyclicalConfig(beta=0.01, cycles=4, floor=1e-4),
    infomax=InfoMaxConfig(alpha=0.5, beta=1.0, gamma=0.1, prior_adversarial=False),
    probe=ProbeConfig(
        attributes=("char", "font", "rotation", "scale", "translation_x", "translation_y"),
        schedules=("online",),
        hidden=0,  # released code: twice the code; the paper's text: 256
        lr=1e-4,
        frozen_hidden=(256,),
        frozen_lrs=(1e-4,),
        fit=FitConfig(epochs=200, batch_size=256, patience=10),
    ),
    task=TaskConfig(column="Solid Pattern", num_chars=26, num_fonts=888),
    eval=EvalConfig(every="1 epochs", batch_size=256),
    log=LogConfig(every="1 epochs"),
    checkpoint=CheckpointConfig(every="5 epochs"),
)

# Letters with accents, as in the authors' later table; and the search over probes that the reproduction describes.
REPORT = {
    "version": "v2",
    "data.source": "synbols:non-camou-bw?num_samples=100000",
    "task.num_chars": 48,
    "task.num_fonts": 1120,
    "probe.schedules": ("online", "frozen"),
    "probe.frozen_hidden": (256, 128, 512),
    "probe.frozen_lrs": (1e-4, 1e-3),
}

SMOKE = {
    "train.duration": "4 epochs",
    "train.batch_size": 64,
    "optim.lr": 2e-3,
    "data.source": "synbols:non-camou-bw?num_samples=2000&auxiliary=false&resolution=16",
    "model.width": 0.125,
    "model.encoder_blocks": (1, 1, 1),
    "kl.cycles": 2,
    "probe.attributes": ("char", "font"),
    "probe.schedules": ("online", "frozen"),
    "probe.lr": 2e-3,
    "probe.frozen_lrs": (2e-3,),
    "probe.fit.epochs": 30,
    "probe.fit.batch_size": 64,
    "parallel.quick_compile": True,
    "eval.every": "2 epochs",
    "checkpoint.every": "2 epochs",
}

# An eighth of the width, a tenth of the images, and so few steps at a higher rate that beta rises only once; the table
# is filled by probes that are trained to their end, after the encoder.
SMALL = {
    "train.duration": "6 epochs",
    "train.batch_size": 64,
    "optim.lr": 1e-3,
    "data.source": "synbols:non-camou-bw?num_samples=10000&auxiliary=false",
    "model.width": 0.125,
    "kl.cycles": 1,
    "probe.schedules": ("frozen", "online"),
    "probe.lr": 1e-3,
    "probe.frozen_lrs": (1e-3,),
    "eval.every": "2 epochs",
    "checkpoint.every": "2 epochs",
}

PRESETS = {"report": REPORT, "small": SMALL, "smoke": SMOKE}

MODELS = ("Deep InfoMax", "VAE", "HVAE (2 level)", "VAE ResNet", "HVAE (2 level) ResNet")
DATA = {"Solid Pattern": "non-camou-bw", "Shades": "non-camou-shade", "Camouflage": "camouflage"}
SEEDS = {"Deep InfoMax": (2, 42, 128)}
OTHER_SEEDS = (3, 42, 123)


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """The cells of table 4; `report` and `small` have one seed, `smoke` has three models on its own data."""
    if preset == "smoke":
        return [{"model.name": name} for name in ("Deep InfoMax", "VAE", "HVAE (2 level)")]
    source = get_config(preset).data.source
    num_seeds = 3 if preset == "paper" else 1
    return [
        {
            "model.name": model,
            "task.column": column,
            "seeds": (seed,),
            "data.source": source.replace("non-camou-bw", name),
        }
        for i in range(num_seeds)
        for model in MODELS
        for column, name in DATA.items()
        for seed in [SEEDS.get(model, OTHER_SEEDS)[i]]
    ]
