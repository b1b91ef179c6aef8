"""Layers: parts of networks that know nothing of papers, data or training."""

from jaxrepro.layers.conv import Conv, ConvTranspose, conv2d, conv_transpose2d
from jaxrepro.layers.film import FiLM, FiLMKind
from jaxrepro.layers.pooling import avg_pool, max_pool

__all__ = ["Conv", "ConvTranspose", "FiLM", "FiLMKind", "avg_pool", "conv2d", "conv_transpose2d", "max_pool"]
