"""The classifiers of the Synbols tables by name, and what they cost.

    model = make_classifier("Conv-4 GAP", num_classes=26)
    logits = model.apply(variables, images, train=False)          # float [B, 32, 32, 3] in [-1, 1] to [B, 26]
    forward_macs(model, (32, 32, 3))                               # 15.05 million

Synbols (Lacoste et al., 2020), section 4 and tables 1 and 2.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.errors import check, unknown
from jaxrepro.layers import Conv
from jaxrepro.models.conv4 import Conv4, Conv4Head
from jaxrepro.models.mlp import MLP
from jaxrepro.models.resnet12 import ResNet12
from jaxrepro.models.vgg import VGG16
from jaxrepro.models.wide_resnet import WideResNet

CLASSIFIERS: Mapping[str, Callable[..., nn.Module]] = {
    "MLP": MLP,
    "Conv-4 Flat": functools.partial(Conv4, head=Conv4Head.FLAT),
    "Conv-4 GAP": functools.partial(Conv4, head=Conv4Head.GAP),
    "ResNet-12": ResNet12,
    "WRN-28-4": WideResNet,
    "VGG-16": VGG16,
}


TABLE_ROWS = tuple(name for name in CLASSIFIERS if name != "VGG-16")  # the tables' row VGG-16 is another network


@dataclass(frozen=True)
class ClassifierConfig:
    """The network.

    Attributes:
      name: a row of the table, without "+".
      channels, max_pooling: of Conv-4, see `models.conv4`; () = as executed.
    """

    name: str = "Conv-4 GAP"
    channels: tuple[int, ...] = ()
    max_pooling: bool = False

    def __post_init__(self):
        if self.name not in TABLE_ROWS:
            raise unknown("name in config.model:", self.name, TABLE_ROWS)
        check(len(self.channels) in (0, 4), f"channels is {self.channels}; give four numbers, or () for the usual")
        chosen = bool(self.channels) or self.max_pooling
        check(
            not chosen or self.name.startswith("Conv-4"),
            f"name is {self.name!r}; channels and max_pooling can be chosen for Conv-4 only",
        )


def make_classifier(name: str, num_classes: int, **options) -> nn.Module:
    """Returns a network with `__call__(images, train)`; `options` are its other fields.

    Raises:
      UserError: no such classifier.
    """
    if name not in CLASSIFIERS:
        raise unknown("classifier", name, CLASSIFIERS)
    return CLASSIFIERS[name](num_classes, **options)


def forward_macs(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Returns the multiply-adds of one image's forward pass, those of convolutions and dense layers only."""
    macs = 0

    def count(next_function, args, kwargs, context):
        nonlocal macs
        out = next_function(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, Conv | nn.Dense):
            kernel = context.module.variables["params"]["kernel"]
            macs += math.prod(kernel.shape) * math.prod(out.shape[1:-1])
        return out

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(count):
        jax.eval_shape(lambda images: model.init(jax.random.key(0), images, False), images)
    return macs
