"""Sources that are files: npz, HDF5, folders and zip files of pictures."""

import json
import threading
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

from jaxrepro.data import known, load_dataset
from jaxrepro.data.hdf5 import read_rows
from jaxrepro.errors import UserError

pytestmark = pytest.mark.usefixtures("empty_data_dir")


def pictures(num_rows, shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_rows, *shape), dtype=np.uint8)


# npz


def test_an_npz_file_with_one_split_reads_as_train(tmp_path):
    images, labels = pictures(5), np.arange(5)
    np.savez(tmp_path / "a.npz", images=images, y=labels)
    splits = load_dataset(f"npz:{tmp_path}/a.npz")
    assert list(splits) == ["train"]
    arrays = splits["train"].arrays()
    np.testing.assert_array_equal(arrays["image"], images)
    np.testing.assert_array_equal(arrays["label"], labels)
    assert arrays["label"].dtype == np.int32


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test"), ("train_images", "train_labels", "test_images")])
def test_npz_names_carry_splits_before_or_after(tmp_path, names):
    image, label, other = names
    np.savez(
        tmp_path / "a.npz",
        **{image: pictures(4, (8, 8)), label: np.ones((4, 1), int), other: pictures(3, (8, 8))},
    )
    splits = load_dataset(f"npz:{tmp_path}/a.npz")
    assert list(splits) == ["train", "test"]
    assert splits["train"].arrays()["image"].shape == (4, 8, 8, 1)
    assert splits["train"].arrays()["label"].shape == (4,)
    assert splits["test"].num_rows == 3


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=pictures(2), y=np.array([{"a": 1}, {}], object))
    with pytest.raises(UserError, match=r"a\.npz: array 'y' holds pickled objects"):
        load_dataset(f"npz:{tmp_path}/a.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"label": np.arange(3)}, "no images for 'train', only .'label'.; name them image, images or x"),
        ({"x": pictures(3).astype(np.float32)}, "images are float32; store them as uint8"),
        ({"x": pictures(3, (3, 8, 8))}, "channels come last"),
        ({"x": pictures(3), "y": np.arange(4)}, "need one length"),
        ({"x": pictures(3), "y": np.eye(3)}, "labels must be integers"),
        ({"x": pictures(0)}, "holds no images"),
        ({}, "holds no arrays"),
    ],
)
def test_wrong_arrays_are_user_errors_that_say_what_is_wrong(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        load_dataset(f"npz:{tmp_path}/a.npz")


@pytest.mark.parametrize("kind", ["npz", "hdf5", "folder"])
@pytest.mark.parametrize("keep", [0, 1, 0.4, 0.95])
def test_a_file_cut_short_is_a_user_error_that_names_it(tmp_path, kind, keep):
    path = tmp_path / "whole"
    if kind == "npz":
        with open(path, "wb") as handle:
            np.savez(handle, x=pictures(50))
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["x"] = pictures(50)
    else:
        write_folder(tmp_path / "pictures", ["a/0.png", "b/1.png"])
        zip_folder(tmp_path / "pictures", path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else 1])
    with pytest.raises(UserError, match=str(path)):
        load_dataset(f"{kind}:{path}")["train"].arrays()


# HDF5


def test_a_plain_hdf5_file_reads_rows_in_any_order_with_repeats(tmp_path):
    images, labels = pictures(9, (8, 8)), np.arange(9)[:, None]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"], file["angle"] = images, labels, np.linspace(0, 1, 9)
    table = load_dataset(f"hdf5:{tmp_path}/a.h5")["train"]
    rows = np.array([8, 0, 3, 3, 1])
    found = table.take(rows)
    assert {k: (a.shape[1:], a.dtype) for k, a in found.items()} == {
        k: (c.shape, c.dtype) for k, c in table.columns.items()
    }
    np.testing.assert_array_equal(found["image"][..., 0], images[rows])
    np.testing.assert_array_equal(found["label"], rows)
    np.testing.assert_allclose(found["angle"], rows / 8)


