"""A look at an autoencoder: reconstructions, samples of the prior, walks along latents, its levels, KL per latent."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.evaluators.pictures import image_rows
from jaxrepro.evaluators.samples import image_grid
from jaxrepro.experiment import Evaluation, Evaluator, When
from jaxrepro.losses.vae import kl_per_dimension
from jaxrepro.report import style
from jaxrepro.training.batched import map_batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = ("top", "low")
NUM_SHOWN = 10  # images in a row
GRID = 8  # rows and columns of samples
NUM_LATENTS = 8  # walked along, those of the highest KL
REACH, NUM_STEPS = 3.0, 9  # a walk goes from -3 to 3, in standard deviations of the prior
ACTIVE = 0.01  # nats: a latent of a lower KL says nothing


@dataclass(frozen=True)
class View:
    """An autoencoder as this evaluator sees it; all inside jit.

    Attributes:
      posterior: `(state, images uint8 [N, H, W, C]) -> posterior` with mean and log_variance [N, D].
      decode: `(state, z [N, D]) -> images uint8 [N, H, W, C]`.
      levels: numbers of latents, the top level first.
      title: of the pictures.
    """

    posterior: Callable[[Any, jax.Array], Any]
    decode: Callable[[Any, jax.Array], jax.Array]
    levels: Sequence[int]
    title: str

    def parts(self) -> dict[str, slice]:
        """Returns the latents of each level by its name, "all" for a single one."""
        if len(self.levels) == 1:
            return {"all": slice(0, self.levels[0])}
        return {"top": slice(0, self.levels[0]), "low": slice(self.levels[0], sum(self.levels))}


def autoencoder_pictures(
    view: View, images: np.ndarray, batch_size: int, split: str = "valid", when: When = When(end=True)
) -> Evaluator:
    """Returns the evaluator; its pictures are of the first seed.

    Metrics: "kl_LEVEL" in nats per image and "active_LEVEL", latents of 0.01 nats or more. Arrays "reconstructions":
    "images" and "outputs" uint8 [n, H, W, C], which the paper's figure 8 is put together from.

    Args:
      images: uint8 [N, H, W, C].
    """
    parts = view.parts()

    @jax.jit
    def posteriors(state, images):
        found = map_batches(lambda batch: view.posterior(state, batch), images, batch_size)
        return found.mean, kl_per_dimension(found.mean, found.log_variance).mean(0)

    @functools.partial(jax.jit, compiler_options=QUICK_COMPILE)
    def look(state, means, kl, key):
        """Returns {picture: images} and {level: latents that are walked along}; all images are decoded in one pass."""
        size = means.shape[1]
        sample_key, *level_keys = jax.random.split(key, 1 + len(parts))
        z = {"reconstructions": means, "samples": jax.random.normal(sample_key, (GRID * GRID, size))}
        latents = {}
        for (name, part), level_key in zip(parts.items(), level_keys, strict=True):
            z[f"traversal_{name}"], latents[name] = walk_latents(means[0], kl, part)
            drawn = jax.random.normal(level_key, means[:, part].shape)
            z[f"redrawn_{name}"] = means.at[:, part].set(drawn)
        images = view.decode(state, jnp.concatenate([v.reshape(-1, size) for v in z.values()]))
        ends = np.cumsum([v.size // size for v in z.values()])[:-1]
        shown = zip(z, jnp.split(images, ends), strict=True)
        return {k: v.reshape(*z[k].shape[:-1], *v.shape[1:]) for k, v in shown}, latents

    def evaluate(state, images, context) -> Evaluation:
        means, kl = posteriors(state, images)
        values = np.asarray(kl)
        metrics = {f"kl_{name}": float(values[part].sum()) for name, part in parts.items()}
        metrics |= {f"active_{name}": int((values[part] >= ACTIVE).sum()) for name, part in parts.items()}
        if context.seed_index:
            return Evaluation(metrics)
        shown = np.asarray(images[:NUM_SHOWN])
        found, latents = jax.device_get(look(state, means[:NUM_SHOWN], kl, context.key))
        kept = {"images": shown, "outputs": found["reconstructions"]}
        pictures = _pictures(view, shown, values, found, latents)
        return Evaluation(metrics, pictures, arrays={"reconstructions": kept})

    return Evaluator("autoencoder", split, when, evaluate, images)


def walk_latents(mean: jax.Array, kl: jax.Array, part: slice) -> tuple[jax.Array, jax.Array]:
    """Returns latents [L, S, D] that are `mean` [D] but for one latent each, and which these are, int32 [L].

    They are those of the highest `kl` [D] within a level, and take S values from -3 to 3.
    """
    latents = part.start + jax.lax.top_k(kl[part], min(NUM_LATENTS, part.stop - part.start))[1]
    values = jnp.linspace(-REACH, REACH, NUM_STEPS)
    return jax.vmap(lambda i: jax.vmap(lambda v: mean.at[i].set(v))(values))(latents), latents


def _pictures(
    view: View, images: np.ndarray, kl: np.ndarray, found: Mapping[str, np.ndarray], latents: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    pair = [("original", images), ("reconstruction", found["reconstructions"])]
    pictures = {
        "reconstructions": image_rows(pair, f"{view.title}: validation images"),
        "samples": image_grid(found["samples"], GRID),
        "kl_per_latent": draw_kl(kl, view.parts(), view.title),
    }
    for name in view.parts():
        rows = [(f"{i} ({kl[i]:.2g} nats)", row) for i, row in zip(latents[name], found[f"traversal_{name}"])]
        level = "" if name == "all" else f" of the {name} level"
        pictures[f"traversal_{name}"] = image_rows(rows, f"{view.title}: latents{level} from −{REACH:g} to {REACH:g}")
    if len(view.levels) > 1:
        rows = [*pair, *((f"{name} level drawn anew", found[f"redrawn_{name}"]) for name in view.parts())]
        pictures["levels"] = image_rows(rows, f"{view.title}: what each level holds")
    return pictures


def draw_kl(kl: np.ndarray, parts: Mapping[str, slice], title: str) -> "Figure":
    """Draws the KL divergence of every latent, the largest first, a line per level."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    ax = figure.subplots()
    style.style_axes(ax, title, "latent, by its divergence", "KL from the prior (nats)")
    for (name, part), colour in zip(parts.items(), (style.BLUE, style.AMBER)):
        values = np.sort(kl[part])[::-1]
        label = "latents" if name == "all" else f"{name} level"
        ax.plot(range(1, len(values) + 1), values, "o-", markersize=3, color=colour, label=label)
    ax.set_yscale("symlog", linthresh=ACTIVE)
    ax.set_ylim(bottom=0)
    ax.axhline(ACTIVE, color=style.GREY, linestyle=":", linewidth=1)
    ax.legend(frameon=False, fontsize=9)
    return figure
