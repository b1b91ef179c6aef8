"""The multi-layer perceptron of the Synbols tables."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.torch_init import torch_dense

SLOPE = 0.01  # of the leaky ReLU


class MLP(nn.Module):
    """Dense layers with leaky ReLU, without normalisation. Maps float [B, H, W, C] to logits [B, num_classes].

    924,954 parameters for 32×32×3 and 26 classes. The paper states 72k, which is the second hidden layer and the head.
    """

    num_classes: int
    hidden: tuple[int, ...] = (256, 256, 256)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images.reshape(len(images), -1)
        for features in self.hidden:
            x = nn.leaky_relu(torch_dense(x, features), SLOPE)
        return torch_dense(x, self.num_classes, dtype=jnp.float32)
