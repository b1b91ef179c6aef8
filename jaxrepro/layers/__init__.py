"""Layers: parts of networks that know nothing of papers, data or training."""

from jaxrepro.layers.conv import Conv, ConvTranspose, conv2d, conv_transpose2d
from jaxrepro.layers.film import FiLM, FiLMKind
from jaxrepro.layers.pooling import avg_pool, max_pool
from jaxrepro.layers.scale_conv import SESConv, SESConvH, lift, scale_conv
from jaxrepro.layers.scale_space import max_over_scales, scale_max_pool
from jaxrepro.layers.steerable_basis import (
    SteerableBasis,
    geometric_scales,
    multi_level_functions,
    single_level_functions,
)

__all__ = [
    "Conv",
    "ConvTranspose",
    "FiLM",
    "FiLMKind",
    "SESConv",
    "SESConvH",
    "SteerableBasis",
    "avg_pool",
    "conv2d",
    "conv_transpose2d",
    "geometric_scales",
    "lift",
    "max_over_scales",
    "max_pool",
    "multi_level_functions",
    "scale_conv",
    "scale_max_pool",
    "single_level_functions",
]
