"""Table 1 of Synbols: seven classifiers on Synbols data sets, MNIST and SVHN.

python launch.py --config=configs/synbols_supervised.py             # Conv-4 GAP on 100k letters, three seeds
python launch.py --config=configs/synbols_supervised.py:report      # on the data of the reproduction: 48 symbols
python launch.py --config=configs/synbols_supervised.py:small --sweep   # 20k letters, for a processor without GPU
python launch.py --config=configs/synbols_supervised.py:smoke       # 6,000 letters
python launch.py --config=configs/synbols_supervised.py --sweep     # all cells of the table, 3 seeds each

`paper` compares with the numbers that the paper prints (26 letters), `report` with the authors' later table and with
the reproduction, which re-ran it. Rows with "+" are --config.augment.plus=True; a wide network has its own batch and
rate (`MODELS` below), which the sweep sets.
"""

from jaxrepro.config import (
    CheckpointConfig,
    DataConfig,
    EnergyConfig,
    EvalConfig,
    LogConfig,
    OptimConfig,
    PlateauConfig,
    Precision,
    TrainConfig,
)
from jaxrepro.config_file import flatten, make_config
from jaxrepro.data.pil_augment import PlusConfig
from jaxrepro.experiments.synbols_supervised import (
    Config,
    TaskConfig,
    Weights,
)
from jaxrepro.models.classifiers import ClassifierConfig

SEEDS = (3, 42, 123)  # of the weights and the batches; the partition of the data is the same for all

PAPER = Config(
    experiment="synbols_supervised",
    name="synbols_supervised",
    version="v1",
    seeds=SEEDS,
    precision=Precision.BFLOAT16,  # appendix: 16-bit floats with a scaled loss
    train=TrainConfig(duration="200 epochs", batch_size=512),
    # Section 4 has Adam; rate, L2 and the plateau rule are the released code's.
    optim=OptimConfig(
        name="adam",
        lr=4e-4,
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        l2=1e-4,
        schedule="plateau",
        plateau=PlateauConfig(factor=0.1, patience=10, threshold=1e-4, stop_at=1e-3),
    ),
    tested=Weights.LAST,
    model=ClassifierConfig(name="Conv-4 GAP"),
    data=DataConfig(source="synbols:default?num_samples=100000&auxiliary=false"),
    task=TaskConfig(column="Synbols Default 100k", label="label", num_classes=26, num_train=60_000),
    # Appendix; the strengths of the colour changes are the released code's.
    augment=PlusConfig(
        plus=False,
        max_rotation=10.0,
        max_translation=0.1,
        scale=(0.9, 1.1),
        max_shear=2.0,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.4,
    ),
    # Both documents count 300 W for a device, and 20 to 26 g of CO₂ per kWh; here the higher.
    energy=EnergyConfig(watts=300.0, grams_per_kwh=26.0),
    eval=EvalConfig(every="1 epochs", batch_size=1000),
    log=LogConfig(every="1 epochs"),
    checkpoint=CheckpointConfig(every="5 epochs"),
)

V2 = {
    "version": "v2",
    "data.source": "synbols:default?num_samples=100000",
    "task.num_classes": 48,
}

SMOKE = {
    "seeds": (3,),
    "precision": "float32",
    "train.duration": "12 epochs",
    "train.batch_size": 64,
    "optim.lr": 2e-3,
    "optim.plateau.patience": 1,
    "energy.watts": 65.0,  # a desktop processor
    # Letters in black and white: with the patterns of the table, so few images teach next to nothing.
    "data.source": "synbols:default-bw?num_samples=6000&auxiliary=false",
    "task.column": "Black and white",
    "task.num_train": 3_600,
}

# A fifth of the images: batches are smaller so that an epoch has as many steps, and training is shorter.
SMALL = {
    "precision": "float32",
    "train.duration": "40 epochs",
    "train.batch_size": 128,
    "optim.plateau.patience": 4,
    "energy.watts": 65.0,  # a desktop processor
    "data.source": "synbols:default?num_samples=20000&auxiliary=false",
}

PRESETS = {"report": V2, "small": SMALL, "smoke": SMOKE}

# Row of the table: what differs from the settings above.
WIDE = {"model.name": "WRN-28-4", "optim.lr": 1e-4, "train.batch_size": 128}
MODELS = (
    {"model.name": "MLP"},
    {"model.name": "Conv-4 Flat"},
    {"model.name": "Conv-4 GAP"},
    {"model.name": "ResNet-12"},
    {"model.name": "ResNet-12", "augment.plus": True},
    WIDE,
    WIDE | {"augment.plus": True},
)
LIGHT = MODELS[:3]
FIRST = ("task.column", "model.name", "augment.plus")  # in the name of a run's folder


def column(name, source, num_classes, label="label", num_train=60_000, **more):
    """Returns the overrides of a column."""
    task = {"column": name, "label": label, "num_classes": num_classes, "num_train": num_train}
    return {f"task.{k}": v for k, v in task.items()} | {"data.source": source} | more


# These have no validation set; the released code validates on the test set (--config.task.validate_on_test=True).
HELD_OUT = {"data.train": "train[:90%]", "data.valid": "train[90%:]"}
MNIST = column("MNIST", "tfds:mnist", 10, **HELD_OUT)
SVHN = column("SVHN", "tfds:svhn_cropped", 10, num_train=73_257, **HELD_OUT)
# No package of Python brings enough Korean fonts: `python -m jaxrepro.synbols fonts --language=korean` names Debian's.
KOREAN = column("Korean 100k", "synbols:korean-1k?num_samples=100000&system=true", 1000)


def of_version(letters, num_chars, num_fonts):
    """Returns the columns over English letters; `letters` is the option that chooses them."""

    def synbols(name, num_samples=100_000):
        return f"synbols:{name}?num_samples={num_samples}{letters}"

    return (
        column("Synbols Default 100k", synbols("default"), num_chars),
        column("Synbols Default 1M", synbols("default", 1_000_000), num_chars, num_train=600_000),
        column("Camouflage 100k", synbols("camouflage"), num_chars),
        column("Less Variations 100k", synbols("less-variations"), num_fonts, label="font"),
    )


COLUMNS = {
    "v1": (MNIST, SVHN, KOREAN, *of_version("&auxiliary=false", 26, 888)),
    # The natural patterns are two photographs here; the original draws from a large collection.
    "v2": (
        MNIST,
        SVHN,
        KOREAN,
        *of_version("", 48, 1120),
        column("Natural 100k", "synbols:natural-patterns?num_samples=100000", 48),
    ),
}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def cells(config, columns, models=MODELS):
    """Returns the points of models, columns and seeds; of each the values that differ from those of `config`."""
    given = flatten(config.to_dict())
    return [
        {k: cell[k] for k in FIRST if k in cell}
        | {"seeds": (seed,)}
        | {k: v for k, v in cell.items() if k not in FIRST and given[k] != v}
        for seed in SEEDS
        for column in columns
        for model in models
        for cell in [model | column]
    ]


def sweep(preset: str = "paper"):
    """The cells of table 1 with a seed each; for `small` and `smoke` light models on the preset's own data."""
    config = get_config(preset)
    if preset == "smoke":
        return [{"model.name": "MLP"}, {"model.name": "Conv-4 GAP"}]
    if preset == "small":
        return cells(config, [{"task.column": config.task.column}], LIGHT)
    return cells(config, COLUMNS[config.version])
