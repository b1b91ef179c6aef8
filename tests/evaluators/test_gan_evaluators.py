"""Evaluators of a generator and a discriminator, on toys whose answers are known."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contexts import at_end

from jaxrepro.errors import UserError
from jaxrepro.evaluators import classifier, features, few_labels, latents, losses_table, memorisation, samples
from jaxrepro.experiment import When
from jaxrepro.layers.guided import guided_leaky_relu
from jaxrepro.training.adversarial import LossStatistics
from jaxrepro.training.batched import map_batches

END = When(end=True)


def images(num, seed=0, size=8):
    return np.random.default_rng(seed).integers(0, 256, (num, size, size, 1), np.uint8)


def sampler(generate, latent=2):
    return samples.Sampler(
        draw=lambda key, num: jax.random.normal(key, (num, latent)),
        generate=generate,
        fixed=lambda state: jnp.zeros((64, latent)),
    )


def test_batches_give_every_row_once_in_order():
    rows = jnp.arange(10.0)
    np.testing.assert_array_equal(map_batches(lambda x: {"y": 2 * x}, rows, 4)["y"], 2 * rows)
    np.testing.assert_array_equal(map_batches(lambda x: x, rows, 100), rows)


def test_neighbours_and_distances_equal_those_by_hand():
    queries, references = images(5), images(9, seed=1)
    difference = queries[:, None].astype(float) / 255 - references[None].astype(float) / 255
    expected = np.sqrt((difference.reshape(5, 9, -1) ** 2).sum(-1))
    distances, rows = samples.nearest(queries, references, 2, batch_size=2)
    np.testing.assert_array_equal(rows, np.argsort(expected, 1)[:, :2])
    np.testing.assert_allclose(distances, np.sort(expected, 1)[:, :2], rtol=1e-4)


def test_diversity_is_1_for_data_and_0_for_a_collapsed_generator():
    data = images(300)
    for rows, expected in ((lambda z: jnp.arange(len(z)), 1.0), (lambda z: jnp.zeros(len(z), int), 0.0)):
        s = sampler(lambda state, z, labels, rows=rows: jnp.asarray(data)[rows(z)])
        evaluator = samples.samples(s, data, split="test", when=END, last=7)
        found = evaluator.fn(None, evaluator.arrays, at_end(7))
        assert abs(found.metrics["diversity"] - expected) < 0.01
        assert list(found.pictures) == ["samples"]
    assert list(evaluator.fn(None, evaluator.arrays, at_end(3)).pictures) == ["samples_step_0000003"]


def test_a_generator_that_copies_is_found_out():
    train, test = images(150), images(150, seed=1)
    copies = sampler(lambda state, z, labels: jnp.asarray(train)[: len(z)])
    searched = memorisation.Searched(150, lambda rows: train[rows], 150)
    evaluator = memorisation.memorisation(copies, searched, test, num_samples=100, split="test", when=END)
    found = evaluator.fn(None, evaluator.arrays, at_end())
    assert found.metrics["train_distance"] < 0.01
    assert found.metrics["train_distance_of_test"] > 1
    assert found.metrics["share_searched"] == 1
    assert "all 150 searched" in found.pictures["nearest_training_images"].get_suptitle()


def test_a_copy_is_found_anywhere_in_the_training_set_which_is_read_in_blocks():
    queries, references = images(5), images(23, seed=1)
    references[22] = queries[3]
    expected = samples.nearest(queries, references, 3)
    seen = []

    def take(rows):
        seen.append(rows)
        return references[rows]

    found = memorisation.nearest_of_all(queries, memorisation.Searched(23, take, 23), 3, block_size=10)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[1][3, 0] == 22
    assert [len(rows) for rows in seen] == [10, 10, 10]


def test_a_search_of_a_part_of_the_training_set_says_so():
    assert memorisation.Searched(10_000, None, 50_000).title == "10,000 of 50,000 searched, 20 %"


def test_a_grid_holds_every_image_at_its_place():
    pictures = images(5)
    grid = samples.image_grid(pictures, columns=3)
    assert grid.shape == (18, 28, 3)
    np.testing.assert_array_equal(grid[10:18, 10:18, 0], pictures[4, :, :, 0])
    assert (grid[10:18, 20:] == 255).all()


def test_a_walk_is_straight_and_has_equal_steps():
    found = latents.walk(jnp.array([0.0, 9.0]), jnp.array([9.0, 0.0]), 9)
    np.testing.assert_allclose(found, np.stack([np.arange(10), 9 - np.arange(10)], 1), atol=1e-5)


def test_exemplars_are_the_samples_that_fulfil_all_conditions_best():
    predicted = {
        "label": np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]),
        "bold": np.array([[0.1, 0.9], [0.1, 0.9], [0.6, 0.4]]),
    }
    assert list(latents.best_samples(predicted, latents.parse_concept("label=1,bold=1"), 2)) == [1, 2]
    with pytest.raises(UserError, match="values of label are 0 to 1"):
        latents.best_samples(predicted, {"label": 2}, 1)
    with pytest.raises(UserError, match="bad concept"):
        latents.parse_concept("label:3")
    with pytest.raises(UserError, match="did you mean 'label'"):
        latents.concept_columns(["lable=1"], ["label", "image"])


def test_concepts_are_those_of_the_config_or_the_smiling_women_where_the_data_has_them():
    faces = ["image", "Male", "Smiling"]
    assert latents.concepts_of(latents.ArithmeticConfig(), faces) == latents.FACES
    assert latents.concept_columns(latents.FACES, faces) == ["Smiling", "Male"]
    assert latents.concepts_of(latents.ArithmeticConfig(), ["image", "label"]) == ()
    assert latents.concepts_of(latents.ArithmeticConfig(by_default=False), faces) == ()
    own = ("Male=1", "Male=0", "Smiling=1")
    assert latents.concepts_of(latents.ArithmeticConfig(concepts=own), faces) == own


@pytest.mark.parametrize("by_hand", [True, False])
def test_arithmetic_generates_a_minus_b_plus_c(by_hand):
    """The picture's grey is the first latent, so the result's is predictable."""
    s = sampler(
        lambda state, z, labels: (128 + 20 * z[:, 0, None, None, None] * jnp.ones((1, 8, 8, 1))).astype(jnp.uint8)
    )
    z = s.draw(jax.random.key(0), 200)
    rows = np.argsort(z[:, 0])[[5, 6, 7, 100, 101, 102, 150, 151, 152]].reshape(3, 3)
    a, b, c = (float(z[r, 0].mean()) for r in rows)
    seen = []

    def generate(state, latents, labels):
        jax.debug.callback(seen.append, latents, ordered=True)
        return s.generate(state, latents, labels)

    def judge(images):
        probabilities = np.zeros((200, 4))
        for concept, chosen in enumerate(rows):
            probabilities[chosen, concept] = 1
        return {"label": probabilities}

    evaluator = latents.arithmetic(
        samples.Sampler(s.draw, generate, s.fixed),
        lambda: judge,
        indices=tuple(int(i) for i in rows.ravel()) if by_hand else (),
        concepts=() if by_hand else ("label=0", "label=1", "label=2"),
        num_samples=200,
        split="test",
        when=END,
    )
    found = evaluator.fn(None, None, at_end())
    jax.effects_barrier()
    assert set(found.pictures) == {"numbered_samples", "arithmetic"}
    results = np.asarray(seen[-1])
    np.testing.assert_allclose(results[0, 0], a - b + c, atol=1e-5)
    assert 0 < np.abs(results[1:] - results[:1]).max() <= 0.25


def test_the_judge_learns_and_counts_the_classes_of_samples():
    """Class k has a bright column k: the judge must find which classes a generator makes."""
    labels = np.arange(400) % 4
    data = images(400) // 4
    for i, label in enumerate(labels):
        data[i, :, 2 * label : 2 * label + 2] = 255
    judge = classifier.train_classifier(data[:300], {"label": labels[:300]}, num_steps=60)
    half = data[np.isin(labels, (0, 2))][:100]
    s = sampler(lambda state, z, labels: jnp.asarray(half))
    evaluator = classifier.class_coverage(
        s, lambda: judge, "label", data[300:], labels[300:], num_samples=100, split="test", when=END
    )
    metrics = evaluator.fn(None, evaluator.arrays, at_end()).metrics
    assert metrics["judge_accuracy"] == 1
    assert metrics["classes_covered"] == 2
    assert abs(metrics["class_entropy"] - np.log(2)) < 0.01
    assert metrics["confidence"] > 0.8


@pytest.mark.parametrize("side", [4, 8, 7, 14])
def test_pooled_features_are_maxima_over_a_4_by_4_grid(side):
    maps = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    expected = np.empty((2, 4, 4, 3), np.float32)
    bounds = [(int(np.floor(i * side / 4)), int(np.ceil((i + 1) * side / 4))) for i in range(4)]
    for i, (top, bottom) in enumerate(bounds):
        for j, (left, right) in enumerate(bounds):
            expected[:, i, j] = maps[:, top:bottom, left:right].max(axis=(1, 2))
    np.testing.assert_array_equal(features.pool_to(maps), expected)
    assert features.pooled_features([maps, maps]).shape == (2, 96)


def test_the_table_has_a_row_per_extractor_and_separable_features_win():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    pictures = rng.integers(0, 256, (200, 4, 4, 1), np.uint8)
    pictures[:, 0, 0, 0] = np.where(labels, 131, 125)  # a difference that pixels drown in noise
    parts = [features.Labelled(pictures[s], labels[s]) for s in (slice(100), slice(100, 200))]

    def corner(variables, x):
        return 0.1 * variables * (x[:, 0, 0].astype(jnp.float32) - 128)

    extractors = [
        features.Extractor("DCGAN features + L2-SVM", lambda state: jnp.float32(10.0), corner),
        features.Extractor("pixels + L2-SVM", lambda s: None, lambda v, x: x.reshape(len(x), -1) / 255.0),
    ]
    evaluator = features.svm_table(
        extractors, *parts, name="CIFAR-10", grid=(1e-2, 1.0), batch_size=30, split="test", when=END
    )
    found = evaluator.fn(None, evaluator.arrays, at_end())
    values = {(r.row, r.column): r.value for r in found.records}
    assert values["DCGAN features + L2-SVM", "CIFAR-10 test"] == 100
    assert values["pixels + L2-SVM", "CIFAR-10 test"] < 80
    assert {r.unit for r in found.records} == {"percent"}


def test_few_labels_are_drawn_evenly_and_the_error_is_the_mean_over_draws(monkeypatch):
    monkeypatch.setattr(few_labels, "NUM_CHOOSING", 2)
    monkeypatch.setattr(few_labels, "NUM_DRAWS", 3)
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    pictures = rng.integers(0, 20, (120, 4, 4, 1), np.uint8)
    pictures[np.arange(120), 0, labels, 0] = 200  # the class shows in one pixel
    wrong = np.where(np.arange(120) % 10 == 0, (labels + 1) % 3, labels)
    parts = [features.Labelled(pictures[s], values[s]) for s, values in ((slice(60), labels), (slice(60, 120), wrong))]
    extractor = features.Extractor(
        "DCGAN features + L2-SVM", lambda state: jnp.float32(state), lambda v, x: v * x.reshape(len(x), -1) / 255.0
    )
    evaluator = few_labels.few_labels(
        [extractor],
        *parts,
        parts[0],
        num_labels=12,
        name="SVHN",
        grid=(1e-6, 1.0),
        batch_size=30,
        split="test",
        when=END,
    )
    found = evaluator.fn(1.0, evaluator.arrays, at_end())
    (record,) = found.records
    assert (record.table, record.row, record.column, record.metric) == (
        "table2",
        "DCGAN + L2-SVM",
        "SVHN 12 labels",
        "error",
    )
    assert record.value == pytest.approx(10), "a tenth of the test labels is wrong"
    assert found.metrics == {
        "dcgan_features/error": pytest.approx(10),
        "dcgan_features/error_spread": pytest.approx(0, abs=1e-4),
        "dcgan_features/c": 1e-6,  # the smallest of equally good ones
    }
    rows = few_labels.draw_labels(labels, 12, 0)
    assert list(np.bincount(labels[rows])) == [4, 4, 4]
    assert len(set(rows)) == 12
    assert set(rows) != set(few_labels.draw_labels(labels, 12, 1))
    with pytest.raises(UserError, match="multiple of the 3 classes, and at most 120"):
        few_labels.draw_labels(labels, 13, 0)


def test_c_is_the_one_with_the_least_mean_error():
    errors = {(0, 1e-3): 4.0, (1, 1e-3): 2.0, (0, 1e-2): 1.0, (1, 1e-2): 4.0, (0, 1e-1): 2.5, (1, 1e-1): 2.5}
    assert few_labels.choose_c(lambda draw, c, on: errors[draw, c], (0, 1), (1e-3, 1e-2, 1e-1)) == 1e-2


def test_guided_backpropagation_passes_positive_gradients_through_positive_inputs_only():
    x = jnp.array([-2.0, -1.0, 1.0, 2.0])
    y, pull_back = jax.vjp(lambda x: guided_leaky_relu(x, 0.2), x)
    np.testing.assert_allclose(y, [-0.4, -0.2, 1.0, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(pull_back(jnp.array([3.0, -3.0, 3.0, -3.0]))[0], [0, 0, 3, 0])


def test_the_losses_become_cells_of_table_2_where_the_run_has_a_row():
    state = {
        name: types.SimpleNamespace(count=3, mean=jnp.float32(2), lowest=jnp.float32(1)) for name in ("generator",)
    }
    for row, num in (("", 0), ("Beta = 0.9", 2)):
        found = losses_table.losses_table(lambda s: s, row, split="train", when=END).fn(state, None, at_end())
        assert found.metrics == {"mean_loss_generator": 2, "lowest_loss_generator": 1}
        assert len(found.records) == num
    assert {(r.row, r.column, r.metric, r.value) for r in found.records} == {
        ("Beta = 0.9", "generator", "loss_mean", 2.0),
        ("Beta = 0.9", "generator", "loss_lowest", 1.0),
    }


def test_a_network_that_no_step_has_trained_has_no_losses():
    """The only step of a run that alternates trains the generator; the other's lowest loss is the largest float."""
    state = {"generator": LossStatistics.empty().add(jnp.float32(2)), "discriminator": LossStatistics.empty()}
    found = losses_table.losses_table(lambda s: s, "row", split="train", when=END).fn(state, None, at_end())
    assert found.metrics == {"mean_loss_generator": 2, "lowest_loss_generator": 2}
    assert {r.column for r in found.records} == {"generator"}
