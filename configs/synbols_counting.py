"""Table 5 of Synbols: counting letters by blobs (FCN8-L) and by density (FCN8-D).

python launch.py --config=configs/synbols_counting.py                    # FCN8-L, fixed scale, no overlap, three seeds
python launch.py --config=configs/synbols_counting.py --sweep            # 2 methods × 5 data sets × 3 seeds
python launch.py --config=configs/synbols_counting.py:small --sweep      # a narrow network, 2 methods × 2 data sets
python launch.py --config=configs/synbols_counting.py:smoke --sweep      # both methods on a few images

`paper` needs the ImageNet weights of VGG-16: they come from the hub, or --config.trunk.weights=vgg16.safetensors; with
--config.trunk.weights="" it begins with random ones. The random split of 60, 20 and 20 % is split=random in the source,
with --config.data.test="test[:10000]". The later package of LCFCN: --config.method.rule=package --config.optim.lr=1e-5
--config.optim.l2=5e-4.
"""

from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.experiments.synbols_counting import Config, MethodConfig, TaskConfig
from jaxrepro.models.trunk import TrunkConfig

SEEDS = (0, 1, 2)


def source(name, num_samples, split, options=""):
    return f"synbols:{name}?num_samples={num_samples}&auxiliary=false&points=a&split={split}{options}"


PAPER = Config(
    experiment="synbols_counting",
    name="synbols_counting",
    version="v1",
    seeds=SEEDS,
    train=TrainConfig(duration="100 epochs", batch_size=1),
    # Released code. The paper's exponent is unreadable in the scan.
    optim=OptimConfig(name="adam", lr=1e-3, b1=0.99, b2=0.999),
    # As released: of the train column the first 9,000 train and the next 1,000 validate; the valid column tests. It has
    # about 6,000 images, none of which begins with an "a".
    data=DataConfig(
        source=source("counting-fix-scale", 100_000, "stratified_char"),
        train="train[:9000]",
        valid="train[9000:10000]",
        test="valid",
    ),
    method=MethodConfig(name="FCN8-L", rule="benchmark", root=True, padding=100),
    task=TaskConfig(column="Fixed scale/Non-overlapping", overlap="none", patience=6, epoch_share=2.0),
    trunk=TrunkConfig(weights="timm/vgg16.tv_in1k"),
    eval=EvalConfig(every="1 epochs", batch_size=8),
    log=LogConfig(every="200 steps"),
    checkpoint=CheckpointConfig(every="1 epochs"),
)

# The random split, in whose parts counts are alike: a few thousand images suffice.
NARROW = {
    "seeds": (0,),
    "train.batch_size": 4,
    "data.train": "train",
    "data.valid": "valid",
    "data.test": "test",
    "method.padding": 1,
    "trunk.weights": "",
    "trunk.blocks": ((8, 8), (16, 16), (32, 32), (32,), (32,)),
    "trunk.hidden_size": 64,
    "trunk.dropout": 0.2,
    "optim.b1": 0.9,
    "eval.batch_size": 16,
}

SMALL = NARROW | {
    "train.duration": "20 epochs",
    "data.source": source("counting-fix-scale", 6000, "random"),
    "data.valid": "valid[:50%]",
    "eval.num_examples": 500,
}

SMOKE = NARROW | {
    "train.duration": "10 epochs",
    "trunk.blocks": ((8,), (16,), (32,), (32,), (32,)),
    "data.source": source("counting-fix-scale", 600, "random", "&resolution=64"),
    "log.every": "20 steps",
}

PRESETS = {"small": SMALL, "smoke": SMOKE}

METHODS = ("FCN8-L", "FCN8-D")
COLUMNS = {  # column -> data set and overlap
    "Fixed scale/Non-overlapping": ("counting-fix-scale", "none"),
    "Fixed scale/Overlapping": ("counting-fix-scale", "some"),
    "Variable scale/Non-overlapping": ("counting", "none"),
    "Variable scale/Overlapping": ("counting", "some"),
    "Crowded": ("counting-crowded", "any"),
}
SMALL_COLUMNS = ("Fixed scale/Non-overlapping", "Crowded")


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """All cells of the table, a seed each; for `small` both methods on two columns, for `smoke` on one."""
    if preset == "smoke":
        return [{"method.name": method} for method in METHODS]
    given = PAPER.data.source if preset == "paper" else SMALL["data.source"]
    points = []
    for column in COLUMNS if preset == "paper" else SMALL_COLUMNS:
        name, overlap = COLUMNS[column]
        cell = {"task.column": column, "task.overlap": overlap}
        cell["data.source"] = given.replace("counting-fix-scale", name)
        points += [{"method.name": method} | cell for method in METHODS]
    if preset == "small":
        return points
    return [point | {"seeds": (seed,)} for seed in SEEDS for point in points]
