"""Linear support vector machines on the device: one against the rest, squared hinge, all classes and rows at once.

    weights = fit(features, labels, num_classes=10, c=1e-3)
    accuracy = (predict(weights, features) == labels).mean()

The problem is that of scikit-learn's `LinearSVC` with its defaults: the bias is a weight of a feature that is 1, and is
regularised like the others.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

# The grid of the authors' script for SVHN; the report does not say how it chose C.
C_GRID = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)

_BLOCK = 200  # rows


def decision(weights: jax.Array, features: jax.Array) -> jax.Array:
    """Returns the distance-like scores [N, K] of features [N, D] for weights [D + 1, K], the bias last."""
    return jnp.matmul(features, weights[:-1], precision="highest") + weights[-1]


def predict(weights: jax.Array, features: jax.Array) -> jax.Array:
    """Returns the class with the largest score, int [N]."""
    return decision(weights, features).argmax(axis=1)


def signs(labels: jax.Array, num_classes: int) -> jax.Array:
    """Returns 1 for the own class and -1 for the others, float32 [N, K] of int [N]."""
    return 2 * jax.nn.one_hot(labels, num_classes) - 1


def objective(weights: jax.Array, features: jax.Array, labels: jax.Array, c: float | jax.Array) -> jax.Array:
    """Returns |w|^2 / 2 + C sum_i max(0, 1 - y_i f(x_i))^2, summed over the classes.

    Args:
      weights: float32 [D + 1, K], the bias last.
      features: float32 [N, D].
      labels: int [N] in 0 … K - 1.
      c: weight of the losses.
    """
    margins = signs(labels, weights.shape[1]) * decision(weights, features)
    return 0.5 * (weights**2).sum() + c * (jnp.maximum(0, 1 - margins) ** 2).sum()


@functools.partial(jax.jit, static_argnames=("num_classes", "max_steps"))
def fit(
    features: jax.Array,
    labels: jax.Array,
    *,
    num_classes: int,
    c: float | jax.Array,
    initial: jax.Array | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 100,
) -> jax.Array:
    """Returns the weights [D + 1, K] that minimise `objective`, by Newton steps solved with conjugate gradients.

    All classes share the matrix products with the features, two per iteration of the conjugate gradients and none in
    the line search. The excess over the minimum is known from the gradient: the objective is strongly convex with
    modulus 1, so it is at most |g|^2 / 2.

    Args:
      features: float32 [N, D].
      labels: int [N].
      num_classes: K.
      c: weight of the losses.
      initial: where to start, zeros by default; the solution for a near C is a good place.
      tolerance: ends where the objective exceeds its minimum by no more than this share of itself.
      max_steps: Newton steps at most.

    Source: Keerthi & DeCoste (2005), the primal method of liblinear (Lin, Weng & Keerthi 2008) with a line search.
    """
    y = signs(labels, num_classes)

    def newton(carry):
        weights, scores, _, count = carry
        slack = jnp.maximum(0, 1 - y * scores)
        gradient = weights - 2 * c * adjoint(features, y * slack)
        curved = slack > 0

        def hessian(p):
            return p + 2 * c * adjoint(features, curved * decision(p, features))

        direction = conjugate_gradients(hessian, -gradient)
        change = decision(direction, features)
        length = line_search(weights, direction, gradient, y * scores, y * change, c)
        weights, scores = weights + length * direction, scores + length * change
        values = per_class(weights, y * scores, c)
        gradient = weights - 2 * c * adjoint(features, y * jnp.maximum(0, 1 - y * scores))
        return weights, scores, 0.5 * (gradient**2).sum() > tolerance * values.sum(), count + 1

    weights = jnp.zeros((features.shape[1] + 1, num_classes)) if initial is None else initial
    start = (weights, decision(weights, features), jnp.bool_(True), 0)
    return jax.lax.while_loop(lambda carry: carry[2] & (carry[3] < max_steps), newton, start)[0]


def adjoint(features: jax.Array, values: jax.Array) -> jax.Array:
    """Returns the transpose of `decision` applied to values [N, K]: [D + 1, K].

    On CPU in blocks of rows that fit into the cache, because XLA is slow with the transpose of a tall matrix.
    """
    num_blocks = len(features) // _BLOCK if jax.default_backend() == "cpu" else 0
    blocked = num_blocks * _BLOCK

    def add(total, rows):
        block, of_block = rows
        return total + jnp.matmul(of_block.T, block, precision="highest"), None

    total = jnp.matmul(values[blocked:].T, features[blocked:], precision="highest")
    if num_blocks:
        blocks = tuple(a[:blocked].reshape(num_blocks, _BLOCK, -1) for a in (features, values))
        total = jax.lax.scan(add, total, blocks)[0]
    return jnp.concatenate([total.T, values.sum(0, keepdims=True)])


def per_class(weights: jax.Array, margins: jax.Array, c: float | jax.Array) -> jax.Array:
    """Returns every class's share of the objective, [K], from margins y f(x) [N, K]."""
    return 0.5 * (weights**2).sum(0) + c * (jnp.maximum(0, 1 - margins) ** 2).sum(0)


