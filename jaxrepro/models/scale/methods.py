"""The ten methods of the MNIST-scale table by the names of its rows.

    model = make_model("SESN Scalar", resolution=28, tuned_with_zoom=True)
    variables = model.init(key, images, False)
    logits = model.apply(variables, images, False)

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), table 2. The baselines have one setting; the
hyper-parameters of SESN were tuned for each column of the table.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn

from jaxrepro.errors import check, unknown
from jaxrepro.models.scale.cnn import CNN
from jaxrepro.models.scale.dss import DSSScalar, DSSVector
from jaxrepro.models.scale.sesn import SESN
from jaxrepro.models.scale.sevf import SEVFScalar, SEVFVector
from jaxrepro.models.scale.si_convnet import SIConvNet
from jaxrepro.models.scale.sicnn import SiCNN
from jaxrepro.models.scale.ss_cnn import SSCNN

RESOLUTIONS = (28, 56)
COLUMNS = ("28x28", "28x28+", "56x56", "56x56+")


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
      module: the Linen module; it maps (images float [B, 28, 28, 1], train) to logits [B, 10].
      settings: column -> fields of the module that differ from their defaults there.
    """

    module: type[nn.Module]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _sesn(
    num_scales: int, scale_factor: float, sigma_min: float, mult: float, kernel_size: int, vector: bool = False
) -> dict[str, Any]:
    """The basis: `scale_factor` is that of the largest scale to the smallest, `kernel_size` holds the largest."""
    return {
        "num_scales": num_scales,
        "scale_factor": scale_factor,
        "sigma_min": sigma_min,
        "mult": mult,
        "kernel_size": kernel_size,
        "vector": vector,
    }


MODELS: dict[str, Method] = {
    "CNN": Method(CNN),
    "SiCNN": Method(SiCNN),
    "SI-ConvNet": Method(SIConvNet),
    "SEVF Scalar": Method(SEVFScalar),
    "SEVF Vector": Method(SEVFVector),
    "DSS Scalar": Method(DSSScalar),
    "DSS Vector": Method(DSSVector),
    "SS-CNN": Method(SSCNN),
    "SESN Scalar": Method(
        SESN,
        {
            "28x28": _sesn(4, 3.0, 1.7, 1.5, 15),
            "28x28+": _sesn(4, 3.0, 1.5, 1.4, 13),
            "56x56": _sesn(3, 2.0, 2.0, 1.4, 15),
            "56x56+": _sesn(3, 3.0, 1.0, 1.4, 17),
        },
    ),
    "SESN Vector": Method(
        SESN,
        {
            "28x28": _sesn(3, 3.0, 1.5, 1.5, 13, vector=True),
            "28x28+": _sesn(3, 3.0, 1.5, 1.4, 15, vector=True),
            "56x56": _sesn(4, 2.0, 2.0, 1.5, 15, vector=True),
            "56x56+": _sesn(4, 2.0, 1.5, 1.4, 13, vector=True),
        },
    ),
}


# Not in the table: the same smooth filters at the smallest scale alone, which no change of scale moves anywhere.
VARIANTS: dict[str, Method] = {
    f"{name}, one scale": Method(SESN, {c: {**s, "num_scales": 1} for c, s in MODELS[name].settings.items()})
    for name in ("SESN Scalar", "SESN Vector")
}


def method_of(name: str) -> Method:
    """Returns a row of the table or a variant of one.

    Raises:
      UserError: there is none of that name.
    """
    every = {**MODELS, **VARIANTS}
    if name not in every:
        raise unknown("method in config.model:", name, every)
    return every[name]


def column_of(resolution: int, with_zoom: bool) -> str:
    """Returns the table's name of a column: "28x28", or "28x28+" with scaling augmentation."""
    return f"{resolution}x{resolution}" + "+" * with_zoom


@dataclass(frozen=True)
class MethodsConfig:
    """The networks of a run.

    Attributes:
      method: a row of table 2, or "SESN Scalar, one scale", "SESN Vector, one scale".
      beside: others, trained in the same run.
      resolution: 28 or 56 pixels.
      tuned_with_zoom: take the hyper-parameters of the columns with "+" (SESN only).
      channels: of the three stages, () = the method's own.
      hidden: units of the dense layer.
      dropout: probability that one of them is dropped.
    """

    method: str = "SESN Scalar"
    beside: tuple[str, ...] = ()
    resolution: int = 28
    tuned_with_zoom: bool = False
    channels: tuple[int, ...] = ()
    hidden: int = 256
    dropout: float = 0.7

    def __post_init__(self):
        for name in self.methods:
            method_of(name)
        check(len(set(self.methods)) == len(self.methods), f"beside is {self.beside}; a method stands there twice")
        check(self.resolution in RESOLUTIONS, f"resolution is {self.resolution}; it must be one of {RESOLUTIONS}")
        check(len(self.channels) in (0, 3), f"channels is {self.channels}; give three numbers, or () for the usual")
        check(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must lie in [0, 1)")

    @property
    def methods(self) -> tuple[str, ...]:
        return (self.method, *self.beside)


def make_model(method: str, resolution: int = 28, tuned_with_zoom: bool = False, **changes: Any) -> nn.Module:
    """Returns a method's network.

    Args:
      method: a key of `MODELS` or `VARIANTS`.
      resolution: 28 or 56; the network enlarges its 28×28 input itself.
      tuned_with_zoom: whether hyper-parameters are those found with scaling augmentation (they differ for SESN only).
      changes: other fields of the module or of its frame, such as fewer channels.
    """
    chosen = method_of(method)
    of_frame = {k: changes.pop(k) for k in ("channels", "hidden", "dropout") if k in changes}
    model = chosen.module(**{**chosen.settings.get(column_of(resolution, tuned_with_zoom), {}), **changes})
    return model.clone(frame=dataclasses.replace(model.frame, resolution=resolution, **of_frame))
