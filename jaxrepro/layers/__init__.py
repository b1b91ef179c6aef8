"""Layers: parts of networks that know nothing of papers, data or training."""

from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.conv import Conv, ConvTranspose, conv2d, conv_transpose2d
from jaxrepro.layers.film import FiLM, FiLMKind
from jaxrepro.layers.pooling import avg_pool, max_pool
from jaxrepro.layers.scale_space import max_over_scales, scale_max_pool
from jaxrepro.layers.steerable_basis import (
    SteerableBasis,
    geometric_scales,
    multi_level_functions,
    single_level_functions,
)
from jaxrepro.layers.steerable_conv import (
    SESConv,
    SESConv1x1,
    SESConvH,
    Strategy,
    lift,
    lift_to_maps,
    scale_conv,
    scale_conv_maps,
)

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "FiLM",
    "FiLMKind",
    "SESConv",
    "SESConv1x1",
    "SESConvH",
    "SteerableBasis",
    "Strategy",
    "avg_pool",
    "conv2d",
    "conv_transpose2d",
    "geometric_scales",
    "lift",
    "lift_to_maps",
    "max_over_scales",
    "max_pool",
    "multi_level_functions",
    "scale_conv",
    "scale_conv_maps",
    "scale_max_pool",
    "single_level_functions",
]
