"""What the discriminator's features see, by guided backpropagation: trained beside untrained weights.

Source: the report's figures 1 and 2; the article's figure 5.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.evaluators.pictures import image_rows
from jaxrepro.experiment import Evaluation, Evaluator, When

NUM_FEATURES = 6
NUM_IMAGES = 10


@dataclass(frozen=True)
class Responses:
    """A network with guided rectifiers.

    Attributes:
      variables: `(state, images uint8 [N, ...]) -> variables`, with statistics of these images; called outside jit.
      inputs: `images uint8 [n, ...] -> float [n, H, W, C]`, what the network sees.
      features: `(variables, inputs) -> [n, h, w, C']`, the last convolution's.
    """

    variables: Callable[[Any, Any], Any]
    inputs: Callable[[Any], jax.Array]
    features: Callable[[Any, jax.Array], jax.Array]


def feature_gradients(network: Responses, variables: Any, images: jax.Array, num_features: int) -> jax.Array:
    """Returns the gradient, at every image, of the largest response of each feature: [num_features, n, H, W, C]."""

    def strongest(inputs, feature):
        maps = network.features(variables, inputs)[..., feature]
        return maps.max(axis=(1, 2)).sum()  # images do not see each other, so the sum keeps their gradients apart

    return jax.lax.map(lambda f: jax.grad(strongest)(network.inputs(images), f), jnp.arange(num_features))


def filters(networks: Mapping[str, Responses], images: np.ndarray, *, split: str, when: When) -> Evaluator:
    """Returns the evaluator that draws one picture per network: images and what six features find in them.

    networks: "trained", "random" -> network. images: uint8 [N, H, W, C], of which ten, spread over the set, are shown;
    all of them give the statistics of the batch norms.
    """
    shown = np.linspace(0, len(images) - 1, min(NUM_IMAGES, len(images))).astype(int)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(name, variables, images):
        network = networks[name]
        width = jax.eval_shape(network.features, variables, network.inputs(images)).shape[-1]
        return feature_gradients(network, variables, images, min(NUM_FEATURES, width))

    def evaluate(state, images, context) -> Evaluation:
        pictures = {}
        for name, network in networks.items():
            found = jax.device_get(gradients(name, network.variables(state, images), images[shown]))
            scale = np.abs(found).max(axis=(2, 3, 4), keepdims=True)
            values = np.round(127.5 * (1 + found / np.maximum(scale, 1e-12))).astype(np.uint8)
            rows = [("images", np.asarray(images[shown]))] + [(f"feature {i}", v) for i, v in enumerate(values)]
            title = f"What features of the last convolution see, {name} weights"
            pictures[f"filters_{name}"] = image_rows(rows, title)
        return Evaluation(pictures=pictures)

    return Evaluator("filters", split, when, evaluate, images)
