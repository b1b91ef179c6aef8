"""A convolution whose kernel is divided by its largest singular value, found by power iteration over training.

y = SpectralConv(64, 3)(x, train)      # [B, H, W, I] to [B, H, W, 64]

Not Flax's `SpectralNorm`: it stores the divided kernel as the initial one, which changes the steps of Adam against it.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrepro.layers.conv import conv2d


def unit(vector: jax.Array, epsilon: float = 1e-12) -> jax.Array:
    """Returns a vector divided by its Euclidean length."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), epsilon)


class SpectralConv(nn.Module):
    """Convolution without bias, with an odd square kernel and zeros around the map to keep its size.

    The kernel as a matrix W [taps × I, O] has the state u [O] in "batch_stats". A training step takes v = W u and then
    u = Wᵀ v, each made a unit vector; the kernel is divided by vᵀ W u, through which gradients pass to W but not to u
    and v. In evaluation u stays. Maps float [B, H, W, I] to [B, H, W, features].

    Source: Miyato et al., "Spectral normalization for generative adversarial networks" (ICLR 2018), algorithm 1, as in
    PyTorch.
    """

    features: int
    kernel_size: int
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        size = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (size, size, x.shape[-1], self.features))
        state = self.variable(
            "batch_stats", "u", lambda: unit(jax.random.normal(self.make_rng("params"), (self.features,)))
        )
        wide = kernel.astype(jnp.float32)
        matrix, u = wide.reshape(-1, self.features), state.value
        held = jax.lax.stop_gradient(matrix)
        v = unit(held @ u)
        if train:
            u = unit(v @ held)
            if not self.is_initializing():
                state.value = u
        sigma = v @ matrix @ u
        return conv2d(x, (wide / sigma).astype(x.dtype), padding=size // 2)
