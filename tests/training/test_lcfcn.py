"""FCN8-L's loss against the formulas, and what its targets are made of against scikit-image; FCN8-D's loss."""

import jax
import jax.numpy as jnp
import lcfcn_reference as reference
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops

from jaxrepro.training import blobs, density
from jaxrepro.training.blobs import SplitRule
from jaxrepro.training.counting import Blobs, Density
from jaxrepro.training.lcfcn import NUM_OUTPUTS, foreground_logit, lcfcn_loss, log_probabilities

SIDE, NUM_MAPS = 24, 200
EVEN = range(5)  # maps of one value, of whose equal pixels the first one has the gradient


@pytest.fixture(scope="module")
def maps():
    """Returns {"difference": float32 [200, 24, 24], "points": bool}: empty, full, one blob, many, points on borders."""
    random = np.random.default_rng(0)
    difference = np.zeros((NUM_MAPS, SIDE, SIDE))
    points = np.zeros((NUM_MAPS, SIDE, SIDE), bool)
    for i in range(NUM_MAPS):
        smooth = random.choice([0.0, 0.7, 1.5, 3.0])
        noise = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), smooth)
        difference[i] = 4 * noise / noise.std() + random.choice([-4.0, -1.0, 0.0, 2.0])
        rows = random.choice([0, SIDE - 1, *random.integers(0, SIDE, 4)], size=random.integers(0, 9))
        points[i, rows, random.integers(0, SIDE, len(rows))] = True
    difference[0] = 0  # before training: all ties
    difference[1], difference[2] = -5, 5
    points[1], points[2] = False, False
    difference[3] = difference[4] = 5
    points[3] = points[4] = False
    points[3, 0, 0], points[4, [0, 0, SIDE - 1, SIDE - 1], [0, SIDE - 1, 0, SIDE - 1]] = True, True
    return {"difference": difference.astype(np.float32), "points": points}


def logits_of(difference, rule):
    if rule == SplitRule.PACKAGE:
        return difference[..., None]
    return np.stack([-0.25 * difference, 0.75 * difference], -1)  # exact: quarters


@pytest.fixture(scope="module", params=list(SplitRule), ids=str)
def computed(request, maps):
    """Returns (rule, logits, points, losses, terms, gradients, mask, probability) of all maps."""
    rule, points = request.param, jnp.asarray(maps["points"])
    logits = jnp.asarray(logits_of(maps["difference"], rule))

    @jax.jit
    def run(logits):
        losses, terms = lcfcn_loss(logits, points, rule)
        grads = jax.grad(lambda x: lcfcn_loss(x, points, rule)[0].sum())(logits)
        return losses, terms, grads, foreground_logit(logits) > 0, jnp.exp(log_probabilities(logits)[1])

    losses, terms, grads, mask, probability = jax.tree.map(np.asarray, run(logits))
    return rule, np.asarray(logits, np.float64), maps["points"], losses, terms, grads, mask, probability


def slow_loss(computed, i, logits=None):
    rule, all_logits, points, _, _, _, mask, probability = computed
    logits = all_logits[i] if logits is None else logits
    return reference.loss(logits, points[i], rule == SplitRule.PACKAGE, mask[i], probability[i])


def test_the_loss_is_that_of_the_formulas_on_two_hundred_maps(computed):
    expected = np.array([slow_loss(computed, i) for i in range(NUM_MAPS)])
    np.testing.assert_allclose(computed[3], expected, rtol=2e-5)
    terms = computed[4]
    assert set(terms) == {"image", "point", "split", "false_positive"}
    assert all((terms[k] > 0).sum() > 20 for k in terms), "every term occurs"
    np.testing.assert_allclose(sum(terms.values()), computed[3], rtol=1e-6)


def test_gradients_are_finite_differences_of_the_formulas(computed):
    random, logits, step = np.random.default_rng(1), computed[1], 1e-5
    chosen = [i for term in ("split", "false_positive") for i in np.flatnonzero(computed[4][term] > 0) if i not in EVEN]
    for i in chosen[:4] + chosen[-3:]:
        grads = computed[5][i]
        largest = np.argsort(-np.abs(grads).ravel())[:6]
        for place in (*largest, *random.integers(0, grads.size, 6)):
            up, down = logits[i].copy(), logits[i].copy()
            up.flat[place] += step
            down.flat[place] -= step
            slope = (slow_loss(computed, i, up) - slow_loss(computed, i, down)) / (2 * step)
            assert grads.flat[place] == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_components_centres_and_watershed_lines_are_those_of_the_library(maps):
    for difference, points in zip(maps["difference"], maps["points"]):
        mask = difference > 0
        labels, number = blobs.label_blobs(mask)
        expected, expected_number = label(mask, connectivity=2, return_num=True)
        assert number == expected_number
        np.testing.assert_array_equal(labels, expected)
        centres = [tuple(int(c) for c in region.centroid) for region in regionprops(expected)]
        assert [tuple(c) for c in blobs.blob_centres(mask).tolist()] == centres
        if points.any():
            relief = ndimage.black_tophat(difference, size=7)
            np.testing.assert_array_equal(
                blobs.watershed_lines(relief, points), reference.boundaries(difference, points)
            )


