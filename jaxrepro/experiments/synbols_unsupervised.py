"""Representations of symbols learnt without labels: table 4 and figure 8 of Synbols, table 2 of its reproduction.

    python launch.py --config=configs/synbols_unsupervised.py:smoke

A run trains one of five encoders on one of three data sets, with probes of all attributes beside it or after it; what
they read from the codes of validation images is a row's two cells of the table.

Source: Lacoste et al., "Synbols: Probing Learning Algorithms with Synthetic Datasets" (NeurIPS 2020), section 4.5 and
appendix B.4, and the released code where the paper says otherwise: five residual blocks, an L1 reconstruction, two
levels of 64 latents, probes beside the encoder. Different from the code: scores are means over images, not over
batches; the seed of an image is no attribute; logarithms of a saturated sigmoid are finite.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.config import RunConfig
from jaxrepro.data import Table, load_dataset, make_source, read_split
from jaxrepro.data.attributes import Attribute, find_attributes, targets_of
from jaxrepro.data.batches import whole_epoch_weights
from jaxrepro.data.classes import class_names
from jaxrepro.data.dataset import check_colours, notes_of
from jaxrepro.data.sources import facts_of_source
from jaxrepro.durations import num_steps
from jaxrepro.errors import check
from jaxrepro.evaluators.autoencoder import View, autoencoder_pictures
from jaxrepro.evaluators.codes import code_pictures
from jaxrepro.evaluators.probes import Cells, probe_test
from jaxrepro.experiment import Experiment, Transition, When
from jaxrepro.models.probes import probe_network
from jaxrepro.models.representations import RepresentationConfig, check_images, make_network
from jaxrepro.training import representation
from jaxrepro.training.loss_weights import CyclicalConfig, cyclical_beta
from jaxrepro.training.optim import make_optimizer
from jaxrepro.training.probes import Heads, ProbeConfig, ProbeSchedule, make_heads
from jaxrepro.training.representation import Autoencoder, InfoMax, Method, Reconstruction, Task

PICTURED = 1000  # validation images that are looked at


@dataclass(frozen=True)
class InfoMaxConfig:
    """Of Deep InfoMax: weights of its terms, and the way of its prior; see `training.representation.InfoMax`."""

    alpha: float = 0.5
    beta: float = 1.0
    gamma: float = 0.1
    prior_adversarial: bool = False

    def __post_init__(self):
        for name in ("alpha", "beta", "gamma"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(frozen=True)
class TaskConfig:
    """column: of the table, the data set. num_chars, num_fonts: the published numbers, for --mode=print."""

    column: str = "Solid Pattern"
    num_chars: int = 26
    num_fonts: int = 888


@dataclass(frozen=True)
class Config(RunConfig):
    """One cell of table 4.

    Attributes:
      version: of the data, "v1" (26 letters) or "v2" (48 symbols); reports join that version's numbers only.
      model: the network.
      reconstruction: of autoencoders, "l1" or "l2".
      kl: weight of autoencoders' KL term.
      infomax: of Deep InfoMax.
      probe: what is read from the codes.
      task: the data set.
    """

    version: str = "v1"
    model: RepresentationConfig = RepresentationConfig()
    reconstruction: Reconstruction = Reconstruction.L1
    kl: CyclicalConfig = CyclicalConfig()
    infomax: InfoMaxConfig = InfoMaxConfig()
    probe: ProbeConfig = ProbeConfig()
    task: TaskConfig = TaskConfig()

    def __post_init__(self):
        super().__post_init__()
        check(self.version in ("v1", "v2"), f"version is {self.version!r}; it must be 'v1' or 'v2'")
        check(
            self.train.batch_size >= 2,
            f"train.batch_size is {self.train.batch_size}; normalisation and mismatched pairs need 2 images or more",
        )


def init_params(config: Config, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters for colour images of 32×32 pixels."""
    method = make_method(config, (32, 32, 3), lambda step: jnp.float32(1))
    return method.init(key, jnp.zeros((2, 32, 32, 3)))["params"]


def make_method(config: Config, image_shape: tuple[int, int, int], beta) -> Method:
    """Returns the method of a config with its network. beta: step -> weight of the KL term."""
    network = make_network(config.model, image_shape)
    if config.model.is_autoencoder:
        return Autoencoder(network, beta, config.reconstruction, config.precision)
    given = config.infomax
    return InfoMax(network, given.alpha, given.beta, given.gamma, given.prior_adversarial, config.precision)


def prepare(images: jax.Array) -> jax.Array:
    """Returns uint8 images as float32 in [-1, 1]."""
    return 2 * (images.astype(jnp.float32) / 255) - 1


def to_uint8(images: jax.Array) -> jax.Array:
    """Returns images in [-1, 1] as uint8."""
    return jnp.round(jnp.clip((images + 1) / 2, 0, 1) * 255).astype(jnp.uint8)


def heads_of(config: Config, attributes: tuple[Attribute, ...]) -> dict[ProbeSchedule, Heads]:
    """Returns the probes of every schedule, in the config's order."""
    probe, size = config.probe, sum(config.model.levels)
    found = {
        ProbeSchedule.ONLINE: make_heads(attributes, probe_network, (probe.hidden or 2 * size,), (probe.lr,)),
        ProbeSchedule.FROZEN: make_heads(attributes, probe_network, probe.frozen_hidden, probe.frozen_lrs),
    }
    return {schedule: found[schedule] for schedule in probe.schedules}


