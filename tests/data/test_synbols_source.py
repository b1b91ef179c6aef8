"""`synbols:NAME`: the generator's samples as tables, rendered once; and its files through `hdf5:`."""

import shutil

import numpy as np
import pytest
from box_fonts import box_font, sizes
from PIL import Image

from jaxrepro.data import load_dataset, read_split
from jaxrepro.data import synbols as source
from jaxrepro.data.dataset import notes_of
from jaxrepro.errors import UserError
from jaxrepro.synbols import Choice, attribute_sampler, parallel, write_dataset
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.fonts import discovery
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


def test_letters_that_are_not_bold_are_regular_on_request():
    def images(options):
        spec = f"synbols:less-variations?num_samples=30&resolution=16{options}"
        return load_dataset(spec)["train"].arrays()["image"]

    assert (images("") != images("&normal_weight=400")).any(), "Poppins has Medium"
    np.testing.assert_array_equal(images(""), images("&normal_weight=500"))
    with pytest.raises(UserError, match="normal_weight is 300"):
        images("&normal_weight=300")


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


# Fonts and pictures of one's own


LETTERS = "abcdefghijklmnopqrstuvwxyz"
PLAIN = "num_samples=40&resolution=16&auxiliary=false"


@pytest.fixture
def fonts_dir(tmp_path):
    folder = tmp_path / "fonts"
    folder.mkdir()
    box_font(folder / "boxes.ttf", "Boxes", sizes(LETTERS))
    box_font(folder / "heebo.ttf", "Heebo", sizes(LETTERS))
    box_font(folder / "roboto.ttf", "Roboto", sizes(LETTERS[::-1]))
    return folder


def fonts_in(options):
    return set(load_dataset(f"synbols:default?{PLAIN}{options}")["train"].classes["font"])


def test_a_folder_adds_fonts_and_a_list_leaves_some_out(fonts_dir, tmp_path):
    usual = fonts_in("")
    assert fonts_in(f"&fonts_dir={fonts_dir}") == usual | {"Boxes", "Roboto"}
    assert fonts_in(f"&fonts_dir={fonts_dir}&near_duplicates=true") == usual | {"Boxes", "Heebo", "Roboto"}
    (tmp_path / "list.txt").write_text("# mine\nBoxes\nRoboto  # reason\n")
    assert fonts_in(f"&fonts_dir={fonts_dir}&exclude_fonts={tmp_path / 'list.txt'}") == usual | {"Heebo"}
    (tmp_path / "more").mkdir()
    box_font(tmp_path / "more" / "more.ttf", "More", sizes(LETTERS))
    assert fonts_in(f"&fonts_dir={fonts_dir},{tmp_path / 'more'}") == usual | {"Boxes", "Roboto", "More"}


def test_fonts_of_the_system_come_on_request(fonts_dir, monkeypatch):
    monkeypatch.setattr(discovery, "SYSTEM_FOLDERS", (str(fonts_dir),))
    assert "Boxes" not in fonts_in("")
    assert "Boxes" in fonts_in("&system=true")


def test_equal_fonts_and_pictures_in_another_place_are_the_same_cache_entry(fonts_dir, tmp_path, monkeypatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(pictures / "a.png")
    spec = f"synbols:natural-patterns?{PLAIN}&fonts_dir={{0}}/fonts&pictures={{0}}/pictures&strict=true"
    one = whole(load_dataset(spec.format(tmp_path)))
    other = tmp_path / "elsewhere"
    shutil.copytree(fonts_dir, other / "fonts")
    shutil.copytree(pictures, other / "pictures")
    with monkeypatch.context() as patch:
        patch.setattr(source, "_build", lambda *_: pytest.fail("rendered again"))
        for name, values in whole(load_dataset(spec.format(other))).items():
            np.testing.assert_array_equal(values, one[name])
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(other / "pictures" / "a.png")
    assert (whole(load_dataset(spec.format(other)))["image"] != one["image"]).any()


def test_what_a_dataset_lacks_is_its_note_and_strict_refuses_it(caplog):
    tables = load_dataset("synbols:few-shot?num_samples=10&resolution=8")
    assert "only 4 of 14 languages: no fonts for telugu, thai" in tables["test"].note
    assert "only 4 of 14 languages" in caplog.text
    assert notes_of(read_split(tables, s) for s in ("train", "test[:1]")) == (tables["test"].note,)
    assert load_dataset("synbols:default?num_samples=10&resolution=8&strict=true")["test"].note == ""
    with pytest.raises(UserError, match=r"strict: few-shot falls short .* only 4 of 14 languages"):
        load_dataset("synbols:few-shot?num_samples=10&resolution=8&strict=true")


def test_wrong_places_are_user_errors(tmp_path):
    for option, message in (("fonts_dir", "no folder of fonts"), ("exclude_fonts", "cannot read the list of fonts")):
        with pytest.raises(UserError, match=message):
            load_dataset(f"synbols:default?{PLAIN}&{option}={tmp_path / 'none'}")
    with pytest.raises(UserError, match="no pictures"):
        load_dataset(f"synbols:natural-patterns?{PLAIN}&pictures={tmp_path}")


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


def test_a_file_of_the_generator_names_its_classes_and_what_it_lacks(tmp_path):
    recipe = Recipe("few-shot", 0, {"resolution": 8})
    file = generate_file(recipe, 40, tmp_path / "a.h5")
    one, two = load_dataset("synbols:few-shot?num_samples=40&resolution=8"), load_dataset(f"hdf5:{file}")
    for part, table in one.items():
        assert two[part].classes == table.classes
        assert two[part].note == table.note != ""
    sampler = attribute_sampler(char="a", n_symbols=Choice((0, 1)), resolution=8)
    file = write_dataset(tmp_path / "b.h5", sampler, 20, symbols=("a", "b"))
    assert load_dataset(f"hdf5:{file}")["train"].classes == {}, "an image without a symbol has the class -1"
