import itertools
import random

import pytest

from jaxrepro.report.papers.yoto import figures, full_loss_difference, pareto_frontier


def record(row, beta, kl, reconstruction, seed=0):
    cell = {"table": "figure 1a", "row": row, "column": f"beta={beta:g}", "seed": seed}
    return [cell | {"metric": "kl", "value": kl}, cell | {"metric": "reconstruction", "value": reconstruction}]


def random_points(seed, n=40):
    generator = random.Random(seed)  # a coarse grid, so that ties and duplicates occur
    return [(generator.randrange(12), generator.randrange(12)) for _ in range(n)]


def test_the_frontier_of_a_small_case_is_known():
    points = [(3, 1), (1, 3), (2, 2), (2, 3), (3, 3), (2, 2)]
    assert pareto_frontier(points) == [1, 2, 0]


@pytest.mark.parametrize("seed", range(20))
def test_the_frontier_is_exactly_the_set_of_non_dominated_points(seed):
    points = random_points(seed)

    def dominated(p):
        return any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)

    assert {points[i] for i in pareto_frontier(points)} == {p for p in points if not dominated(p)}


@pytest.mark.parametrize("seed", range(10))
def test_the_frontier_is_monotone_idempotent_and_blind_to_order_and_duplicates(seed):
    points = random_points(seed)
    frontier = [points[i] for i in pareto_frontier(points)]
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(frontier))
    assert pareto_frontier(frontier) == list(range(len(frontier)))
    shuffled = random.Random(seed).sample(points + points, k=2 * len(points))
    assert [shuffled[i] for i in pareto_frontier(shuffled)] == frontier


def test_points_that_are_not_finite_never_reach_the_frontier():
    assert pareto_frontier([(float("-inf"), 0), (float("nan"), 0), (1, 1)]) == [2]
    assert pareto_frontier([]) == []


def test_full_loss_difference_uses_the_fixed_model_trained_at_each_beta():
    records = [
        *record("YOTO 1x", 1, kl=10, reconstruction=100),
        *record("YOTO 1x", 4, kl=5, reconstruction=120),
        *record("YOTO 1x", 8, kl=4, reconstruction=130),  # no fixed model trained at 8
        *record("fixed beta=1 1x", 1, kl=9, reconstruction=98),
        *record("fixed beta=1 1x", 4, kl=9.5, reconstruction=97),  # the same model, evaluated with other noise
        *record("fixed beta=4 1x", 1, kl=6.5, reconstruction=109),
        *record("fixed beta=4 1x", 4, kl=6, reconstruction=110),
        *record("fixed beta=4 2x", 4, kl=0, reconstruction=0),  # another width is no baseline
    ]
    found = {(d.row, d.beta): (d.log2_beta, d.value, d.std) for d in full_loss_difference(records)}
    assert found == {
        ("YOTO 1x", 1.0): (0.0, (100 + 10) - (98 + 9), 0.0),
        ("YOTO 1x", 4.0): (2.0, (120 + 4 * 5) - (110 + 4 * 6), 0.0),
    }


def test_full_loss_difference_averages_over_seeds():
    records = [
        *record("YOTO 2x", 2, 1, 10, seed=0),
        *record("YOTO 2x", 2, 1, 14, seed=1),
        *record("YOTO 2x", 2, float("nan"), 99, seed=2),
        *record("fixed beta=2 1x", 2, 1, 10),
    ]
    (difference,) = full_loss_difference(records)
    assert difference.value == pytest.approx(2)
    assert difference.std == pytest.approx(8**0.5)


def test_figures_are_drawn_only_where_there_is_data():
    yoto = record("YOTO 1x", 1, 10, 100) + record("YOTO 1x", 2, 8, 105)
    assert set(figures(yoto)) == {"frontier"}
    assert set(figures(yoto + record("fixed beta=2 1x", 2, 8, 104))) == {"frontier", "full_loss_difference"}
    assert figures([{"table": "table1", "row": "MLP", "column": "a", "metric": "kl", "value": 1.0}]) == {}


def test_figures_name_axes_with_units_and_label_beta():
    drawn = figures(record("YOTO 1x", 64, 10, 100) + record("fixed beta=64 1x", 64, 8, 105))
    ax = drawn["frontier"].axes[0]
    assert ax.get_xlabel() == "KL (nats per image)"
    assert {"64", "β=64"} <= {t.get_text() for t in ax.texts}
    assert "nats" in drawn["full_loss_difference"].axes[0].get_ylabel()