def load(config: Config) -> tuple[dict[str, Table], tuple[Attribute, ...]]:
    """Returns ("train", "valid" -> table, attributes to probe).

    Raises:
      UserError: the data lacks an attribute, has images without one, or sizes that the network cannot take.
    """
    loaded = load_dataset(config.data.source, smoke_command=f"python launch.py --config=configs/{config.name}.py:smoke")
    tables = {part: read_split(loaded, getattr(config.data, part)) for part in ("train", "valid")}
    check_colours(tables["train"])
    check_images(config.model, tables["train"].columns["image"].shape)
    size, num_rows = config.train.batch_size, tables["train"].num_rows
    check(
        num_rows % size != 1,
        f"config.train.batch_size is {size}, which leaves 1 of {num_rows:,} images for the last batch of an epoch; "
        "a batch needs 2 or more: take another size",
    )
    return tables, find_attributes(tables, config.probe.attributes)


def arrays_of(table: Table, attributes: tuple[Attribute, ...], limit: int = 0) -> dict[str, np.ndarray]:
    """Returns {"image", attribute: [N], …} of a table, at most `limit` rows, 0 = all."""
    arrays = table.take(np.arange(min(limit or table.num_rows, table.num_rows)))
    return {"image": arrays["image"]} | targets_of(arrays, attributes)


def build(config: Config) -> Experiment:
    """Returns the experiment: the encoder with its probes, a validation now and then, and the pictures at the end."""
    tables, attributes = load(config)
    columns = ("image", *dict.fromkeys(a.column for a in attributes))
    batch_size, limit = config.train.batch_size, config.data.resident_limit_mb
    source, draw_rows = make_source(
        tables["train"], batch_size, columns=columns, resident_limit_mb=limit, whole_epochs=True
    )
    epoch = round(source.steps_per_epoch)
    total = num_steps(config.train.duration, steps_per_epoch=epoch)
    num_epochs = max(total // epoch, 1)
    image_shape = tables["train"].columns["image"].shape
    method = make_method(config, image_shape, lambda step: cyclical_beta(config.kl, step // epoch, num_epochs))
    heads = heads_of(config, attributes)
    task = Task(
        method,
        prepare,
        make_optimizer(config.optim, total, epoch),
        heads.get(ProbeSchedule.ONLINE, {}),
        config.eval.batch_size,
        whole_epoch_weights(tables["train"].num_rows, batch_size),
    )
    valid = arrays_of(tables["valid"], attributes, config.eval.num_examples)

    def init(context, given):
        variables_key, probes_key = jax.random.split(context.key)
        variables = method.init(variables_key, jnp.zeros((2, *image_shape)))
        return representation.init_learner(task, variables, sum(config.model.levels), probes_key)

    def draw(state, arrays, x, context):
        rows = draw_rows(state, arrays, x, context)
        return {"image": rows["image"]} | {a.name: rows[a.column].astype(valid[a.name].dtype) for a in attributes}

    validation = Transition(
        "validation",
        When(every=num_steps(config.eval.every, steps_per_epoch=epoch, total=total), end=True),
        lambda state, arrays, context: representation.end_of_epoch(task, state, arrays, context),
        valid,
        before_evaluation=True,
    )
    return Experiment(
        source=source,
        init=init,
        draw=draw,
        update=functools.partial(representation.train_step, task),
        transitions=(validation,),
        evaluators=make_evaluators(config, task, tables, attributes, heads, valid),
        notes=notes_of(tables.values()),
    )


def make_evaluators(
    config: Config,
    task: Task,
    tables: Mapping[str, Table],
    attributes: tuple[Attribute, ...],
    heads: Mapping[ProbeSchedule, Heads],
    valid: Mapping[str, np.ndarray],
):
    """Returns the test of the probes, and a look at the codes and at the autoencoder."""
    row, method = str(config.model.name), task.method
    num_rows = {"num_train": tables["train"].num_rows, "num_valid": len(valid["image"])}
    known = {"network": config.model.network, "image_side": tables["train"].columns["image"].shape[0]}
    known |= num_rows | facts_of_source(config.data.source)
    facts = {a.name: {"num_classes": a.num_classes} | known for a in attributes}
    title = f"{row}, {config.task.column}"

    @jax.jit
    def encode(state, images):
        return representation.encode_all(task, state.variables, images)

    arrays = {"valid": valid}
    if ProbeSchedule.FROZEN in heads:
        arrays["train"] = arrays_of(tables["train"], attributes)
    found = [probe_test(encode, heads, config.probe.fit, arrays, Cells(row, config.task.column, facts))]
    shown = {k: v[:PICTURED] for k, v in valid.items() if k in ("image", "char")}
    if "char" in shown:
        found.append(code_pictures(encode, shown, class_names(tables, "label"), title))
    if config.model.is_autoencoder:
        view = View(
            lambda state, images: method.posterior(state.variables, prepare(images)),
            lambda state, z: to_uint8(method.decode(state.variables, z)),
            config.model.levels,
            title,
        )
        found.append(autoencoder_pictures(view, shown["image"], config.eval.batch_size))
    return tuple(found)
