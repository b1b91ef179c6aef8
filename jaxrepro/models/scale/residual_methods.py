"""The methods of the STL-10 table by the names of its rows.

    network = make_residual("SESN-B", num_classes=10)
    network = make_residual("SESN-B", num_classes=26, width=1, stem_strides=2)      # an eighth of the channels

Sosnovik et al., "Scale-Equivariant Steerable Networks" (ICLR 2020), table 3: WRN-16-8 and eight variants of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxrepro.errors import UserError, check, did_you_mean
from jaxrepro.models.scale import residual_parts as parts_of
from jaxrepro.models.scale.residual import Parts, Remat, ResidualNet

STEM_CHANNELS = 16


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
      parts: () -> what it puts into the shared network.
      groups: channels of the three groups at width 1.
      stem: channels of the stem, whatever the width.
      stem_strides: of the published network.
    """

    parts: Callable[[], Parts] = Parts
    groups: tuple[int, int, int] = (16, 32, 64)
    stem: int = STEM_CHANNELS
    stem_strides: int = 1


SS_CNN = {"groups": (11, 22, 44), "stem": 11}
METHODS: Mapping[str, Method] = {
    "WRN": Method(),
    "SiCNN": Method(parts_of.sicnn),
    "SI-ConvNet": Method(parts_of.si_convnet),
    "DSS": Method(parts_of.dss, groups=(16, 30, 64)),
    "SS-CNN": Method(parts_of.ss_cnn, **SS_CNN),
    "SESN-A": Method(parts_of.sesn),
    "SESN-B": Method(lambda: parts_of.sesn(projects=True)),
    "SESN-C": Method(lambda: parts_of.sesn(smallest=1.1, num_taps=2)),
    "Harm WRN": Method(parts_of.harmonic, stem_strides=2),
}
# Not in the table: what explains its numbers.
VARIANTS: Mapping[str, Method] = {
    "SS-CNN, all sizes": Method(lambda: parts_of.ss_cnn(parts_of.STEM_SIZES), **SS_CNN),
    "SESN-A, one scale": Method(lambda: parts_of.sesn(num_scales=1)),
    "SESN-B, one scale": Method(lambda: parts_of.sesn(num_scales=1, projects=True)),
    "SESN-C, scales of A": Method(lambda: parts_of.sesn(num_taps=2)),
    "Harm WRN, six filters": Method(lambda: parts_of.harmonic(level=3), stem_strides=2),
}
ALL_METHODS = {**METHODS, **VARIANTS}


def method_of(name: str) -> Method:
    """Returns a row of the table or a variant of one.

    Raises:
      UserError: there is none of that name.
    """
    if name not in ALL_METHODS:
        near = did_you_mean(name, ALL_METHODS)
        raise UserError(f"method is {name!r}{near}; it must be one of: {'; '.join(ALL_METHODS)}")
    return ALL_METHODS[name]


@dataclass(frozen=True)
class ResidualConfig:
    """The networks of a run.

    Attributes:
      method: a row of table 3, or one of its variants.
      beside: others, trained in the same run.
      width: factor of the channels of the groups, 8 in the table.
      stem_strides: of every method's stem; 0 = the method's own, 1 but for Harm WRN.
      dropout: probability that a number inside a block is dropped.
      remat: what the backward pass computes again: "none", "norm" or "block".
    """

    method: str = "SESN-B"
    beside: tuple[str, ...] = ()
    width: int = 8
    stem_strides: int = 0
    dropout: float = 0.3
    remat: Remat = Remat.NONE

    def __post_init__(self):
        for name in self.methods:
            method_of(name)
        check(len(set(self.methods)) == len(self.methods), f"beside is {self.beside}; a method stands there twice")
        check(self.width >= 1, f"width is {self.width}; it must be 1 or more")
        check(self.stem_strides in (0, 1, 2), f"stem_strides is {self.stem_strides}; it must be 0 (usual), 1 or 2")
        check(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must lie in [0, 1)")

    @property
    def methods(self) -> tuple[str, ...]:
        return (self.method, *self.beside)

    def shrinks(self, method: str) -> int:
        """Returns by which factor a method's last maps are smaller than its images; it must divide their side."""
        return 4 * (self.stem_strides or ALL_METHODS[method].stem_strides)


def make_residual(
    method: str,
    num_classes: int,
    width: int = 8,
    stem_strides: int = 0,
    dropout: float = 0.3,
    remat: Remat = Remat.NONE,
) -> ResidualNet:
    """Returns a method's network; see `ResidualConfig` for the arguments.

    Raises:
      UserError: no such method.
    """
    chosen = method_of(method)
    widths = (chosen.stem, *(width * channels for channels in chosen.groups))
    return ResidualNet(chosen.parts(), widths, num_classes, stem_strides or chosen.stem_strides, dropout, Remat(remat))
