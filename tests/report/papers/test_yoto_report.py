import itertools
import random

import pytest
from finished_runs import results_of, run_of

from jaxrepro.report.comparison import compare
from jaxrepro.report.papers.yoto import PAPER, derive, figures
from jaxrepro.report.papers.yoto_log import largest_on_both, log_records
from jaxrepro.report.papers.yoto_points import AS_RUN, full_loss_difference, pareto_frontier
from jaxrepro.report.reference import load_reference


def record(row, beta, kl, reconstruction, seed=0, facts=None):
    cell = {"table": "figure 1a", "row": row, "column": f"beta={beta:g}", "seed": seed, "facts": facts or {}}
    cell |= {"unit": "nats per image", "evaluator": "beta_grid"}
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


RECORDS = [
    *record("YOTO 1x", 1, kl=10, reconstruction=100),
    *record("YOTO 1x", 4, kl=5, reconstruction=120),
    *record("YOTO 1x", 8, kl=4, reconstruction=130),  # no fixed model trained at 8
    *record("fixed beta=1 1x", 1, kl=9, reconstruction=98),
    *record("fixed beta=1 1x", 4, kl=9.5, reconstruction=97),  # the same model, evaluated with other noise
    *record("fixed beta=4 1x", 1, kl=6.5, reconstruction=109),
    *record("fixed beta=4 1x", 4, kl=6, reconstruction=110),
    *record("fixed beta=4 2x", 4, kl=3, reconstruction=95),
]


def test_full_loss_difference_has_beta_on_both_sides_and_the_fixed_1x_model_of_each_beta_as_its_baseline():
    found = {(d.row, d.beta): (d.log2_beta, d.value, d.std) for d in full_loss_difference(RECORDS)}
    assert found == {
        ("YOTO 1x", 1.0): (0.0, (100 + 10) - (98 + 9), 0.0),
        ("YOTO 1x", 4.0): (2.0, (120 + 4 * 5) - (110 + 4 * 6), 0.0),
        ("fixed 2x", 4.0): (2.0, (95 + 4 * 3) - (110 + 4 * 6), 0.0),
    }


def test_as_run_the_fixed_models_have_weight_1_whatever_their_beta():
    found = {(d.row, d.beta): d.value for d in full_loss_difference(RECORDS, as_run=True)}
    assert found == {
        ("YOTO 1x", 1.0): (100 + 10) - (98 + 9),
        ("YOTO 1x", 4.0): (120 + 4 * 5) - (110 + 6),
        ("fixed 2x", 4.0): (95 + 3) - (110 + 6),
    }


FACTS = {"num_train": 50_000, "num_test": 10_000, "likelihood": "bernoulli", "kl": AS_RUN}


def test_cells_of_figure_1b_stand_beside_the_published_ones_where_the_task_is_the_reports():
    for facts, joined in ((FACTS, True), (FACTS | {"num_train": 40_000}, False)):
        records = record("YOTO 1x", 16, 0.5, 1800, facts=facts)
        records += record("fixed beta=16 1x", 16, 0.25, 1770, facts=facts)
        cells = {(r["row"], r["metric"]): r["value"] for r in derive([], records, [])}
        assert cells == {
            ("YOTO 1x", "full_loss"): 1808,
            ("YOTO 1x", "full_loss_at_beta"): 1808,
            ("fixed 1x", "full_loss"): 1770.25,
            ("fixed 1x", "full_loss_at_beta"): 1774,
        }
        (table,) = [c for c in compare(derive([], records, []), load_reference("yoto")) if c.metric == "full_loss"]
        assert table.number("fixed 1x", "beta=16", "reproduction").value == 1776.1
        assert (table.number("fixed 1x", "beta=16", "ours") is not None) == joined


def test_a_run_with_another_kl_has_no_cells_as_run():
    records = record("YOTO 1x", 16, 100, 1700, facts=FACTS | {"kl": "sum over latents"})
    records += record("fixed beta=16 1x", 16, 90, 1700)
    assert {r["metric"] for r in derive([], records, [])} == {"full_loss_at_beta"}
    assert "full_loss_difference_as_run" not in figures(records)


