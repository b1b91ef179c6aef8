"""Scale-equivariant steerable networks on MNIST-scale: tables 2 and 4.

python launch.py --config=configs/sesn_mnist_scale.py             # SESN Scalar at 28x28, six realisations
python launch.py --config=configs/sesn_mnist_scale.py:report      # the reproduction report: three realisations
python launch.py --config=configs/sesn_mnist_scale.py:smoke       # SESN Scalar and CNN on embedded digits
python launch.py --config=configs/sesn_mnist_scale.py --sweep     # all cells of table 2
"""

from jaxrepro.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig
from jaxrepro.config_file import make_config
from jaxrepro.data.mnist_scale import RealisationConfig
from jaxrepro.experiments.sesn import AugmentConfig, Config
from jaxrepro.models.scale.methods import MethodsConfig

PAPER = Config(
    experiment="sesn",
    name="sesn_mnist_scale",
    seeds=(0, 1, 2, 3, 4, 5),  # six realisations
    train=TrainConfig(duration="60 epochs", batch_size=128),
    # Released code: one learning rate for every method, no weight decay.
    optim=OptimConfig(
        name="adam",
        lr=0.01,
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        schedule="drops",
        drops=("20 epochs", "40 epochs"),
        drop_factor=0.1,
    ),
    data=DataConfig(source="tfds:mnist"),
    realisation=RealisationConfig(num_train=10_000, num_valid=2_000, num_test=50_000, min_scale=0.3, max_scale=1.0),
    augment=AugmentConfig(zoom=()),
    model=MethodsConfig(method="SESN Scalar", resolution=28, tuned_with_zoom=False, hidden=256, dropout=0.7),
    eval=EvalConfig(every="1 epochs", batch_size=500),
    log=LogConfig(every="1 epochs"),
    checkpoint=CheckpointConfig(every="5 epochs"),
)

PRESETS = {
    "report": {"seeds": (0, 1, 2)},
    "smoke": {
        "seeds": (0,),
        "train.duration": "6 epochs",
        "train.batch_size": 64,
        "optim.drops": ("60%", "85%"),
        "data.source": "mnist5k",
        "realisation.num_train": 2_000,
        "realisation.num_valid": 500,
        "realisation.num_test": 1_000,
        "model.beside": ("CNN", "SESN Scalar, one scale"),
        "log.every": "1 epochs",
        "checkpoint.every": "50%",
    },
}

METHODS = (
    "CNN",
    "SiCNN",
    "SI-ConvNet",
    "SEVF Scalar",
    "SEVF Vector",
    "DSS Scalar",
    "DSS Vector",
    "SS-CNN",
    "SESN Scalar",
    "SESN Vector",
)
COLUMNS = ((28, ()), (28, (0.5, 2.0)), (56, ()), (56, (0.5, 2.0)))  # resolution, and the zoom of the columns with "+"


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def sweep(preset: str = "paper"):
    """The cells of table 2: every method in every column.

    For `report` also SESN with the settings of either column under the other's augmentation: the reproduction seems to
    pool runs without and with augmentation.
    """
    cells = [(method, *column, bool(column[1])) for method in METHODS for column in COLUMNS]
    if preset == "report":
        cells += [(m, resolution, zoom, not tuned) for m, resolution, zoom, tuned in cells if m.startswith("SESN")]
    return [
        {
            "model.method": method,
            "model.resolution": resolution,
            "model.tuned_with_zoom": tuned_with_zoom,
            "augment.zoom": zoom,
        }
        for method, resolution, zoom, tuned_with_zoom in cells
    ]