def conjugate_gradients(hessian, target: jax.Array, reduction: float = 0.1, max_steps: int = 100) -> jax.Array:
    """Returns p [D, K] with hessian(p) near target, column by column, residuals reduced to a share of the target."""
    enough = reduction**2 * (target**2).sum(0)

    def step(carry):
        p, residual, direction, norm, count = carry
        product = hessian(direction)
        active = norm > enough
        alpha = jnp.where(active, norm / jnp.maximum((direction * product).sum(0), 1e-30), 0)
        p, residual = p + alpha * direction, residual - alpha * product
        new = (residual**2).sum(0)
        direction = jnp.where(active, residual + new / jnp.maximum(norm, 1e-30) * direction, direction)
        return p, residual, direction, jnp.where(active, new, norm), count + 1

    start = (jnp.zeros_like(target), target, target, (target**2).sum(0), 0)
    return jax.lax.while_loop(lambda s: (s[3] > enough).any() & (s[4] < max_steps), step, start)[0]


def line_search(weights, direction, gradient, margins, change, c, max_halvings: int = 20) -> jax.Array:
    """Returns a step length per class, [K]: the first of 1, 1/2, 1/4, … that lowers the objective enough (Armijo)."""
    before = per_class(weights, margins, c)
    slope = (gradient * direction).sum(0)

    def too_long(length):
        after = per_class(weights + length * direction, margins + length * change, c)
        return after > before + 1e-4 * length * slope

    def halve(carry):
        length, count = carry
        return jnp.where(too_long(length), length / 2, length), count + 1

    start = (jnp.ones_like(before), 0)
    return jax.lax.while_loop(lambda s: too_long(s[0]).any() & (s[1] < max_halvings), halve, start)[0]


def accuracy(weights: jax.Array, features: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the share of rows whose class is predicted."""
    return (predict(weights, features) == labels).mean()


def fit_with_selection(
    features: jax.Array,
    labels: jax.Array,
    *,
    num_classes: int,
    grid: Sequence[float] = C_GRID,
    held_out: float = 0.2,
) -> tuple[jax.Array, float]:
    """Returns (weights [D + 1, K], C): C is the best of the grid on held-out rows, the fit is on all rows.

    Args:
      features: float32 [N, D], in an order without meaning: the last rows are held out.
      labels: int [N].
      num_classes: K.
      grid: values of C, from small to large; of equally good ones the smallest is taken.
      held_out: share of the rows. For CIFAR-10 0.2 gives the 10,000 of the article's selection.
    """
    num_train = len(features) - max(1, round(held_out * len(features)))
    best_c, best, weights, chosen = grid[0], -1.0, None, None
    for c in grid if len(grid) > 1 else ():
        weights = fit(features[:num_train], labels[:num_train], num_classes=num_classes, c=c, initial=weights)
        found = float(accuracy(weights, features[num_train:], labels[num_train:]))
        if found > best:
            best_c, best, chosen = c, found, weights
    return fit(features, labels, num_classes=num_classes, c=best_c, initial=chosen), best_c