def test_the_training_log_is_the_mean_over_the_last_batches_of_the_last_twenty_epochs(tmp_path):
    def line(epoch):
        values = {"kl": [float(epoch)], "reconstruction": [1000.0 + epoch], "loss": [1000.0 + 2 * epoch]}
        found = {f"{p}last_batch_{k}": v for k, v in values.items() for p in ("", "fixed_beta_16/")}
        return (
            10 * epoch,
            "train",
            found if epoch != 30 else found | {f"last_batch_{k}": [float("nan")] for k in values},
        )

    config = {"beta": {"fixed": 0.0, "baselines": [16.0]}, "model": {"width": 2}}
    log = [line(epoch) for epoch in range(1, 41)]
    run = run_of(tmp_path / "run", results_of("yoto", record("YOTO 2x", 16, 1, 1)), config=config, log=log)
    found = {(r["row"], r["metric"]): r["value"] for r in log_records(run)}
    assert found["fixed beta=16 2x", "kl"] == pytest.approx(30.5)  # of epochs 21 … 40
    assert found["fixed beta=16 2x", "full_loss"] == pytest.approx(1061)
    assert found["YOTO 2x", "kl"] == pytest.approx((sum(range(20, 41)) - 30) / 20)  # one line has no end of an epoch
    assert set(PAPER.figures_of_runs([run])) == {"training_frontier"}
    assert PAPER.figures_of_runs([]) == {}


def test_the_reports_frontier_looks_for_the_largest_values():
    points = [(1, 5), (3, 2), (2, 4), (2, 1), (0, 5), (3, 1)]
    assert largest_on_both(points) == [1, 2, 0, 4]


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
    both = yoto + record("fixed beta=2 1x", 2, 8, 104)
    assert set(figures(both)) == {"frontier", "full_loss_difference"}
    as_run = both + record("fixed beta=1 1x", 1, 9, 100, facts=FACTS)
    assert set(figures(as_run)) == {"frontier", "full_loss_difference", "full_loss_difference_as_run"}
    assert figures([{"table": "table1", "row": "MLP", "column": "a", "metric": "kl", "value": 1.0}]) == {}


def test_figures_name_axes_with_units_and_label_beta():
    drawn = figures(record("YOTO 1x", 64, 10, 100) + record("fixed beta=64 1x", 64, 8, 105))
    ax = drawn["frontier"].axes[0]
    assert ax.get_xlabel() == "KL (nats per image)"
    assert {"64", "β=64"} <= {t.get_text() for t in ax.texts}
    assert "nats" in drawn["full_loss_difference"].axes[0].get_ylabel()


def test_points_in_one_place_share_a_label():
    places = {1: (2, 90), 4: (0.5, 100), 16: (0.1, 120), 64: (0.1, 120), 256: (0.11, 120.1)}
    ax = figures([r for beta, place in places.items() for r in record("YOTO 1x", beta, *place)])["frontier"].axes[0]
    assert [t.get_text() for t in ax.texts] == ["1", "4", "16–256"]


def test_the_published_difference_stops_growing_once_beta_stands_on_both_sides():
    """From the report's own numbers: beta - 1 times its fixed models' KL at the end of training is what is missing."""
    published = {(r.table, r.row, r.column, r.metric): r.value for r in load_reference("yoto")}
    printed, right = {}, {}
    for width in (1, 2, 4):
        for beta in (1, 16, 64, 256):
            yoto, fixed = (
                published["figure1b", f"{row}x", f"beta={beta}", "full_loss"] for row in (f"YOTO {width}", "fixed 1")
            )
            kl = published["training log", f"fixed beta={beta} 1x", "last 20 epochs", "kl"]
            printed.setdefault(width, []).append(yoto - fixed)
            right.setdefault(width, []).append(yoto - fixed - (beta - 1) * kl)
    assert all(differences == sorted(differences) for differences in printed.values())
    found = {width: [round(d) for d in differences] for width, differences in right.items()}
    assert found == {1: [21, 46, 42, 32], 2: [-18, 0, 8, 5], 4: [-7, 19, 17, 15]}
