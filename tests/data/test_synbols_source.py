"""`synbols:NAME`: the generator's samples as tables, rendered once; and its files through `hdf5:`."""

import numpy as np
import pytest

from jaxrepro.data import load_dataset
from jaxrepro.data import synbols as source
from jaxrepro.errors import UserError
from jaxrepro.synbols import parallel
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.generate import Recipe, generate_file, render_arrays
from jaxrepro.synbols.splits import STANDARD, standard_split
from jaxrepro.synbols.storage import read

pytestmark = pytest.mark.usefixtures("empty_data_dir")


def whole(splits):
    """Returns the rows of all parts together, sorted by something that differs in each."""
    arrays = [t.arrays() for t in splits.values()]
    joined = {k: np.concatenate([a[k] for a in arrays]) for k in arrays[0]}
    return {k: a[np.argsort(joined["rotation"])] for k, a in joined.items()}


def test_the_tables_hold_the_samples_of_the_generator_split_as_the_original_splits_them():
    splits = load_dataset("synbols:default?num_samples=50&seed=3&resolution=16")
    assert {k: t.num_rows for k, t in splits.items()} == {"train": 30, "valid": 10, "test": 10}
    made = Recipe("default", 3, {"resolution": 16}).load()
    x, _, attributes = render_arrays(made, 3, range(50))
    columns = attribute_columns(attributes, sorted(made.symbols), sorted(made.font_names)) | {"image": x}
    member = np.repeat([0, 1, 2], [30, 10, 10])
    np.random.RandomState(42).shuffle(member)
    for i, table in enumerate(splits.values()):
        assert set(table.columns) == set(columns)
        for name, values in table.arrays().items():
            np.testing.assert_array_equal(values, columns[name][member == i])


def test_columns_have_the_types_of_tables():
    columns = load_dataset("synbols:default?num_samples=10")["train"].columns
    types = {k: (c.shape, np.dtype(c.dtype).name) for k, c in columns.items()}
    assert types.pop("image") == ((32, 32, 3), "uint8")
    numbers = dict.fromkeys(("rotation", "scale", "translation_x", "translation_y"), ((), "float32"))
    flags = dict.fromkeys(("is_bold", "is_slant", "inverse_color"), ((), "bool"))
    assert types == numbers | flags | dict.fromkeys(("label", "font", "num_symbols"), ((), "int32"))


def test_labels_are_numbers_of_the_alphabet_even_if_few_of_it_occur():
    table = load_dataset("synbols:default?num_samples=10&auxiliary=false")["train"]
    made = Recipe("default", 0, {"auxiliary": False}).load()
    _, _, attributes = render_arrays(made, 0, range(10))
    rows = standard_split("random", {"label": np.zeros(10)}).rows()["train"]
    expected = ["abcdefghijklmnopqrstuvwxyz".index(attributes[i]["char"]) for i in rows]
    assert table.arrays()["label"].tolist() == expected


def test_options_name_different_data():
    def images(options):
        return load_dataset(f"synbols:default?num_samples=10&resolution=16{options}")["train"].arrays()["image"]

    plain = images("")
    np.testing.assert_array_equal(plain, images("&seed=0"))
    for options in ("&seed=1", "&language=greek", "&auxiliary=false", "&compat=v1"):
        assert (plain != images(options)).any(), options


def test_masks_come_on_request():
    splits = load_dataset("synbols:counting?num_samples=10&resolution=32&masks=true")
    arrays = splits["train"].arrays()
    assert arrays["mask"].shape == (6, 32, 32)
    assert arrays["mask"].max() <= arrays["num_symbols"].max()
    assert (arrays["overlap_score"] >= 0).all()
    assert "mask" not in load_dataset("synbols:counting?num_samples=10&resolution=32")["train"].columns


