"""The beta-VAE over a grid of loss weights: KL and reconstruction at every beta, reconstructions and prior samples.

Its records are the points of YOTO's figures 1a and 1b; `jaxrepro.report` draws those from one run or from a sweep.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro import mesh as mesh_lib
from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.evaluators.pictures import image_rows
from jaxrepro.experiment import Evaluation, Evaluator, Record, When
from jaxrepro.training.means import dataset_means

Params = Any


@dataclass(frozen=True)
class Model:
    """One trained model as the evaluator sees it; every function is pure and is jitted here.

    Attributes:
      label: row of the records, "YOTO 2x" or "fixed beta=16 1x".
      beta: 0 for the conditional model, else the one it was trained for.
      params: `state -> params`.
      shown: `images uint8 [n, ...] -> uint8 [n, H, W, C]`, as the network sees them.
      terms: `(params, images uint8 [B, ...], beta [B], key) -> {"reconstruction", "kl"}`, nats per image [B].
      reconstruct: `(params, images uint8 [n, ...], beta [n]) -> uint8 [n, H, W, C]`, at the posterior mean.
      sample: `(params, beta [n], key) -> uint8 [n, H, W, C]`, from the prior.
    """

    label: str
    beta: float
    params: Callable[[Any], Params]
    shown: Callable[[jax.Array], jax.Array]
    terms: Callable[..., Mapping[str, jax.Array]]
    reconstruct: Callable[..., jax.Array]
    sample: Callable[..., jax.Array]


def beta_grid(
    models: Sequence[Model],
    images: np.ndarray,
    *,
    split: str,
    when: When,
    grid: Sequence[float],
    pictured: Sequence[float],
    batch_size: int,
    num_pictured: int = 10,
    facts: Mapping[str, Any] | None = None,
) -> Evaluator:
    """Returns the evaluator of all models of a run on `images` uint8 [N, H, W, C].

    Its metrics are means over the dataset, for the conditional model also over the grid; its records hold every beta,
    and the facts.
    """
    steps = {m.label: _jitted(m, batch_size) for m in models}
    shown = np.linspace(0, len(images) - 1, num_pictured).astype(int)  # spread, since some sets are sorted by class

    def evaluate(state, images, context) -> Evaluation:
        key, sample_key = jax.random.split(context.key)
        metrics, records = {}, []
        for model in models:
            betas = [model.beta] if model.beta else grid
            terms = [
                mesh_lib.to_host(steps[model.label][0](model.params(state), images, jnp.float32(beta), key))
                for beta in betas
            ]
            prefix = f"fixed_beta_{model.beta:g}/" if model.beta else ""
            for name in ("kl", "reconstruction"):
                metrics[prefix + name] = float(np.mean([t[name] for t in terms]))
                cells = [(f"beta={beta:g}", name, float(t[name])) for beta, t in zip(betas, terms, strict=True)]
                records += [Record("figure 1a", model.label, *c, "nats per image", facts or {}) for c in cells]
        pictures, blur = _pictures(models, steps, state, images[shown], sample_key, pictured)
        return Evaluation(metrics, pictures, records + blur)

    return Evaluator("beta_grid", split, when, evaluate, images)


def _jitted(model: Model, batch_size: int) -> tuple[Callable, Callable, Callable]:
    """Returns jitted (terms over the dataset, reconstruct, sample), each taking a scalar beta."""

    @jax.jit
    def terms(params, images, beta, key):
        def one(batch, key):
            return model.terms(params, batch, jnp.full(len(batch), beta), key)

        return dataset_means(one, images, batch_size, key)

    @functools.partial(jax.jit, compiler_options=QUICK_COMPILE)
    def reconstruct(params, images, beta):
        return model.reconstruct(params, images, jnp.full(len(images), beta))

    @functools.partial(jax.jit, compiler_options=QUICK_COMPILE)
    def sample(params, images, beta, key):
        return model.sample(params, jnp.full(len(images), beta), key)

    return terms, reconstruct, sample


def sharpness(images: np.ndarray) -> float:
    """Returns the mean absolute difference of neighbouring pixels of images uint8 [n, H, W, C], a share of 255."""
    rows, columns = (np.abs(np.diff(images.astype(float), axis=axis)).mean() for axis in (1, 2))
    return float(rows + columns) / 510


def _pictures(models, steps, state, images, key, pictured) -> tuple[dict[str, Any], list[Record]]:
    """Returns figure 2, and how sharp its reconstructions are beside the test images: 1 for as sharp as these.

    That is reconstructions and prior samples, of fixed and conditional models side by side at each beta.
    """
    originals = mesh_lib.to_host(jax.jit(models[0].shown)(images))
    reconstructions, samples, records = [("test images", originals)], [], []
    for beta in sorted({*pictured, *(m.beta for m in models if m.beta)}):
        for model in models:
            if model.beta not in (0, beta):
                continue
            _, reconstruct, sample = steps[model.label]
            label = model.label if model.beta else f"{model.label}, beta={beta:g}"
            b = jnp.float32(beta)
            params = model.params(state)
            found = mesh_lib.to_host(reconstruct(params, images, b))
            reconstructions.append((label, found))
            samples.append((label, mesh_lib.to_host(sample(params, images, b, key))))
            share = sharpness(found) / max(sharpness(originals), 1e-9)
            records.append(Record("figure 2", model.label, f"beta={beta:g}", "sharpness", share))
    pictures = {
        "reconstructions": image_rows(reconstructions, "Reconstructions of test images (figure 2)"),
        "samples": image_rows(samples, "Samples from the prior"),
    }
    return pictures, records
