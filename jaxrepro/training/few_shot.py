"""Few-shot methods: how a task is learnt from its support, and what its queries cost. One episode at a time.

    method = PrototypicalNetwork(Encoder(), shots=5)            # RelationNetwork(RelationNet(), 5)
    variables = method.init(key, images)
    outcome = method.run(variables, episode, train=True)        # episode: float [ways, shots + queries, H, W, C]
    outcome.loss, outcome.predicted, outcome.batch_stats

A method has two parts: `encode` sees images without their episode, `compare` sees an episode of what came out. So
images are encoded once for many episodes where running statistics normalise. MAML learns anew from the images.

Source: Synbols (Lacoste et al., 2020), section 4.4 and appendix, and the released code; Snell et al. (2017), Sung et
al. (2018), Finn et al. (2017).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrepro.config import Precision
from jaxrepro.training.precision import apply_in

Variables = dict[str, Any]  # {"params", "batch_stats"}


class Outcome(NamedTuple):
    """What the queries of one episode cost: N ways, Q queries of each.

    loss: float32 scalar. predicted: int32 [N, Q], places of classes in the episode. batch_stats: the running ones.
    """

    loss: jax.Array
    predicted: jax.Array
    batch_stats: Any


def own_places(shape: tuple[int, int]) -> jax.Array:
    """Returns the right answers int32 [N, Q] of queries that stand in rows by class: the number of their row."""
    return jnp.broadcast_to(jnp.arange(shape[0])[:, None], shape)


def cross_entropy(logits: jax.Array) -> jax.Array:
    """Returns the mean cross-entropy in nats of logits [N, Q, N] of queries in rows by class."""
    labels = own_places(logits.shape[:2])
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()


@dataclass(frozen=True)
class _Comparing:
    """What the two methods that compare features share.

    Attributes:
      network: see the methods.
      shots: images of each class in front of the queries.
      precision: of the network's arithmetic.
    """

    network: nn.Module
    shots: int
    precision: Precision = Precision.FLOAT32
    compares_features: ClassVar[bool] = True  # which do not depend on the episode, but in training
    encoder: ClassVar[str] = "__call__"  # the network's method that encodes

    def init(self, key: jax.Array, images: jax.Array) -> Variables:
        return dict(self.network.init(key, images, False))

    def encode(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns features float32 [B, D] of images float [B, H, W, C], normalised by running statistics."""
        return self._encode(variables, images, train=False)[0]

    def _encode(self, variables: Variables, images: jax.Array, *, train: bool) -> tuple[jax.Array, Any]:
        features, changed = apply_in(
            self.precision, self.network, variables, images, train=train, mutable=["batch_stats"], method=self.encoder
        )
        return features.astype(jnp.float32), changed["batch_stats"]

    def run(self, variables: Variables, episode: jax.Array, *, train: bool) -> Outcome:
        """Returns the outcome of an episode float [N, shots + Q, H, W, C].

        In training support and queries are two batches, each normalised by its own statistics, as released.
        """
        features = []
        for part in (episode[:, : self.shots], episode[:, self.shots :]):
            found, stats = self._encode(variables, part.reshape(-1, *part.shape[2:]), train=train)
            variables = {**variables, "batch_stats": stats}
            features.append(found.reshape(*part.shape[:2], -1))
        return self.compare(variables, jnp.concatenate(features, 1))

    def compare(self, variables: Variables, episode: jax.Array) -> Outcome:
        """Returns the outcome of an episode of features [N, shots + Q, D]."""
        raise NotImplementedError

    def vectors(self, variables: Variables, episode: jax.Array) -> jax.Array:
        """Returns what a method goes by in an encoded episode, [N, shots + Q, D], to be looked at."""
        del variables
        return episode


@dataclass(frozen=True)
class PrototypicalNetwork(_Comparing):
    """The class whose mean support feature is nearest; network: images to features."""

    def compare(self, variables: Variables, episode: jax.Array) -> Outcome:
        """Logits are squared distances over the root of the number of features, negated: the root is the code's."""
        prototypes, queries = episode[:, : self.shots].mean(1), episode[:, self.shots :]
        squared = jnp.square(queries[:, :, None] - prototypes).sum(-1)
        logits = -squared / jnp.sqrt(jnp.float32(episode.shape[-1]))
        return Outcome(cross_entropy(logits), logits.argmax(-1), variables["batch_stats"])