def test_blobs_touch_at_corners_ties_are_background_and_an_empty_map_counts_none():
    method = Blobs()
    diagonal = jnp.asarray(np.eye(6)[None, ..., None] * np.array([0.0, 1.0]))
    assert np.asarray(jax.jit(lambda x: method.counts(method.seen(x)))(diagonal)) == [1]
    assert np.asarray(method.counts(method.seen(jnp.ones((2, 6, 6, 2))))).tolist() == [0, 0]
    apart = np.zeros((1, 6, 6, 1), np.float32)
    apart[0, 1, 1:3], apart[0, 4, 4] = 1, 1
    assert np.asarray(Blobs(SplitRule.PACKAGE).counts(method.seen(jnp.asarray(apart)))) == [2]
    found = method.density(apart[0, ..., 0] > 0)
    assert np.argwhere(found).tolist() == [[1, 1], [4, 4]], "centres are rounded down"


def test_a_batch_a_part_of_it_and_a_mapped_one_give_the_same_bits(maps):
    logits = jnp.asarray(logits_of(maps["difference"][:12], SplitRule.BENCHMARK))
    points = jnp.asarray(maps["points"][:12])

    def weights(logits, points):
        mask, probability = foreground_logit(logits) > 0, jnp.exp(log_probabilities(logits)[1])
        return blobs.batch_background_weights(mask, probability, points, SplitRule.BENCHMARK)

    whole = jax.jit(weights)(logits, points)
    alone = jnp.concatenate([jax.jit(weights)(logits[i : i + 1], points[i : i + 1]) for i in range(12)])
    seeds = jax.jit(jax.vmap(weights))(logits.reshape(3, 4, *logits.shape[1:]), points.reshape(3, 4, SIDE, SIDE))
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole, seeds.reshape(whole.shape))
    assert NUM_OUTPUTS[SplitRule.BENCHMARK] == 2


# Density


def test_a_point_becomes_a_gaussian_of_sum_one_that_is_reflected_at_the_edge():
    points = np.zeros((1, 7, 9), bool)
    points[0, 3, 4] = True
    target = np.asarray(density.density_target(jnp.asarray(points)))[0]
    np.testing.assert_allclose(target[2:5, 3:6], [[0.0751, 0.1238, 0.0751], [0.1238, 0.2042, 0.1238],
                                                  [0.0751, 0.1238, 0.0751]], atol=5e-5)  # fmt: skip
    assert target.sum() == pytest.approx(1, rel=1e-5)
    random = np.random.default_rng(0).random((2, 7, 9)) < 0.2
    line = np.exp(-0.5 * np.arange(-1, 2) ** 2)
    kernel = np.outer(line, line) / np.outer(line, line).sum()
    expected = [ndimage.correlate(p.astype(float), kernel, mode="mirror") for p in random]
    np.testing.assert_allclose(density.density_target(jnp.asarray(random)), expected, atol=1e-6)


def test_the_density_loss_is_the_root_of_the_mean_square_or_the_square():
    random = np.random.default_rng(0)
    logits, points = random.normal(size=(3, 8, 8, 2)).astype(np.float32), random.random((3, 8, 8)) < 0.1
    target = np.asarray(density.density_target(jnp.asarray(points)))
    squares = ((logits[..., 1] - target) ** 2).mean((1, 2))
    np.testing.assert_allclose(Density(root=False).losses(jnp.asarray(logits), points)[0], squares, rtol=1e-5)
    np.testing.assert_allclose(Density().losses(jnp.asarray(logits), points)[0], np.sqrt(squares), rtol=1e-5)
    counts = Density().counts(Density().seen(jnp.asarray(logits)))
    np.testing.assert_allclose(counts, logits[..., 1].sum((1, 2)), rtol=1e-4, atol=1e-4)


def test_a_density_that_is_right_everywhere_has_a_gradient_of_zero_not_nan():
    points = jnp.zeros((1, 8, 8), bool)
    grads = jax.grad(lambda x: density.density_loss(x, points, root=True).sum())(jnp.zeros((1, 8, 8)))
    assert not np.any(grads)