@pytest.mark.parametrize("name", ["stratified_scale", "compositional_rotation_scale", "stratified_char"])
def test_another_split_moves_rows_and_keeps_them(name):
    random, other = (load_dataset(f"synbols:default?num_samples=200&resolution=8&split={s}") for s in ("random", name))
    for one, two in zip(whole(random).values(), whole(other).values()):
        np.testing.assert_array_equal(one, two)
    if name == "stratified_scale":
        assert other["valid"].arrays()["scale"].max() < other["train"].arrays()["scale"].min()
    if name == "stratified_char":
        assert not set(other["train"].arrays()["label"]) & set(other["test"].arrays()["label"])


def test_a_dataset_is_rendered_once(monkeypatch):
    load_dataset("synbols:default?num_samples=10&resolution=8")
    monkeypatch.setattr(source, "_build", lambda *_: pytest.fail("rendered again"))
    load_dataset("synbols:default?num_samples=10&resolution=8&split=stratified_scale")


def test_many_samples_are_rendered_by_workers_with_the_same_result(monkeypatch, empty_data_dir):
    spec = "synbols:default?num_samples=2500&resolution=8"
    alone = whole(load_dataset(spec))
    used = []
    run = parallel.run
    monkeypatch.setattr(parallel, "run", lambda task, ranges, workers: used.append(workers) or run(task, ranges, 2))
    monkeypatch.setattr(source, "_WORTH_WORKERS", 2000 * 64)
    monkeypatch.setattr(source.os, "sched_getaffinity", lambda pid: range(7))
    monkeypatch.setenv("JAXREPRO_DATA", f"{empty_data_dir}-2")
    together = whole(load_dataset(spec))
    assert used == [7]
    for name, values in alone.items():
        np.testing.assert_array_equal(values, together[name])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synbols:default?num_samples=4", "three splits need at least 5"),
        ("synbols:defualt", "did you mean 'default'"),
        ("synbols:default?language=klingon", "unknown language 'klingon'"),
        ("synbols:default?resolution=2", "resolution is"),
        ("synbols:default?split=stratified_scal", "did you mean 'stratified_scale'"),
        ("synbols:plain?num_samples=10&split=stratified_scale", "scale cannot be split in three"),
        ("synbols:all-chars?num_samples=10&language=greek", "has no option 'language'"),
    ],
)
def test_a_bad_source_is_a_user_error(spec, message):
    with pytest.raises(UserError, match=message):
        load_dataset(spec)


# Files


@pytest.fixture
def path(tmp_path):
    return generate_file(Recipe("default", 3, {"resolution": 16}), 120, tmp_path / "a.h5")


def test_a_file_of_the_generator_reads_as_the_same_tables(path):
    one = load_dataset("synbols:default?num_samples=120&seed=3&resolution=16&masks=true&split=stratified_font")
    two = load_dataset(f"hdf5:{path}?masks=true&split=stratified_font")
    for part, table in one.items():
        found = two[part].arrays()
        assert {k: a.dtype for k, a in found.items()} == {k: c.dtype for k, c in table.columns.items()}
        for name, values in table.arrays().items():
            np.testing.assert_array_equal(values, found[name])


def test_images_of_a_file_are_mapped_and_read_in_any_order(path):
    table = load_dataset(f"hdf5:{path}")["train"]
    rows = np.array([5, 0, 5, 71])
    x, _, _, splits = read(path)
    np.testing.assert_array_equal(table.take(rows)["image"], x[np.flatnonzero(splits["random"][:, 0])[rows]])


def test_all_splits_of_a_file_can_be_chosen(path):
    stored = read(path)[3]
    assert set(stored) == set(STANDARD)
    for name in stored:
        assert sum(t.num_rows for t in load_dataset(f"hdf5:{path}?split={name}").values()) == 120


def test_the_archive_of_a_split_reads_as_npz(path, tmp_path):
    from jaxrepro.synbols.storage import export_npz

    export_npz(path, tmp_path / "a.npz", "random")
    one, two = load_dataset(f"hdf5:{path}"), load_dataset(f"npz:{tmp_path / 'a.npz'}")
    for part in one:
        for name, values in one[part].arrays().items():
            np.testing.assert_array_equal(values, two[part].arrays()[name])