def test_groups_of_an_hdf5_file_are_splits(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train/image"], file["val/image"] = pictures(4), pictures(2)
    assert {k: t.num_rows for k, t in load_dataset(f"hdf5:{tmp_path}/a.h5").items()} == {
        "train": 4,
        "valid": 2,
    }


@pytest.mark.parametrize("num_wanted", [3, 200, 20_000])
def test_rows_of_a_long_dataset_equal_numpy_indexing(tmp_path, num_wanted):
    values = np.arange(20_000, dtype=np.int32)
    rows = np.random.default_rng(0).integers(0, len(values), num_wanted)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=(10,))
        np.testing.assert_array_equal(read_rows(dataset, rows), values[rows])


def test_threads_read_the_same_rows_from_one_hdf5_file(tmp_path):
    images = pictures(500)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=images, chunks=(10, 8, 8, 3), compression="gzip")
    table = load_dataset(f"hdf5:{tmp_path}/a.h5")["train"]
    wrong = []

    def read(seed):
        rows = np.random.default_rng(seed).integers(0, 500, 64)
        if not np.array_equal(table.take(rows)["image"], images[rows]):
            wrong.append(seed)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def synbols_file(tmp_path):
    """Twenty rows as the original generator writes them, with two stored partitions."""
    path = tmp_path / "default.h5py"
    rows = [
        {"char": "cab"[i % 3], "font": "YX"[i % 2], "is_bold": str(i % 2 == 0), "is_slant": "False", "scale": 0.1 * i,
         "rotation": -0.1 * i, "translation": [0.5, -0.25] if i else 0.75, "symbols": []}
        for i in range(20)
    ]  # fmt: skip
    member = np.zeros((20, 3), bool)
    member[np.arange(20), np.repeat([1, 0, 2], [4, 12, 4])] = True
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", data=pictures(20), chunks=(10, 8, 8, 3), compression="gzip")
        file["mask"] = pictures(20, (8, 8, 1), seed=1)
        file.create_dataset("y", data=[json.dumps(r) for r in rows], dtype=h5py.string_dtype("ascii"))
        file["split/random"] = member
        file["split/stratified_char"] = member[::-1]
    return path


