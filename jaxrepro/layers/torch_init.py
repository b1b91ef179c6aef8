"""PyTorch's default initial values, which published results in that framework were made with.

Conv(64, (3, 3), kernel_init=torch_uniform, bias_init=torch_bias(9 * x.shape[-1]))
logits = torch_dense(x, 10)      # inside a compact Linen method
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-b, b), b = 1 / sqrt(fan-in)


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
    """Returns the initializer of a bias, uniform in ±1 / sqrt(fan-in of its layer)."""

    def init(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def torch_dense(x: jax.Array, features: int, kernel_init: nn.initializers.Initializer = torch_uniform) -> jax.Array:
    """Applies a new dense layer, float [..., I] to [..., features], inside a compact Linen method."""
    return nn.Dense(features, kernel_init=kernel_init, bias_init=torch_bias(x.shape[-1]))(x)
