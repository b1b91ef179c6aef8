"""PyTorch's default initial values, which published results in that framework were made with.

Conv(64, (3, 3), kernel_init=torch_uniform, bias_init=torch_bias(9 * x.shape[-1]))
logits = torch_dense(x, 10, dtype=jnp.float32)      # inside a compact Linen method
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.conv import Conv

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-b, b), b = 1 / sqrt(fan-in)
# The same for kernels [h, w, I, O] of transposed convolutions, whose fan-in PyTorch counts over the outputs: h * w * O.
torch_uniform_transposed = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=-1, out_axis=-2)


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
    """Returns the initializer of a bias, uniform in ±1 / sqrt(fan-in of its layer)."""

    def init(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def torch_dense(
    x: jax.Array, features: int, kernel_init: nn.initializers.Initializer = torch_uniform, dtype: Any = None
) -> jax.Array:
    """Applies a new dense layer, float [..., I] to [..., features], inside a compact Linen method.

    Args:
      dtype: of the computation; float32 for logits, which would have ties in a narrower one. None: that of `x`.
    """
    return nn.Dense(features, dtype=dtype, kernel_init=kernel_init, bias_init=torch_bias(x.shape[-1]))(x)


class TorchConv(nn.Module):
    """A convolution with an odd square kernel, zeros around the map to keep its size, and a bias.

    Maps [B, H, W, C] to [B, H, W, features].
    """

    features: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k = self.kernel_size
        bias = torch_bias(k * k * x.shape[-1])
        return Conv(self.features, (k, k), padding=k // 2, kernel_init=torch_uniform, bias_init=bias, name="conv")(x)
