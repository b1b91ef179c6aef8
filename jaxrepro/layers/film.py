"""FiLM: a feature map is scaled and shifted, channel by channel, by a small network of the condition.

film = FiLM(hidden=512, scale=0.1)
y = film.apply(variables, x, condition)      # x [B, H, W, C], condition [B, D]
"""

from enum import StrEnum

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.torch_init import torch_bias, torch_uniform

film_init = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class FiLMKind(StrEnum):
    """AFFINE: sigma = 1 + m raw, mu = m raw, from two networks (YOTO's released code).

    SIGMOID: sigma = sigmoid(raw), mu = sigmoid(raw), from one network with two outputs (the reproduction report).
    """

    AFFINE = "affine"
    SIGMOID = "sigmoid"


class FiLM(nn.Module):
    """y = sigma * x + mu with sigma and mu [B, 1, 1, C] from the condition.

    Attributes:
      hidden: width H of the hidden layer, leaky ReLU with slope 0.2 after it; 0 = none, raw is linear in the condition.
      scale: m, for AFFINE. With raw = 0 (zero last layer) AFFINE is the identity, exactly.
      kind: how sigma and mu come from the network.
      zero_init: starts the last layer at zero.
      torch_init: PyTorch's default initial weights and biases.

    Source: Dosovitskiy & Djolonga, "You Only Train Once" (ICLR 2020), section 3.1 and released code; the reproduction
    report for SIGMOID.
    """

    hidden: int
    scale: float = 0.1
    kind: FiLMKind = FiLMKind.AFFINE
    zero_init: bool = False
    torch_init: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """Args: x: [B, ..., C]; condition: [B, D]. Returns [B, ..., C]."""
        channels = x.shape[-1]
        if self.kind == FiLMKind.AFFINE:
            sigma = 1 + self.scale * self._network(condition, channels, "sigma", film_init)
            mu = self.scale * self._network(condition, channels, "mu", film_init)
        else:
            raw = self._network(condition, 2 * channels, "both", nn.initializers.lecun_normal())
            sigma, mu = jnp.split(nn.sigmoid(raw), 2, axis=-1)
        shape = (x.shape[0], *(1,) * (x.ndim - 2), channels)
        return x * sigma.reshape(shape) + mu.reshape(shape)

    def _network(self, condition: jax.Array, features: int, name: str, init) -> jax.Array:
        h = condition
        if self.hidden:
            h = nn.leaky_relu(self._dense(h, self.hidden, init, f"{name}_hidden"), 0.2)
        return self._dense(h, features, nn.initializers.zeros if self.zero_init else init, name)

    def _dense(self, x: jax.Array, features: int, init, name: str) -> jax.Array:
        if self.torch_init and not self.zero_init:
            return nn.Dense(features, kernel_init=torch_uniform, bias_init=torch_bias(x.shape[-1]), name=name)(x)
        return nn.Dense(features, kernel_init=init, name=name)(x)
