"""Data is never silently another: depths of pixels, labels, flipped bytes, replaced files, links, bombs."""

import io
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny_tfds
from PIL import Image

from jaxrepro import machine
from jaxrepro.data import bounds, cache, known, load_dataset
from jaxrepro.data.classes import class_names
from jaxrepro.data.layout import check_classes
from jaxrepro.data.tfrecord import masked_crc32c
from jaxrepro.errors import UserError


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    """An empty folder of caches, and no other copies on this machine."""
    monkeypatch.setenv("JAXREPRO_DATA", str(tmp_path / "jaxrepro-data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    return tmp_path / "jaxrepro-data"


def pictures(num_rows=6, shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_rows, *shape), dtype=np.uint8)


def flip(path, position=None, *, keep_time=False):
    """Flips a byte, the middle one by default."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 0x10
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def write_folder(root, kind="png"):
    for i, name in enumerate(("a/0", "a/1", "b/2")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures(seed=i)[0]).save(root / f"{name}.{kind}")
    return root


# Depth of pixels


@pytest.mark.parametrize(
    ("array", "suffix", "mode"),
    [
        (np.full((8, 8), 40_000, np.uint16), "png", "I;16"),
        (np.full((8, 8), 0.5, np.float32), "tiff", "F"),
        (np.full((8, 8), 70_000, np.int32), "tiff", "I"),
    ],
)
def test_gray_pictures_of_more_than_8_bits_are_refused(tmp_path, array, suffix, mode):
    path = tmp_path / "p" / "a" / f"deep.{suffix}"
    path.parent.mkdir(parents=True)
    Image.fromarray(array).save(path)
    with pytest.raises(UserError, match=rf"a/deep.{suffix} has more than 8 bits a pixel \(Pillow's mode {mode}\)"):
        load_dataset(f"folder:{tmp_path}/p")


def test_colours_of_16_bits_are_scaled(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">6H", 0, 257 * 100, 65535, 0, 257 * 7, 257 * 200) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "p" / "a").mkdir(parents=True)
    (tmp_path / "p" / "a" / "0.png").write_bytes(data)
    found = load_dataset(f"folder:{tmp_path}/p")["train"].arrays()["image"]
    np.testing.assert_array_equal(found[0, 0], [[0, 100, 255], [0, 7, 200]])


def test_transparency_is_dropped_with_a_line_that_says_so(tmp_path, caplog):
    (tmp_path / "p" / "a").mkdir(parents=True)
    Image.fromarray(pictures(shape=(8, 8, 4))[0]).save(tmp_path / "p" / "a" / "0.png")
    found = load_dataset(f"folder:{tmp_path}/p")["train"].arrays()["image"]
    np.testing.assert_array_equal(found[0], pictures(shape=(8, 8, 4))[0, ..., :3])
    assert "1 pictures have transparency (a/0.png), which is dropped" in caplog.text


# Labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(6) - 3, r"label of row 0 is -3; labels count the classes from 0"),
        (np.arange(6) + 2**32, r"label of row 0 is 4294967296"),
        (np.array([0, 1, 2, 3, 4, 2**63], np.uint64), r"label of row 5 is 9223372036854775808"),
        (np.arange(6) / 2, "labels must be integers"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_labels_that_count_no_classes_are_refused(tmp_path, kind, labels, message):
    if kind == "npz":
        np.savez(tmp_path / "a", image=pictures(), label=labels)
    else:
        with h5py.File(tmp_path / "a.npz", "w") as file:
            file["image"], file["label"] = pictures(), labels
    with pytest.raises(UserError, match=message):
        load_dataset(f"{kind}:{tmp_path}/a.npz")


def test_labels_beyond_the_classes_or_without_a_class_are_refused(tmp_path):
    np.savez(tmp_path / "a", image=pictures(), label=np.array([0, 1, 2, -1, 4, 5]))
    tables = load_dataset(f"npz:{tmp_path}/a.npz")
    with pytest.raises(UserError, match="images without a class"):
        class_names(tables, "label")
    labels = tables["train"].arrays()["label"]
    with pytest.raises(UserError, match=r"the label of row 3 is -1; it must be in 0 to 9"):
        check_classes("a", labels, 10)
    with pytest.raises(UserError, match=r"the label of row 5 is 5; it must be in 0 to 4"):
        check_classes("a", labels, 5, unlabelled=True)


# Other bytes


def test_two_folders_with_equal_names_sizes_and_times_are_two_entries(tmp_path):
    for name, colour in (("one", 1), ("two", 2)):
        path = tmp_path / name / "p" / "a" / "0.bmp"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)
        os.utime(path, ns=(10**18, 10**18))
    found = [load_dataset(f"folder:{tmp_path}/{n}/p")["train"].arrays()["image"][0, 0, 0, 0] for n in ("one", "two")]
    assert found == [1, 2]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"x" * 200])
def test_a_cache_entry_whose_file_was_emptied_or_replaced_is_made_again(data_dir, damage, caplog):
    def build(create):
        create("label", (3,), np.int32)[:] = [3, 1, 2]

    cache.cached_arrays("toy", {}, build)
    (path,) = (data_dir / "arrays").glob("toy-*/label.npy")
    path.write_bytes(damage)
    assert cache.cached_arrays("toy", {}, build)["label"].tolist() == [3, 1, 2]
    assert "is damaged" in caplog.text


def test_a_file_in_place_of_a_cache_entry_is_replaced(data_dir):
    def build(create):
        create("label", (3,), np.int32)[:] = 7

    cache.cached_arrays("toy", {}, build)
    (folder,) = (p for p in (data_dir / "arrays").iterdir() if p.is_dir())
    for path in (folder, folder.with_name(folder.name + ".tmp")):
        if path.is_dir():
            path.rename(path.with_name("elsewhere"))
        path.write_text("a file")
    assert cache.cached_arrays("toy", {}, build)["label"].tolist() == [7, 7, 7]


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("position", [0.1, 0.5, 0.9])
def test_a_flipped_byte_of_a_plain_hdf5_file_is_noticed_at_the_second_reading(tmp_path, keep_time, position):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = pictures(50), np.arange(50)
    load_dataset(f"hdf5:{path}")
    flip(path, int(position * path.stat().st_size), keep_time=keep_time)
    with pytest.raises(
        UserError, match=r"is not what it was when it was first read, on .*: files 1 changed .* rm "
    ) as e:
        load_dataset(f"hdf5:{path}")
    os.unlink(str(e.value).rpartition("rm ")[2])
    load_dataset(f"hdf5:{path}")  # accepted


@pytest.mark.parametrize("kind", ["bmp", "jpg", "png"])
def test_another_picture_is_noticed_whatever_its_format(tmp_path, kind):
    root = write_folder(tmp_path / "p", kind)
    load_dataset(f"folder:{root}")
    flip(root / f"a/1.{kind}", -100)
    with pytest.raises(UserError, match=rf"(files 1 changed \(a/1.{kind}\)|cannot read the picture a/1.{kind})"):
        load_dataset(f"folder:{root}")


def test_pictures_that_are_new_or_gone_are_named(tmp_path):
    root = write_folder(tmp_path / "p")
    load_dataset(f"folder:{root}")
    (root / "a" / "1.png").rename(root / "b" / "1.png")
    with pytest.raises(UserError, match=r"files 1 missing \(a/1.png\), 1 new \(b/1.png\); bring the old bytes back"):
        load_dataset(f"folder:{root}")


def test_a_damaged_record_of_a_first_reading_is_written_again_with_a_word(tmp_path, caplog):
    known.note("source", {"a": "1"})
    flip(known.record_of("source"))
    known.compare("source", {"a": "1"})
    assert "is damaged and is written again" in caplog.text
    known.note("source", {"a": "1"})
    with pytest.raises(UserError, match="files 1 changed"):
        known.compare("source", {"a": "2"})


@pytest.fixture
def copy(data_dir):
    return tiny_tfds.write_copy(data_dir / "tfds")


def test_every_flipped_byte_of_a_tfrecord_file_is_noticed_at_the_first_reading(copy):
    tiny_tfds.turn_into_tfrecord(copy)
    path = next(copy.glob("*-test.*"))
    whole = path.read_bytes()
    for position in range(0, len(whole), 2999):
        path.write_bytes(whole)
        flip(path, position)
        with pytest.raises(UserError, match=r"of a record (is|are) cut short or changed"):
            load_dataset("tfds:cifar10")["test"].arrays()


def test_the_checksum_of_tfrecord_is_that_of_its_definition():
    assert masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_another_description_of_a_prepared_copy_is_noticed(copy):
    load_dataset("tfds:cifar10")
    text = (copy / "features.json").read_text()
    (copy / "features.json").write_text(text + " ")
    with pytest.raises(UserError, match=r"files 1 changed \(features.json\)"):
        load_dataset("tfds:cifar10")


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_a_list_of_members_that_was_cut_by_a_flip_is_noticed(tmp_path, kind):
    if kind == "npz":
        np.savez(tmp_path / "a.zip", x_train=pictures(), y_train=np.arange(6))
        (tmp_path / "a.zip.npz").rename(tmp_path / "a.zip")
    else:
        write_folder(tmp_path / "p")
        shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "p")
    path = tmp_path / "a.zip"
    load_dataset(f"{kind}:{path}")
    known.forget(f"{kind}:{path}")
    flip(path, path.read_bytes().index(b"PK\x01\x02") + 33)  # the length of the first member's comment
    with pytest.raises(UserError, match=r"members are found of"):
        load_dataset(f"{kind}:{path}")


# Links


@pytest.mark.parametrize("kind", ["link", "raw", "virtual"])
def test_hdf5_data_from_other_files_are_refused(tmp_path, kind):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = pictures()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "link":
            file["image"] = h5py.ExternalLink(str(secret), "x")
        elif kind == "raw":
            file.create_dataset("image", (6, 8, 8, 3), np.uint8, external=[(str(secret), 0, 6 * 192)])
        else:
            layout = h5py.VirtualLayout((6, 8, 8, 3), np.uint8)
            layout[:] = h5py.VirtualSource(str(secret), "x", (6, 8, 8, 3))
            file.create_virtual_dataset("image", layout)
    with pytest.raises(UserError, match=r"image (is a link to another file|takes its data from other files)"):
        load_dataset(f"hdf5:{tmp_path}/a.h5")


# Bombs


def peak_growth(function, *arguments):
    """Returns by how many MiB the process grew at its peak."""
    status = Path("/proc/self/clear_refs")
    status.write_text("5")
    before = peak()
    with pytest.raises(UserError) as raised:
        function(*arguments)
    return peak() - before, str(raised.value)


def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(
            member, {"descr": "|u1", "fortran_order": False, "shape": (100 * 2**6, 128, 128, 1)}
        )
        for _ in range(100):
            member.write(bytes(2**20))
    grown, message = peak_growth(load_dataset, f"npz:{tmp_path}/a.npz")
    assert "no pictures are compressed 250-fold" in message
    assert grown < 64


def test_an_array_whose_header_promises_more_than_there_is_is_refused(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (2**50, 8, 8, 3)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue() + bytes(192))
    grown, message = peak_growth(load_dataset, f"npz:{tmp_path}/a.npz")
    assert "is damaged" in message
    assert grown < 64


def test_an_array_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=pictures(10))
    monkeypatch.setattr(machine, "machine_memory", lambda: 3000)
    with pytest.raises(UserError, match=r"would take 0.0 GB of memory, .* store it as HDF5"):
        load_dataset(f"npz:{tmp_path}/a.npz")


@pytest.mark.parametrize("num_rows", [2**40, 10**12])
def test_an_hdf5_file_of_impossible_length_is_refused(tmp_path, num_rows):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (num_rows, 8, 8, 3), np.uint8, chunks=(1, 8, 8, 3))
    grown, message = peak_growth(load_dataset, f"hdf5:{tmp_path}/a.h5")
    assert "no pictures are compressed" in message
    assert grown < 64


def test_pictures_that_are_too_large_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    (tmp_path / "p" / "a").mkdir(parents=True)
    Image.new("1", (2**14, 2**12)).save(tmp_path / "p" / "a" / "0.png")
    grown, message = peak_growth(load_dataset, f"folder:{tmp_path}/p?size=8")
    assert "a/0.png has 16384×4096 pixels, more than 33,554,432" in message
    assert grown < 64
    archive = zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("a/0.png", "w", force_zip64=True) as member:
        for _ in range(30):
            member.write(bytes(2**20))
    monkeypatch.setattr(bounds, "MOST_PICTURE_BYTES", 2**20 * 20)
    grown, message = peak_growth(load_dataset, f"folder:{tmp_path}/p.zip")
    assert "a/0.png has 30 MiB, more than 20" in message
    assert grown < 64


@pytest.mark.parametrize("num_samples", [10**12, 2**63])
def test_an_impossible_number_of_samples_is_refused_before_any_memory_is_taken(num_samples):
    load_dataset("synbols:default?num_samples=5&resolution=8")  # brings the libraries into memory
    grown, message = peak_growth(load_dataset, f"synbols:default?num_samples={num_samples}&resolution=8")
    assert "no room for" in message
    assert grown < 64


# Files of the generator


def test_every_changed_byte_of_a_generated_file_is_noticed(tmp_path):
    from jaxrepro.synbols.generate import Recipe, generate_file

    path = generate_file(Recipe("default", 0, {"resolution": 8}), 6, tmp_path / "a.h5")
    before = load_dataset(f"hdf5:{path}")["train"].arrays()
    whole = path.read_bytes()
    for position in [*range(3, len(whole), len(whole) // 60), len(whole) - 1]:
        path.write_bytes(whole)
        flip(path, position)
        with pytest.raises(UserError, match=r"a.h5 is damaged"):
            load_dataset(f"hdf5:{path}")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut short"):
        load_dataset(f"hdf5:{path}")
    path.write_bytes(whole)
    after = load_dataset(f"hdf5:{path}")["train"].arrays()
    assert all(np.array_equal(before[k], after[k]) for k in before)


def test_a_damaged_piece_of_an_unfinished_file_is_rendered_again(tmp_path):
    from jaxrepro.synbols import blocks

    x = pictures(4)
    columns = {"label": np.arange(4, dtype=np.int32), "char": list("abcd"), "font name": list("efgh")}
    block = blocks.Block(x, pictures(4, (8, 8)), [b"{}"] * 4, columns)
    for suffix in (".npy", ".npz"):
        blocks.save(tmp_path / "0-4", block)
        path = tmp_path / f"0-4{suffix}"
        flip(path, path.read_bytes().index(block.y[0] if suffix == ".npz" else x[2].tobytes()))
        with pytest.raises(UserError, match=r"is damaged .* renders it again"):
            blocks.load(tmp_path / "0-4")
        assert not list(tmp_path.iterdir())
