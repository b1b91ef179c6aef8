"""Everything that is measured and drawn of a DCGAN: which evaluators a config asks for, and how they see the networks.

    found = make_evaluators(config.eval, sampler, critic, train_rows, test_rows, ...)

Samples and losses throughout training, everything else at its end.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import numpy as np

from jaxrepro.compiling import QUICK_COMPILE
from jaxrepro.config import EvalConfig
from jaxrepro.errors import check
from jaxrepro.evaluators import classifier, features, few_labels, filters, latents, losses_table, memorisation, samples
from jaxrepro.evaluators.features import Extractor, FeaturesConfig, Labelled
from jaxrepro.evaluators.latents import ArithmeticConfig
from jaxrepro.evaluators.memorisation import Searched
from jaxrepro.experiment import Evaluator, When


class Statistics(StrEnum):
    """What normalises samples: BATCH, the statistics of one fixed full batch of fakes; RUNNING, the averages."""

    BATCH = "batch"
    RUNNING = "running"


@dataclass(frozen=True)
class DCGANEvalConfig(EvalConfig):
    """What is measured.

    Attributes:
      num_examples: also limits the training images that evaluators look at, but for the search for copies.
      num_samples: for distances and coverage.
      num_searched: training images among which copies are searched, 0 = all.
      statistics: see `Statistics`.
      judge: column of the data that a classifier learns, to judge samples by, "" = none.
      judge_steps: of its training.
      arithmetic: with concepts.
      features: of the discriminator for a linear SVM.
    """

    num_samples: int = 1000
    num_searched: int = 0
    statistics: Statistics = Statistics.BATCH
    judge: str = ""
    judge_steps: int = 1500
    arithmetic: ArithmeticConfig = ArithmeticConfig()
    features: FeaturesConfig = FeaturesConfig()

    def __post_init__(self):
        super().__post_init__()
        check(self.num_samples >= 100, f"num_samples is {self.num_samples}; it must be at least 100")
        check(self.num_searched >= 0, f"num_searched is {self.num_searched}; it must be 0 (all) or more")
        check(self.judge_steps > 0, f"judge_steps is {self.judge_steps}; it must be positive")
        largest = max(self.arithmetic.indices, default=0)
        check(largest < self.num_samples, f"arithmetic.indices has {largest}; there are {self.num_samples} samples")


@dataclass(frozen=True)
class Critic:
    """A discriminator as a source of features.

    Attributes:
      trained: `state -> variables` {"params", "batch_stats"}.
      untrained: `() -> variables`, random.
      inputs: `images uint8 [n, ...] -> float32 [n, H, W, C]`, what the network sees.
      statistics: `(variables, inputs) -> batch_stats` of these inputs alone.
      features: `(variables, inputs) -> ` activations [n, h, w, C'] of every convolution.
      guided_features: the same numbers with the gradients of guided backpropagation.
      batch_size: of the statistics.
    """

    trained: Callable[[Any], Any]
    untrained: Callable[[], Any]
    inputs: Callable[[Any], jax.Array]
    statistics: Callable[[Any, jax.Array], Any]
    features: Callable[[Any, jax.Array], Sequence[jax.Array]]
    guided_features: Callable[[Any, jax.Array], Sequence[jax.Array]]
    batch_size: int


def judged_columns(config: DCGANEvalConfig, columns: Sequence[str]) -> list[str]:
    """Returns the columns of the training data that a judge has to learn, of those that there are."""
    wanted = latents.concept_columns(latents.concepts_of(config.arithmetic, columns), list(columns))
    return list(dict.fromkeys([*([config.judge] if config.judge else []), *wanted]))


def make_evaluators(
    config: DCGANEvalConfig,
    sampler: samples.Sampler,
    critic: Critic,
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    searched: Searched,
    *,
    labelled: Sequence[Labelled],
    source_name: str,
    row: str,
    when: When,
    last: int,
) -> tuple[Evaluator, ...]:
    """Returns the evaluators of a config.

    Args:
      train: "image" uint8 [N, H, W, C], and the columns of `judged_columns` [N].
      test: "image", and the judge's column.
      searched: training images among which copies are searched.
      labelled: training and test images for the linear SVM, with few labels also validation; () = no SVM.
      source_name: of these in the table's columns.
      row: of the table of losses.
      when: of the evaluators that run throughout training.
      last: step of the run.
    """
    end = {"split": "test", "when": When(end=True)}
    train_images, test_images = train["image"], test["image"]

    @functools.cache
    def get_judge():
        columns = {name: values for name, values in train.items() if name != "image"}
        return classifier.train_classifier(train_images, columns, config.judge_steps)

    num = config.num_samples
    found = [
        samples.samples(sampler, train_images, split="test", when=when, last=last),
        losses_table.losses_table(lambda s: s.losses, row, split="train", when=when),
        memorisation.memorisation(sampler, searched, test_images, num_samples=num, **end),
        latents.latent_walks(sampler, **end),
        latents.arithmetic(
            sampler,
            get_judge,
            concepts=latents.concepts_of(config.arithmetic, train),
            indices=config.arithmetic.indices,
            num_samples=num,
            **end,
        ),
    ]
    if config.judge:
        judged_by = (get_judge, config.judge, test_images, test[config.judge])
        found.append(classifier.class_coverage(sampler, *judged_by, num_samples=num, **end))
    if not sampler.num_labels:
        variables = feature_variables(critic)
        found.append(filters.filters(filter_responses(critic, variables), test_images[: config.batch_size], **end))
        if labelled:
            extractors = make_extractors(critic, variables, train_images)
            name = config.features.name or source_name
            options = {"name": name, "grid": config.features.c_grid, "batch_size": config.batch_size, **end}
            if config.features.num_labels:
                options["num_labels"] = config.features.num_labels
                found.append(few_labels.few_labels(extractors, *labelled, **options))
            else:
                found.append(features.svm_table(extractors, *labelled, **options))
    return tuple(found)


def feature_variables(critic: Critic) -> dict[str, Callable[[Any, Any], Any]]:
    """Returns "trained", "random" -> `(state, images uint8 [N, ...]) -> variables` for use as features."""
    # Compiling many random draws takes longer than drawing unless the compiler is told not to try hard.
    untrained = jax.jit(critic.untrained, compiler_options=QUICK_COMPILE)
    fixed = jax.jit(functools.partial(fixed_variables, critic))
    return {
        "trained": lambda state, images: fixed(critic.trained(state), images),
        "random": lambda state, images: fixed(untrained(), images),
    }


def fixed_variables(critic: Critic, variables: Any, images: jax.Array) -> dict[str, Any]:
    """Returns the discriminator's variables with the statistics of uint8 images [N, ...], for use as features.

    As in the authors' code: means over batches of the batches' means and variances, here over whole batches only.
    """
    size = min(critic.batch_size, len(images))
    batches = images[: len(images) // size * size].reshape(-1, size, *images.shape[1:])
    found = jax.lax.map(lambda batch: critic.statistics(variables, critic.inputs(batch)), batches)
    return {"params": variables["params"], "batch_stats": jax.tree.map(lambda a: a.mean(0), found)}


def filter_responses(critic: Critic, variables: Mapping[str, Callable]) -> dict[str, filters.Responses]:
    """Returns every discriminator with guided rectifiers."""
    return {
        name: filters.Responses(
            variables=of_images,
            inputs=critic.inputs,
            features=lambda v, inputs: critic.guided_features(v, inputs)[-1],
        )
        for name, of_images in variables.items()
    }


def make_extractors(critic: Critic, variables: Mapping[str, Callable], train_images: np.ndarray) -> list[Extractor]:
    """Returns what the SVM is fitted to: features of the trained and of a random discriminator, and pixels."""

    def pooled(variables, images):
        return features.pooled_features(critic.features(variables, critic.inputs(images)))

    def pixels(variables, images):
        return critic.inputs(images).reshape(len(images), -1)

    return [
        Extractor("DCGAN features + L2-SVM", lambda s: variables["trained"](s, train_images), pooled),
        Extractor("random features + L2-SVM", lambda s: variables["random"](s, train_images), pooled),
        Extractor("pixels + L2-SVM", lambda s: None, pixels),
    ]
