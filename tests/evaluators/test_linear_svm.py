"""The support vector machine on the device against scikit-learn's."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from jaxrepro.evaluators import linear_svm


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 4
    features = np.abs(rng.normal(size=(300, 30)) + 0.7 * rng.normal(size=(4, 30))[labels])
    return features.astype(np.float32), labels


@pytest.mark.parametrize("c", [1e-3, 1e-1, 10.0])
def test_the_objective_equals_that_of_scikit_learn_to_a_thousandth(problem, c):
    features, labels = problem
    theirs = LinearSVC(C=c, dual=False, tol=1e-9, max_iter=100_000).fit(features, labels)
    weights = np.concatenate([theirs.coef_.T, theirs.intercept_[None]]).astype(np.float32)
    expected = float(linear_svm.objective(weights, features, labels, c))
    found = linear_svm.fit(features, labels, num_classes=4, c=c)
    np.testing.assert_allclose(float(linear_svm.objective(found, features, labels, c)), expected, rtol=1e-3)
    agree = linear_svm.predict(found, features) == theirs.predict(features)
    assert np.mean(agree) > 0.98


def test_the_objective_is_the_squared_hinge_with_a_regularised_bias():
    rng = np.random.default_rng(1)
    weights, features, labels = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), np.array([0, 1, 2, 1, 0])
    expected = 0.5 * np.sum(weights**2)
    for x, label in zip(features, labels):
        for k in range(3):
            score = x @ weights[:3, k] + weights[3, k]
            expected += 0.7 * max(0.0, 1 - (1 if label == k else -1) * score) ** 2
    found = linear_svm.objective(*(a.astype(np.float32) for a in (weights, features)), labels, 0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_c_is_the_best_on_held_out_rows_and_the_fit_is_on_all(problem):
    features, labels = problem
    grid = (1e-6, 1e-2, 1e3)
    scores = []
    for c in grid:
        weights = linear_svm.fit(features[:240], labels[:240], num_classes=4, c=c)
        scores.append(float(linear_svm.accuracy(weights, features[240:], labels[240:])))
    weights, c = linear_svm.fit_with_selection(features, labels, num_classes=4, grid=grid)
    assert c == grid[int(np.argmax(scores))]
    assert len(set(scores)) > 1
    on_all = linear_svm.fit(features, labels, num_classes=4, c=c)
    found, expected = (linear_svm.objective(w, features, labels, c) for w in (weights, on_all))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
