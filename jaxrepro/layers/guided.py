"""A rectifier for pictures of what features see: its gradient passes only where signal and gradient are positive.

features = Discriminator(config, activation=guided_leaky_relu).apply(..., method="features")
"""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def guided_leaky_relu(x: jax.Array, slope: float = 0.0) -> jax.Array:
    """Returns max(x, slope * x) with the gradient of guided backpropagation; any shape.

    The gradient is passed on, with slope 1, where it is positive and x was positive; elsewhere it is 0, for leaky
    units too. Source: Springenberg et al. (arXiv 1412.6806), section 3.4, which has no leaky units.
    """
    return jnp.where(x >= 0, x, slope * x)


def _forward(x, slope):
    return guided_leaky_relu(x, slope), x > 0


def _backward(slope, was_positive, gradient):
    del slope
    return (jnp.where(was_positive & (gradient > 0), gradient, 0),)


guided_leaky_relu.defvjp(_forward, _backward)
