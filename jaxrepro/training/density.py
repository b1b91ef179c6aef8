"""The loss of FCN8-D: a predicted map of density against points that are spread a little.

    losses = density_loss(predicted, points, root=True)            # float32 [B]

Source: Synbols (Lacoste et al., 2020), section 4: least squares; the released code takes the root of their mean.
"""

import jax
import jax.numpy as jnp

SIGMA, RADIUS = 1.0, 1  # of the Gaussian, pixels


def density_target(points: jax.Array) -> jax.Array:
    """Returns points [B, H, W] spread by a 3×3 Gaussian of sum 1, float32; what leaves the image comes back in.

    Images are continued by reflection at the middle of their outermost pixels, as in the released code: a point beside
    the edge counts more than once there, one on it less.
    """
    x = jnp.pad(points.astype(jnp.float32), ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), "reflect")
    line = jnp.exp(-(jnp.arange(-RADIUS, RADIUS + 1.0) ** 2) / (2 * SIGMA**2))
    line = line / line.sum()
    height, width = points.shape[1:]
    x = sum(w * x[:, i : i + height] for i, w in enumerate(line))
    return sum(w * x[:, :, i : i + width] for i, w in enumerate(line))


def density_loss(predicted: jax.Array, points: jax.Array, *, root: bool) -> jax.Array:
    """Returns the mean square difference of maps [B, H, W] from the target, or its root, float32 [B].

    The root has no gradient where both are equal, as before training in images without points; here it is 0 there.
    """
    squares = jnp.square(predicted - density_target(points)).mean((1, 2))
    if not root:
        return squares
    equal = squares == 0
    return jnp.where(equal, 0.0, jnp.sqrt(jnp.where(equal, 1.0, squares)))