@dataclass(frozen=True)
class RelationNetwork(_Comparing):
    """The class of the support image that a network finds most alike; network: `models.few_shot.RelationNet`.

    The loss is the mean over all pairs of (1 for one class, else 0, minus score)². As released: the article sums the
    support of a class first.
    """

    encoder: ClassVar[str] = "encode"

    def compare(self, variables: Variables, episode: jax.Array) -> Outcome:
        ways, num_queries = len(episode), episode.shape[1] - self.shots
        support = episode[:, : self.shots].reshape(ways * self.shots, -1)
        queries = episode[:, self.shots :].reshape(ways * num_queries, -1)
        scores = apply_in(self.precision, self.network, variables, support, queries=queries, method="relate")
        scores = scores.astype(jnp.float32).reshape(ways, num_queries, ways, self.shots)
        same = jnp.eye(ways)[:, None, :, None]
        predicted = scores.reshape(ways, num_queries, -1).argmax(-1) // self.shots
        return Outcome(jnp.square(same - scores).mean(), predicted, variables["batch_stats"])


@dataclass(frozen=True)
class ModelAgnostic:
    """MAML: a few steps of gradient descent on the support, from initial values that are what is learnt.

    Attributes:
      network: images to logits [B, N]; of momentum 0, so that its running statistics are those of the last batch.
      inner_lr, inner_steps: of the descent, over all parameters, those of batch normalisation too.
      first_order: take the derivative of the adapted by the initial parameters for 1.
      transductive: queries are normalised by their own statistics, as released; else by those of the support.
    """

    network: nn.Module
    shots: int
    precision: Precision = Precision.FLOAT32
    inner_lr: float = 0.01
    inner_steps: int = 1
    first_order: bool = False
    transductive: bool = True
    compares_features: ClassVar[bool] = False

    def init(self, key: jax.Array, images: jax.Array) -> Variables:
        return dict(self.network.init(key, images, False))

    def encode(self, variables: Variables, images: jax.Array) -> jax.Array:
        return images

    def _logits(self, params: Any, batch_stats: Any, part: jax.Array, *, train: bool) -> tuple[jax.Array, Any]:
        """Returns (logits float32 [N, n, N] of images [N, n, H, W, C], batch statistics)."""
        variables = {"params": params, "batch_stats": batch_stats}
        images = part.reshape(-1, *part.shape[2:])
        logits, changed = apply_in(
            self.precision, self.network, variables, images, train=train, mutable=["batch_stats"]
        )
        return logits.astype(jnp.float32).reshape(*part.shape[:2], -1), changed["batch_stats"]

    def adapt(self, variables: Variables, support: jax.Array) -> Any:
        """Returns the parameters after the steps on a support float [N, shots, H, W, C], each on all of it."""

        def loss(params):
            return cross_entropy(self._logits(params, variables["batch_stats"], support, train=True)[0])

        def step(params, _):
            grads = jax.grad(loss)(params)
            grads = jax.lax.stop_gradient(grads) if self.first_order else grads
            return jax.tree.map(lambda p, g: p - self.inner_lr * g, params, grads), None

        return jax.lax.scan(step, variables["params"], length=self.inner_steps)[0]

    def _adapted(self, variables: Variables, episode: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (logits of the support, logits of the queries) after the steps."""
        params, stats = self.adapt(variables, episode[:, : self.shots]), variables["batch_stats"]
        support, of_support = self._logits(params, stats, episode[:, : self.shots], train=True)
        queries, _ = self._logits(params, of_support, episode[:, self.shots :], train=self.transductive)
        return support, queries

    def compare(self, variables: Variables, episode: jax.Array) -> Outcome:
        """Returns the outcome of an episode float [N, shots + Q, H, W, C]."""
        _, logits = self._adapted(variables, episode)
        return Outcome(cross_entropy(logits), logits.argmax(-1), variables["batch_stats"])

    def run(self, variables: Variables, episode: jax.Array, *, train: bool) -> Outcome:
        del train  # the same
        return self.compare(variables, episode)

    def vectors(self, variables: Variables, episode: jax.Array) -> jax.Array:
        """Returns the adapted network's logits [N, shots + Q, N], to be looked at."""
        return jnp.concatenate(self._adapted(variables, episode), 1)


Method = PrototypicalNetwork | RelationNetwork | ModelAgnostic
