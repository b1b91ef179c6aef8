"""A small network fitted in one compiled scan: judges, probes, calibrators.

    variables = fit(init, loss, (images, labels), num_steps=1000, batch_size=64, lr=1e-3)

Made for seconds of training inside an evaluator: no log, no checkpoint, always from the same seed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def fit(
    init: Callable[[jax.Array, Any], Any],
    loss: Callable[[Any, Any], jax.Array],
    arrays: Any,
    *,
    num_steps: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
) -> Any:
    """Returns the variables after Adam with a cosine decay to 0.

    Args:
      init: `(key, one row of the arrays [1, ...]) -> variables`, any pytree of floats.
      loss: `(variables, batch) -> ` float32 scalar.
      arrays: pytree of arrays [N, ...]; a batch has rows drawn with replacement.
    """
    return _fit(init, loss, num_steps, batch_size, lr, jax.tree.map(jnp.asarray, arrays), jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _fit(init, loss, num_steps: int, batch_size: int, lr: float, arrays: Any, key: jax.Array) -> Any:
    optimizer = optax.adam(optax.cosine_decay_schedule(lr, num_steps))
    variables = init(key, jax.tree.map(lambda a: a[:1], arrays))
    num_rows = len(jax.tree.leaves(arrays)[0])

    def step(carry, i):
        variables, opt_state = carry
        rows = jax.random.randint(jax.random.fold_in(key, i), (batch_size,), 0, num_rows)
        batch = jax.tree.map(lambda a: a[rows], arrays)
        updates, opt_state = optimizer.update(jax.grad(loss)(variables, batch), opt_state)
        return (optax.apply_updates(variables, updates), opt_state), None

    return jax.lax.scan(step, (variables, optimizer.init(variables)), jnp.arange(num_steps))[0][0]
