"""Counters in training: which weights are kept, when training ends, what a step logs; with a network of one number."""

import contexts
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.config import OptimConfig
from jaxrepro.training import counting
from jaxrepro.training.counting import Density, Task
from jaxrepro.training.optim import make_optimizer


class Scaled(nn.Module):
    """Density = one number times the first channel."""

    @nn.compact
    def __call__(self, images, train):
        factor = self.param("factor", nn.initializers.zeros_init(), ())
        return jnp.stack([jnp.zeros(images.shape[:3]), factor * images[..., 0]], -1)


def make_task(patience=3):
    optimizer = make_optimizer(OptimConfig(lr=0.1), 100)
    return Task(Scaled(), Density(), lambda images: images.astype(jnp.float32), optimizer, patience, batch_size=2)


@pytest.fixture(scope="module")
def arrays():
    """Three images whose first channel is 1 at their points: 2, 1 and 3 of them."""
    points = np.zeros((3, 4, 4), bool)
    points[0, 0, :2] = points[1, 1, 1] = points[2, 3, 1:] = True
    images = np.repeat(points[..., None], 3, -1).astype(np.uint8)
    return {"image": jnp.asarray(images), "points": jnp.asarray(points)}


def state_of(task, factor):
    return counting.start_counter(task, {"factor": jnp.float32(factor)})


def test_validation_is_the_mean_absolute_error_over_all_images_whatever_the_batches(arrays):
    for factor, mae in ((0.0, 2.0), (1.0, 0.0), (1.5, 1.0)):
        found = counting.validate(make_task(), {"factor": jnp.float32(factor)}, arrays)
        assert float(found["mae"]) == pytest.approx(mae)


def test_epochs_that_are_no_worse_keep_their_weights_and_several_worse_ones_end_training(arrays):
    task = make_task(patience=3)
    epoch = jax.jit(lambda state: counting.end_of_epoch(task, state, arrays))

    def after(state, factor):
        return epoch(state.replace(params={"factor": jnp.float32(factor)}))[0]

    state = after(state_of(task, 0.0), 0.5)
    assert (float(state.best.value), int(state.worse)) == (1.0, 0)
    state = after(state, 1.5)
    assert float(state.best.kept["factor"]) == 1.5, "of equals the last"
    assert int(state.worse) == 0
    for worse in (1, 2):
        state = after(state, 2.0)
        assert (int(state.worse), float(state.best.kept["factor"])) == (worse, 1.5)
    state = after(state, 0.75)
    assert (float(state.best.value), int(state.worse)) == (0.5, 0)
    for _ in range(3):
        assert not bool(counting.stopped(task, state))
        state = after(state, 0.0)
    assert bool(counting.stopped(task, state))


def test_a_step_follows_the_gradient_logs_the_loss_and_leaves_a_counter_that_has_stopped(arrays):
    task = make_task()
    step = jax.jit(lambda state: counting.train_step(task, state, arrays, contexts.at()))
    new, metrics = step(state_of(task, 0.0))
    assert float(new.params["factor"]) == pytest.approx(0.1, rel=1e-3), "Adam's first step is as long as its rate"
    assert float(metrics["loss"].count) == 3
    expected = task.method.losses(jnp.zeros((3, 4, 4, 2)), arrays["points"])[0].mean()
    assert float(metrics["loss"].value) == pytest.approx(float(expected), rel=1e-5)
    done = state_of(task, 0.0).replace(worse=jnp.int32(3))
    jax.tree.map(np.testing.assert_array_equal, step(done)[0], done)