def test_a_synbols_file_gives_attributes_and_its_stored_random_split(synbols_file):
    splits = load_dataset(f"hdf5:{synbols_file}?masks=true")
    assert {k: t.num_rows for k, t in splits.items()} == {"train": 12, "valid": 4, "test": 4}
    assert "mask" not in load_dataset(f"hdf5:{synbols_file}")["train"].columns
    np.testing.assert_array_equal(splits["train"].arrays()["image"], pictures(20)[4:16])
    np.testing.assert_array_equal(splits["train"].take(np.array([1]))["label"], [1])  # row 5 is "b"
    arrays = splits["valid"].arrays()  # rows 0 to 3
    np.testing.assert_array_equal(arrays["image"], pictures(20)[:4])
    np.testing.assert_array_equal(arrays["mask"], pictures(20, (8, 8, 1), seed=1)[:4])
    np.testing.assert_array_equal(arrays["label"], [2, 0, 1, 2])
    np.testing.assert_array_equal(arrays["font"], [1, 0, 1, 0])
    np.testing.assert_array_equal(arrays["is_bold"], [True, False, True, False])
    np.testing.assert_allclose(arrays["rotation"], [0, -0.1, -0.2, -0.3], atol=1e-6)
    np.testing.assert_allclose(arrays["translation_x"], [0.75, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(arrays["translation_y"], [0.75, -0.25, -0.25, -0.25])


def test_another_stored_split_can_be_chosen(synbols_file):
    table = load_dataset(f"hdf5:{synbols_file}?split=stratified_char")["test"]
    np.testing.assert_array_equal(table.take(np.arange(4))["image"], pictures(20)[:4])


def test_a_file_without_masks_says_so(synbols_file):
    with h5py.File(synbols_file, "a") as file:
        del file["mask"]
    with pytest.raises(UserError, match=r"stores no masks; remove \?masks=true"):
        load_dataset(f"hdf5:{synbols_file}?masks=true")


def test_an_unknown_stored_split_lists_those_that_exist(synbols_file):
    with pytest.raises(UserError, match="did you mean 'stratified_char'"):
        load_dataset(f"hdf5:{synbols_file}?split=stratified_chr")


def test_synbols_attributes_that_are_not_json_are_a_user_error(synbols_file):
    with h5py.File(synbols_file, "a") as file:
        file["y"][3] = "{"
    with pytest.raises(UserError, match="y does not hold the attributes"):
        load_dataset(f"hdf5:{synbols_file}")


def test_an_hdf5_file_without_images_lists_what_it_has(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weights"] = np.ones(3)
    with pytest.raises(UserError, match=r"has no images, only \['weights'\]"):
        load_dataset(f"hdf5:{tmp_path}/a.h5")


def test_an_empty_hdf5_file_is_a_user_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = pictures(0)
    with pytest.raises(UserError, match="holds no images"):
        load_dataset(f"hdf5:{tmp_path}/a.h5")


def test_a_damaged_chunk_is_a_user_error_when_its_rows_are_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", data=pictures(100), chunks=(10, 8, 8, 3), compression="gzip")
        where = dataset.id.get_chunk_info(5).byte_offset
    with open(path, "r+b") as handle:
        handle.seek(where)
        handle.write(b"\0" * 64)
    table = load_dataset(f"hdf5:{path}")["train"]
    with pytest.raises(UserError, match=f"{path} is damaged"):
        table.arrays()


# Folders and zip files


def write_folder(root, names, size=(8, 6), mode="RGB"):
    """Writes one-colour pictures; the red value is the place of the name in `names`."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, (i, 100, 200) if mode == "RGB" else i).save(root / name)


def zip_folder(root, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root).as_posix())
        archive.writestr("__MACOSX/._0.png", b"junk")


def test_class_folders_become_labels_in_sorted_order(tmp_path):
    write_folder(tmp_path / "p", ["dog/1.png", "cat/0.png", "dog/0.png"])
    arrays = load_dataset(f"folder:{tmp_path}/p")["train"].arrays()
    assert arrays["image"].shape == (3, 6, 8, 3)
    np.testing.assert_array_equal(arrays["image"][:, 0, 0, 0], [1, 2, 0])  # cat/0, dog/0, dog/1
    np.testing.assert_array_equal(arrays["label"], [0, 1, 1])


def test_split_folders_share_their_labels_even_where_a_class_is_missing(tmp_path):
    write_folder(tmp_path / "p", ["train/a/0.png", "train/b/0.png", "train/c/0.png", "test/c/0.png", "val/b/0.png"])
    splits = load_dataset(f"folder:{tmp_path}/p")
    assert {k: t.arrays()["label"].tolist() for k, t in splits.items()} == {
        "train": [0, 1, 2],
        "valid": [1],
        "test": [2],
    }


@pytest.mark.parametrize("wrapper", ["", "archive/", "archive/train/"])
def test_a_zip_file_equals_its_folder_with_or_without_a_wrapping_folder(tmp_path, wrapper):
    write_folder(tmp_path / "p", [f"{wrapper}a/0.png", f"{wrapper}b/0.png"])
    zip_folder(tmp_path / "p", tmp_path / "p.zip")
    folder, archive = (load_dataset(f"folder:{tmp_path}/{n}")["train"].arrays() for n in ("p", "p.zip"))
    np.testing.assert_array_equal(folder["label"], [0, 1])
    for name in folder:
        np.testing.assert_array_equal(folder[name], archive[name])


def test_pictures_without_class_folders_have_no_label(tmp_path):
    write_folder(tmp_path / "p", ["0.png", "1.png"])
    table = load_dataset(f"folder:{tmp_path}/p")["train"]
    assert list(table.columns) == ["image"]


def test_gray_pictures_stay_gray_unless_one_has_colour(tmp_path):
    write_folder(tmp_path / "p", ["a/0.png"], mode="L")
    assert load_dataset(f"folder:{tmp_path}/p")["train"].columns["image"].shape == (6, 8, 1)
    (tmp_path / "p").rename(tmp_path / "q")
    write_folder(tmp_path / "q", ["a/1.png"])
    assert load_dataset(f"folder:{tmp_path}/q")["train"].columns["image"].shape == (6, 8, 3)


def test_gray_pictures_become_colour_where_another_split_has_colour(tmp_path):
    write_folder(tmp_path / "p", ["train/a/0.png"], mode="L")
    write_folder(tmp_path / "p", ["test/a/0.png"])
    splits = load_dataset(f"folder:{tmp_path}/p")
    assert splits["train"].columns["image"] == splits["test"].columns["image"]
    assert splits["train"].columns["image"].shape == (6, 8, 3)


def test_pictures_of_two_sizes_name_the_odd_file_and_the_option(tmp_path):
    write_folder(tmp_path / "p", ["a/0.png"])
    write_folder(tmp_path / "p", ["a/1.png"], size=(9, 6))
    with pytest.raises(UserError, match=r"a/1.png is 9×6 but a/0.png is 8×6.*\?size=64"):
        load_dataset(f"folder:{tmp_path}/p")


def test_the_size_option_scales_pictures_of_any_size(tmp_path):
    write_folder(tmp_path / "p", ["a/0.png"])
    write_folder(tmp_path / "p", ["a/1.png"], size=(9, 16))
    images = load_dataset(f"folder:{tmp_path}/p?size=4")["train"].arrays()["image"]
    assert images.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(images[..., 1], 100)


def test_a_changed_picture_is_read_again_once_it_is_accepted(tmp_path):
    write_folder(tmp_path / "p", ["a/0.png"])
    load_dataset(f"folder:{tmp_path}/p")
    Image.new("RGB", (8, 6), (77, 0, 0)).save(tmp_path / "p" / "a" / "0.png")
    with pytest.raises(UserError, match=r"files 1 changed \(a/0.png\)"):
        load_dataset(f"folder:{tmp_path}/p")
    known.forget(f"folder:{tmp_path}/p")
    assert load_dataset(f"folder:{tmp_path}/p")["train"].arrays()["image"][0, 0, 0, 0] == 77


def test_a_damaged_picture_is_named(tmp_path):
    write_folder(tmp_path / "p", ["a/0.png", "a/1.png"], size=(64, 64))
    whole = (tmp_path / "p" / "a" / "1.png").read_bytes()
    (tmp_path / "p" / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot read the picture a/1\.png"):
        load_dataset(f"folder:{tmp_path}/p")


def test_a_damaged_member_of_a_zip_file_is_named(tmp_path):
    path = tmp_path / "p.zip"
    write_folder(tmp_path / "p", ["a/0.png", "b/1.png"], size=(64, 64))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/0.png", "b/1.png"):
            archive.write(tmp_path / "p" / name, name)
        offset = archive.getinfo("b/1.png").header_offset
    with open(path, "r+b") as handle:
        handle.seek(offset + 40)
        handle.write(b"\xff" * 30)
    with pytest.raises(UserError, match=r"p\.zip: cannot read the picture b/1\.png"):
        load_dataset(f"folder:{path}")


def test_a_size_of_zero_is_a_user_error(tmp_path):
    write_folder(tmp_path / "p", ["a/0.png"])
    with pytest.raises(UserError, match="the size must be at least 1"):
        load_dataset(f"folder:{tmp_path}/p?size=0")


def test_an_empty_folder_says_what_was_expected(tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        load_dataset(f"folder:{tmp_path}/p")


def test_a_loose_picture_beside_class_folders_is_named(tmp_path):
    write_folder(tmp_path / "p", ["a/0.png", "b/0.png", "loose.png"])
    with pytest.raises(UserError, match=r"loose\.png lies outside the class folders"):
        load_dataset(f"folder:{tmp_path}/p")


def test_a_failed_reading_leaves_nothing_in_the_cache(tmp_path, empty_data_dir):
    write_folder(tmp_path / "p", ["a/0.png"])
    write_folder(tmp_path / "p", ["a/1.png"], size=(9, 6))
    with pytest.raises(UserError):
        load_dataset(f"folder:{tmp_path}/p")
    assert [p.suffix for p in (empty_data_dir / "arrays").iterdir()] == [".lock"]
