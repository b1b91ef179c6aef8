"""Fonts that look alike: distances in closed form, Ward's method against its definition, the list a person edits."""

import numpy as np
import pytest
from box_fonts import box_font, sizes

from jaxrepro.errors import UserError
from jaxrepro.synbols.fonts import find_fonts, similar
from jaxrepro.synbols.fonts.discovery import FontSet

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def fonts(tmp_path) -> FontSet:
    """Returns Alone, Copy and Original, of which the last two look alike and the last has more characters."""
    boxes = sizes(LETTERS)
    box_font(tmp_path / "original.ttf", "Original", boxes | sizes("é"))
    box_font(tmp_path / "copy.ttf", "Copy", {c: (w // 2, h // 2) for c, (w, h) in boxes.items()})
    box_font(tmp_path / "alone.ttf", "Alone", {c: (h, w) for c, (w, h) in boxes.items()})
    return FontSet(tuple(f for f in find_fonts([tmp_path]) if str(tmp_path) in f.regular.path))


def ward_by_definition(points: np.ndarray, num_merges: int) -> set[frozenset[int]]:
    """Joins, again and again, the two clusters whose union adds least to the sum of squared distances to the means."""
    found = [frozenset([i]) for i in range(len(points))]

    def scatter(members):
        chosen = points[sorted(members)]
        return ((chosen - chosen.mean(0)) ** 2).sum()

    for _ in range(num_merges):
        pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
        a, b = min(pairs, key=lambda p: scatter(p[0] | p[1]) - scatter(p[0]) - scatter(p[1]))
        found = [c for c in found if c not in (a, b)] + [a | b]
    return set(found)


def as_sets(numbers: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(numbers == n).tolist()) for n in set(numbers.tolist())}


def test_distances_are_root_mean_squares_of_pixels(tmp_path):
    box_font(tmp_path / "square.ttf", "Square", {"a": (500, 500), "b": (500, 500)})
    box_font(tmp_path / "narrow.ttf", "Narrow", {"a": (300, 600), "b": (400, 400)})
    chosen = [f for f in find_fonts([tmp_path]) if f.name in ("Square", "Narrow")]
    narrow, square = similar.embed(chosen, "ab")
    assert np.linalg.norm(square) == pytest.approx(1, abs=1e-3)
    # The narrow "a" fills half of its picture, "b" all of it: a quarter of all pixels differ.
    assert np.linalg.norm(square - narrow) == pytest.approx(np.sqrt(0.25), abs=1e-3)


def test_size_and_place_of_letters_do_not_matter(fonts):
    alone, copy, original = similar.embed(fonts, LETTERS)
    assert np.linalg.norm(copy - original) < 0.02
    assert np.linalg.norm(alone - original) > 0.1


@pytest.mark.parametrize("num_merges", [0, 1, 7, 8, 9, 11])
def test_clusters_are_those_of_wards_definition(num_merges):
    points = np.random.default_rng(0).normal(size=(12, 3))
    found = similar.clusters(points, num_merges=num_merges)
    assert as_sets(found) == ward_by_definition(points, num_merges)


@pytest.mark.parametrize("num_merges", range(6))
def test_equal_distances_are_joined_one_after_the_other(num_merges):
    points = np.repeat(np.arange(3.0), 2)[:, None]  # three pairs of equal fonts, at equal distances
    assert len(as_sets(similar.clusters(points, num_merges=num_merges))) == 6 - num_merges


def test_two_fonts_are_joined_up_to_their_distance():
    points = np.array([[0.0, 0.0], [0.3, 0.4], [9.0, 9.0]])
    assert as_sets(similar.clusters(points, max_distance=0.49)) == {frozenset([i]) for i in range(3)}
    assert as_sets(similar.clusters(points, max_distance=0.51)) == {frozenset([0, 1]), frozenset([2])}


def test_one_font_is_one_cluster():
    assert similar.clusters(np.zeros((1, 4))).tolist() == [0]


def test_the_list_keeps_the_font_with_most_characters_and_can_be_edited(fonts, tmp_path):
    path = tmp_path / "similar.txt"
    said = similar.write_list(path, fonts, max_distance=0.05)
    assert "3 fonts compared" in said
    assert "1 groups of similar ones, 1 to leave out" in said
    assert similar.read_list(path) == ("Copy",)
    assert "# like Original:" in path.read_text()
    assert fonts.without(similar.read_list(path)).names == ("Alone", "Original")
    path.write_text(path.read_text().replace("Copy", "# Copy") + "\n  Alone  # my own choice\n")
    assert similar.read_list(path) == ("Alone",)


def test_embeddings_of_a_classifier_may_be_given(fonts, tmp_path):
    names = ["Original", "Unknown", "Alone", "Copy"]
    np.savez(tmp_path / "e.npz", names=names, embeddings=np.array([[0.0], [0.0], [0.1], [5.0]]))
    similar.write_list(tmp_path / "list.txt", fonts, num_merges=1, embeddings=tmp_path / "e.npz")
    assert similar.read_list(tmp_path / "list.txt") == ("Alone",)


def test_wrong_embeddings_are_refused(fonts, tmp_path):
    np.savez(tmp_path / "other.npz", names=["x"], embeddings=np.zeros((1, 2)))
    np.savez(tmp_path / "short.npz", names=["Copy", "Alone"], embeddings=np.zeros((1, 2)))
    np.savez(tmp_path / "nan.npz", names=["Copy", "Alone"], embeddings=np.full((2, 2), np.nan))
    for name, message in (
        ("other", "names none of the 3 fonts"),
        ("short", "2 names and 1"),
        ("nan", "finite"),
        ("no", "cannot read"),
    ):
        with pytest.raises(UserError, match=message):
            similar.write_list(tmp_path / "list.txt", fonts, embeddings=tmp_path / f"{name}.npz")
    with pytest.raises(UserError, match="num_merges=3: allowed are 0 to 2"):
        similar.write_list(tmp_path / "list.txt", fonts, num_merges=3)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the list of fonts .*none\.txt"):
        similar.read_list(tmp_path / "none.txt")
    with pytest.raises(UserError, match="cannot write"):
        similar.write_list(tmp_path / "no" / "list.txt", find_fonts())
