"""Networks that read an attribute from a code: a linear one and a perceptron with normalisation.

logits = probe_network(26, hidden=128)(codes, train)      # [B, 64] to float32 [B, 26]; hidden = 0 is linear
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.layers.torch_init import torch_dense, torch_uniform


class LinearProbe(nn.Module):
    """One dense layer: float [B, D] to float32 [B, features]."""

    features: int

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool) -> jax.Array:
        return torch_dense(codes, self.features, dtype=jnp.float32)


class MLPProbe(nn.Module):
    """Two hidden layers with BN and ReLU, no biases: float [B, D] to float32 [B, features].

    28,416 parameters for D = 64, hidden = 128 and 26 features.

    Source: the released code of Synbols (Lacoste et al., 2020), where hidden = 2 D; the paper, section 4.5, has 256.
    """

    features: int
    hidden: int

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool) -> jax.Array:
        x = codes
        for _ in range(2):
            x = nn.relu(BatchNorm()(nn.Dense(self.hidden, use_bias=False, kernel_init=torch_uniform)(x), train))
        return nn.Dense(self.features, use_bias=False, kernel_init=torch_uniform, dtype=jnp.float32)(x)


def probe_network(features: int, hidden: int) -> nn.Module:
    """Returns the perceptron, or for hidden = 0 the linear probe."""
    return MLPProbe(features, hidden) if hidden else LinearProbe(features)
