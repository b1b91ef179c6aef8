"""ProtoNet, RelationNet and MAML against computations by hand, by loops, by finite differences and in closed form."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from slow_maps import quickly

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.layers import Conv, conv
from jaxrepro.layers.batch_norm import BatchNorm
from jaxrepro.models import few_shot as models
from jaxrepro.models.few_shot import Encoder, Learner, RelationModule, RelationNet
from jaxrepro.training.few_shot import ModelAgnostic, PrototypicalNetwork, RelationNetwork, cross_entropy

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)
IMAGES = jnp.asarray(RANDOM.normal(size=(3, 5, 8, 8, 3)), jnp.float32)  # 3 ways, 2 shots, 3 queries
SMALL = (3, 4)


class Flatten(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        self.variable("batch_stats", "none", jnp.zeros, ())
        return images.reshape(len(images), -1)


class Linear(nn.Module):
    """Logits x·W without a bias."""

    ways: int

    @nn.compact
    def __call__(self, images, train):
        self.variable("batch_stats", "none", jnp.zeros, ())
        return nn.Dense(self.ways, use_bias=False)(images.reshape(len(images), -1))


class Smooth(nn.Module):
    """Convolutions, batch normalisation and tanh: a kink would make the adapted weights, and so the loss, jump."""

    @nn.compact
    def __call__(self, images, train):
        x = images
        for features in SMALL:
            x = jnp.tanh(BatchNorm(0.0)(Conv(features, (3, 3), padding=1)(x), train))
        return nn.Dense(3)(x.mean((1, 2)))


def learner(**options):
    return ModelAgnostic(Learner(3, SMALL, momentum=0.0), shots=2, **options)


def first_images(method):
    return quickly(method.init, KEY, IMAGES[:, 0])


def random_direction(params, seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(random.normal(size=a.shape), jnp.float32), params)


def outer_loss(method, variables):
    """Returns the loss of an episode as a function of (parameters, whether the derivative is of first order)."""

    def loss(params, first_order=False):
        chosen = dataclasses.replace(method, first_order=first_order)
        return chosen.compare({**variables, "params": params}, IMAGES).loss

    return loss


def both_gradients(loss, params):
    """Returns the gradient of second order and that of first order."""
    return jax.jit(lambda p: [jax.grad(loss)(p, first_order) for first_order in (False, True)])(params)


def along(gradient, direction):
    return float(sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction))))


def test_published_parameter_counts():
    def count(module, *shapes):
        arguments = [jnp.zeros(shape) for shape in shapes]
        more = () if isinstance(module, RelationModule) else (False,)
        shapes = jax.eval_shape(lambda: module.init(KEY, *arguments, *more))["params"]
        return sum(a.size for a in jax.tree.leaves(shapes))

    images = (2, 32, 32, 3)
    assert count(Encoder(), images) == 113_088
    assert count(Learner(5), images) == 114_373
    assert count(RelationModule(), (2, 256), (2, 256)) == 18_561
    assert count(RelationNet(), images) == 131_649


# ProtoNet


def test_a_prototypical_network_on_an_episode_by_hand():
    """Two ways, two shots, one query, four features: prototypes (1, 0, 0, 0) and (0, 3, 0, 0)."""
    method = PrototypicalNetwork(Flatten(), shots=2)
    episode = jnp.array(
        [[[0.0, 0, 0, 0], [2, 0, 0, 0], [1, 1, 0, 0]], [[0, 2, 0, 0], [0, 4, 0, 0], [1, 1, 0, 0]]]
    ).reshape(2, 3, 1, 2, 2)
    outcome = quickly(functools.partial(method.run, train=False), method.init(KEY, episode[:, 0]), episode)
    # Squared distances of both queries: 1 to the first, 1 + 4 to the second prototype; the root of four features is 2.
    right, wrong = -1 / 2, -5 / 2
    losses = [np.log(1 + np.exp(wrong - right)), np.log(1 + np.exp(right - wrong))]
    assert outcome.loss == pytest.approx(np.mean(losses), rel=1e-6)
    np.testing.assert_array_equal(outcome.predicted, [[0], [0]])


def test_support_and_queries_are_normalised_apart_in_training_and_by_running_statistics_after():
    method = PrototypicalNetwork(Encoder(SMALL), shots=2)
    variables = first_images(method)
    train, test = (functools.partial(method.run, train=train) for train in (True, False))
    outcome = quickly(train, variables, IMAGES)
    features = []
    stats = variables["batch_stats"]
    for part in (IMAGES[:, :2], IMAGES[:, 2:]):
        found, changed = quickly(
            lambda stats, images: method.network.apply(
                variables | {"batch_stats": stats}, images, True, mutable=["batch_stats"]
            ),
            stats,
            part.reshape(-1, 8, 8, 3),
        )
        features.append(np.asarray(found).reshape(3, part.shape[1], -1))
        stats = changed["batch_stats"]
    prototypes, queries = features[0].mean(1), features[1].reshape(9, -1)
    logits = -((queries[:, None] - prototypes) ** 2).sum(-1) / np.sqrt(prototypes.shape[-1])
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, np.repeat(np.arange(3), 3)).mean()
    assert outcome.loss == pytest.approx(float(expected), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), outcome.batch_stats, stats)
    tested = quickly(test, variables, IMAGES)
    jax.tree.map(np.testing.assert_array_equal, tested.batch_stats, variables["batch_stats"])
    encoded = quickly(method.encode, variables, IMAGES.reshape(-1, 8, 8, 3)).reshape(3, 5, -1)
    assert quickly(method.compare, variables, encoded).loss == pytest.approx(float(tested.loss), rel=1e-5)


# RelationNet


def test_the_loss_of_a_relation_network_is_that_of_a_loop_over_pairs():
    method = RelationNetwork(RelationNet(SMALL), shots=2)
    variables = first_images(method)
    variables["params"]["relation"] = jax.tree.map(lambda a: 3 * a, variables["params"]["relation"])
    features = RANDOM.normal(size=(3, 5, 16)).astype(np.float32)
    relate = jax.jit(functools.partial(RelationModule().apply, {"params": variables["params"]["relation"]}))
    squares, predicted = [], np.zeros((3, 3), int)
    for n in range(3):
        for q in range(3):
            best = -np.inf
            for m in range(3):
                for s in range(2):
                    pair = features[m, s][None], features[n, 2 + q][None]
                    score = float(relate(*pair)[0, 0])
                    squares.append(((n == m) - score) ** 2)
                    if score > best:
                        best, predicted[n, q] = score, m
    outcome = quickly(method.compare, variables, jnp.asarray(features))
    assert outcome.loss == pytest.approx(np.mean(squares), rel=1e-5)
    np.testing.assert_array_equal(outcome.predicted, predicted)
    assert len(set(predicted.ravel())) > 1, "the test says little if one class always wins"


# MAML


def test_one_inner_step_is_a_step_of_plain_gradient_descent_on_the_whole_support():
    method = learner(inner_lr=0.3, inner_steps=1)
    variables = first_images(method)
    support = IMAGES[:, :2]

    def loss(params):
        logits, _ = method.network.apply(
            variables | {"params": params}, support.reshape(-1, 8, 8, 3), True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, np.repeat(np.arange(3), 2)).mean()

    tx = optax.sgd(0.3)
    updates, _ = tx.update(quickly(jax.grad(loss), variables["params"]), tx.init(variables["params"]))
    expected = optax.apply_updates(variables["params"], updates)
    adapted = quickly(method.adapt, variables, support)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), adapted, expected)
    scales = [a for path, a in jax.tree_util.tree_leaves_with_path(adapted) if "scale" in str(path)]
    assert all(np.abs(np.asarray(a) - 1).max() > 0 for a in scales), "batch normalisation is adapted too"


def test_the_outer_gradient_of_a_linear_model_has_its_closed_form():
    """W' = W - a X^T(P - Y)/n for softmax P; its derivative has the Hessian of the support's loss, written out here."""
    method = ModelAgnostic(Linear(3), shots=2, inner_lr=0.5)
    episode = jnp.asarray(RANDOM.normal(size=(3, 4, 1, 1, 4)), jnp.float32)
    variables = method.init(KEY, episode[:, 0])
    weights = np.asarray(variables["params"]["Dense_0"]["kernel"], np.float64)
    x, queries = (np.asarray(episode[:, part].reshape(6, 4), np.float64) for part in (slice(2), slice(2, None)))
    y = np.repeat(np.eye(3), 2, 0)

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    p = softmax(x @ weights)
    adapted = weights - 0.5 * x.T @ (p - y) / 6
    outer = queries.T @ (softmax(queries @ adapted) - y) / 6  # the gradient at the adapted weights
    moved = x @ outer
    second = x.T @ (p * (moved - (p * moved).sum(1, keepdims=True))) / 6  # the Hessian times it
    gradient = {}
    for first_order in (False, True):
        m = dataclasses.replace(method, first_order=first_order)
        found = jax.grad(lambda params, m=m: m.compare(variables | {"params": params}, episode).loss)
        gradient[first_order] = quickly(found, variables["params"])["Dense_0"]["kernel"]
    np.testing.assert_allclose(gradient[False], outer - 0.5 * second, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient[True], outer, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("transductive", [True, False])
def test_the_outer_gradient_through_convolutions_agrees_with_finite_differences(transductive):
    method = ModelAgnostic(Smooth(), shots=2, inner_lr=0.5, inner_steps=2, transductive=transductive)
    variables = first_images(method)
    loss, direction = outer_loss(method, variables), random_direction(variables["params"])

    def moved(t):
        return loss(jax.tree.map(lambda p, d: p + t * d, variables["params"], direction))

    second, first = both_gradients(loss, variables["params"])
    value = jax.jit(moved)
    differences = float(value(1e-2) - value(-1e-2)) / 2e-2
    assert along(second, direction) == pytest.approx(differences, rel=0.01)
    assert along(first, direction) != pytest.approx(differences, rel=0.03)


def test_the_outer_gradient_of_the_learner_is_that_of_xlas_own_convolutions_and_maxima(monkeypatch):
    method = learner(inner_lr=0.2, inner_steps=2)
    variables = first_images(method)
    loss = outer_loss(method, variables)
    ours, other = both_gradients(loss, variables["params"])
    distance = max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(other)))
    assert distance > 1e-3, "the second order must matter for this test to say anything"
    monkeypatch.setattr(conv, "_on_cpu", lambda: False)
    monkeypatch.setattr(models, "max_pool", nn.max_pool)
    plain = jax.jit(jax.grad(lambda p: loss(p)))(variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), ours, plain)


def test_a_queries_answer_depends_on_the_other_queries_only_where_that_is_asked_for():
    changed = IMAGES.at[:, 3:].multiply(-2.0)  # all but the first query of each class
    for transductive in (True, False):
        method = learner(inner_lr=0.1, transductive=transductive)
        variables = first_images(method)
        answer = jax.jit(method.vectors, compiler_options=QUICK_COMPILE)
        before, after = (answer(variables, episode)[:, 2] for episode in (IMAGES, changed))
        assert np.allclose(before, after, atol=1e-5) != transductive


def test_more_steps_on_the_support_lower_its_loss():
    losses = []
    for steps in (1, 8):
        method = learner(inner_lr=0.1, inner_steps=steps)
        variables = first_images(method)
        logits = quickly(method.vectors, variables, IMAGES)[:, :2]
        losses.append(float(cross_entropy(logits)))
    assert losses[1] < losses[0] < np.log(3)
