"""Files: the original's layout, reproducible bytes, and nothing half-written or damaged is ever taken for a file."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.synbols import blocks as blocks_lib
from jaxrepro.synbols import storage
from jaxrepro.synbols.blocks import Layout, layout_of, pack
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.storage import Header

N = 1234
FONTS = ("Arvo", "Bitter", "Coda", "Doto", "Ünicode")
HEADER = Header("mine", 7, {"language": "greek"}, N, 0, N, 3, "abc", ("a", "b", "é"), FONTS)


def attributes(i):
    return {
        "char": "abé"[i % 3], "font": FONTS[i % 5], "is_bold": i % 2 == 0, "is_slant": False,
        "inverse_color": i % 5 == 0, "rotation": i / N, "scale": 1 + i / N, "translation": [0.5, -i / N],
        "symbols": [{}] * (1 + i % 2),
    }  # fmt: skip


LAYOUT = layout_of((8, 6, 3), (8, 6, 2), N)


def blocks(size, layout=None):
    """The same samples in blocks of any size; with a layout, their masks are compressed already."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (N, 8, 6, 3), dtype=np.uint8)
    mask = rng.integers(0, 256, (N, 8, 6, 2), dtype=np.uint8)
    for i in range(0, N, size):
        rows = slice(i, min(i + size, N))
        yield pack(x[rows], mask[rows], [attributes(j) for j in range(N)[rows]], layout)


@pytest.fixture
def path(tmp_path):
    storage.write_file(tmp_path / "a.h5", HEADER, blocks(500), LAYOUT)
    return tmp_path / "a.h5"


def test_a_file_has_the_layout_of_the_original(path):
    with h5py.File(path) as file:
        assert file["x"].shape == (N, 8, 6, 3)
        assert file["mask"].shape == (N, 8, 6, 2)
        assert file["x"].dtype == file["mask"].dtype == np.uint8
        assert h5py.check_string_dtype(file["y"].dtype) == ("ascii", None)  # of variable length
        assert [json.loads(y) for y in file["y"]] == [attributes(i) for i in range(N)]
        for name in ("random", "stratified_char", "stratified_font", "compositional_char_font"):
            member = file["split"][name][()]
            assert member.shape == (N, 3)
            assert member.dtype == bool
            assert (member.sum(axis=1) == 1).all()
        assert file["split/random"].attrs["seed"] == 42
        assert list(file["split/stratified_scale"].attrs["ratios"]) == [0.6, 0.2, 0.2]


def test_what_was_written_is_read(path):
    x, mask, rows, splits = storage.read(path)
    (block,) = blocks(N)
    np.testing.assert_array_equal(x, block.x)
    np.testing.assert_array_equal(mask, block.mask)
    assert rows == [json.loads(y) for y in block.y]
    assert storage.read_attributes(path)[0] == rows
    assert splits["random"].sum(axis=0).tolist() == [740, 247, 247]
    with storage.open_file(path) as file:
        assert storage.header_of(file) == HEADER
        np.testing.assert_array_equal(storage.mapped(path, file["x"]), x)
        assert storage.mapped(path, file["mask"]) is None  # compressed
        assert storage.mapped(path, file["y"]) is None


def test_reading_in_blocks_gives_the_samples_in_order(path):
    found = list(storage.read_blocks(path))
    assert [len(b.y) for b in found] == [512, 512, 210]
    (whole,) = blocks(N)
    np.testing.assert_array_equal(np.concatenate([b.x for b in found]), whole.x)
    masks = [blocks_lib.decompressed(b.mask, len(b.y)) for b in found]
    np.testing.assert_array_equal(np.concatenate(masks), whole.mask)
    assert [y for b in found for y in b.y] == whole.y


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["arrays", "chunks"])
@pytest.mark.parametrize("size", [1, 333, 512, 1000, N])
def test_the_bytes_do_not_depend_on_the_blocks_that_came_in(path, size, layout, tmp_path):
    storage.write_file(tmp_path / "b.h5", HEADER, blocks(size, layout), LAYOUT)
    assert (tmp_path / "b.h5").read_bytes() == path.read_bytes()


def test_finished_blocks_are_copied_without_compressing_or_parsing_anything(path, tmp_path, monkeypatch):
    finished = list(blocks(LAYOUT.group, LAYOUT))
    for name in ("compressed", "decompressed", "columns_of"):
        monkeypatch.setattr(blocks_lib, name, lambda *_: pytest.fail("work for the workers"))
    storage.write_file(tmp_path / "b.h5", HEADER, finished, LAYOUT)
    assert (tmp_path / "b.h5").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["arrays", "chunks"])
def test_a_saved_block_is_loaded_as_it_was_and_a_damaged_one_is_deleted(tmp_path, layout):
    (block,) = blocks(N, layout)
    blocks_lib.save(tmp_path / f"0-{N}", block)
    assert blocks_lib.saved(tmp_path) == {(0, N)}
    found = blocks_lib.load(tmp_path / f"0-{N}")
    np.testing.assert_array_equal(found.x, block.x)
    np.testing.assert_array_equal(*(blocks_lib.decompressed(b.mask, N) for b in (found, block)))
    assert found.y == block.y
    assert {k: list(v) for k, v in found.columns.items()} == {k: list(v) for k, v in block.columns.items()}
    for suffix in ("npy", "npz"):
        blocks_lib.save(tmp_path / f"0-{N}", block)
        damaged = tmp_path / f"0-{N}.{suffix}"
        damaged.write_bytes(damaged.read_bytes()[:-100])
        with pytest.raises(UserError, match=r"is damaged .* and was deleted"):
            blocks_lib.load(tmp_path / f"0-{N}")
        assert list(tmp_path.iterdir()) == []


def test_pieces_are_sized_in_bytes():
    assert layout_of((32, 32, 3), (32, 32, 1), 10**6) == Layout((32, 32, 1), 256, 512)
    assert layout_of((128, 128, 3), (128, 128), 10**6) == Layout((128, 128), 16, 512)
    large = layout_of((1024, 1024, 3), (1024, 1024, 1), 10**6)
    assert large == Layout((1024, 1024, 1), 1, 8)  # 32 MiB
    assert layout_of((1024, 1024, 3), (1024, 1024, 9), 10**6).group == 2
    assert layout_of((8192, 8192, 3), (8192, 8192, 1), 10**6).group == 1
    assert layout_of((8, 8, 1), (8, 8, 1), 20) == Layout((8, 8, 1), 20, 512)  # no chunk exceeds its dataset


def test_the_bytes_do_not_depend_on_process_and_time(path, tmp_path, monkeypatch):
    other = tmp_path / "b.h5"
    code = (
        "import test_storage as t; from pathlib import Path; import sys\n"
        "t.storage.write_file(Path(sys.argv[1]), t.HEADER, t.blocks(100), t.LAYOUT)"
    )
    while int(time.time()) == int(path.stat().st_mtime):  # HDF5 notes whole seconds
        pass
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    subprocess.run([sys.executable, "-c", code, str(other)], check=True, env=environment)
    assert other.read_bytes() == path.read_bytes()


def test_missing_channels_of_masks_are_empty(tmp_path):
    def ragged():
        for i, block in enumerate(blocks(100)):
            yield block._replace(mask=block.mask[..., : 1 + i % 2])

    storage.write_file(tmp_path / "a.h5", HEADER, ragged(), layout_of((8, 6, 3), (8, 6, 3), N))
    mask = storage.read(tmp_path / "a.h5")[1]
    (whole,) = blocks(N)
    assert mask.shape == (N, 8, 6, 3)
    np.testing.assert_array_equal(mask[..., 0], whole.mask[..., 0])
    np.testing.assert_array_equal(mask[100:200, ..., 1], whole.mask[100:200, ..., 1])
    assert not mask[:100, ..., 1].any()
    assert not mask[..., 2].any()


def test_flat_masks_keep_their_shape(tmp_path):
    flat = (b._replace(mask=b.mask[..., 0]) for b in blocks(100))
    storage.write_file(tmp_path / "a.h5", HEADER, flat, layout_of((8, 6, 3), (8, 6), N))
    assert storage.read(tmp_path / "a.h5")[1].shape == (N, 8, 6)


def test_a_file_may_be_one_incomplete_chunk_or_begin_one_more(tmp_path):
    for num in (1, 255, 256, 257, 512, 513):
        header = dataclasses.replace(HEADER, num_samples=2 * N, stop_row=num)
        (whole,) = blocks(N)
        block = pack(whole.x[:num], whole.mask[:num], [attributes(i) for i in range(num)], None)
        storage.write_file(tmp_path / f"{num}.h5", header, [block], layout_of((8, 6, 3), (8, 6, 2), num))
        x, mask, rows, _ = storage.read(tmp_path / f"{num}.h5")
        np.testing.assert_array_equal(x, whole.x[:num])
        np.testing.assert_array_equal(mask, whole.mask[:num])
        assert len(rows) == num


def test_a_shard_stores_no_splits(tmp_path):
    shard = dataclasses.replace(HEADER, num_samples=2 * N)
    storage.write_file(tmp_path / "a.h5", shard, blocks(100), LAYOUT)
    assert storage.read(tmp_path / "a.h5")[3] == {}


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99, -1])
def test_a_file_cut_short_is_refused_in_one_line_that_names_it(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=f"^{path} is damaged, cut short or no HDF5 file") as caught:
        storage.read(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(UserError, match="no file of Synbols"):
        storage.read(tmp_path / "a.h5")
    with pytest.raises(UserError, match="does not exist"):
        storage.read(tmp_path / "b.h5")


def test_a_failure_in_the_middle_leaves_nothing(tmp_path):
    def broken():
        yield from blocks(1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.write_file(tmp_path / "a.h5", HEADER, broken(), LAYOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_read_only_is_one_line_and_what_is_elsewhere_keeps_its_error(tmp_path):
    out = tmp_path / "a.h5"
    with (
        pytest.raises(UserError, match=r"cannot write .*a\.h5: Permission denied$"),
        storage.unwritable_is_a_user_error(out),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a.h5.partial"))
    with pytest.raises(PermissionError), storage.unwritable_is_a_user_error(out):
        raise PermissionError(errno.EACCES, "Permission denied", "/fonts/a.ttf")


@pytest.mark.parametrize("limit", [1000, 100_000, 350_000, 420_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, limit):
    # A limit on the size of files is what the system offers for a full disk without one.
    code = (
        "import resource, sys; from pathlib import Path; import test_storage as t\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
        "try: t.storage.write_file(Path(sys.argv[1]), t.HEADER, t.blocks(100), t.LAYOUT)\n"
        "except t.UserError as error: sys.exit(str(error))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.h5")], capture_output=True, text=True, env=environment
    )
    expected = f"no room left for {tmp_path / 'a.h5'}; free some space, then the same command continues\n"
    assert (done.returncode, done.stderr) == (1, expected)
    assert list(tmp_path.iterdir()) == []


def test_the_npz_archive_needs_no_pickles_and_holds_every_column(path, tmp_path):
    storage.export_npz(path, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        arrays = {k: archive[k] for k in archive.files}
    x, mask, rows, _ = storage.read(path)
    np.testing.assert_array_equal(arrays["image"], x)
    np.testing.assert_array_equal(arrays["mask"], mask)
    assert [json.loads(a) for a in arrays["attributes"]] == rows
    assert arrays["label"].tolist() == [i % 3 for i in range(N)]


def test_the_npz_archive_of_a_split_has_its_parts(path, tmp_path):
    storage.export_npz(path, tmp_path / "a.npz", split="stratified_scale")
    member = storage.read(path)[3]["stratified_scale"]
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(
            archive["valid/scale"], np.float32([1 + i / N for i in np.flatnonzero(member[:, 1])])
        )
        assert {name.split("/")[0] for name in archive.files} == {"train", "valid", "test"}
    with pytest.raises(UserError, match="did you mean 'random'"):
        storage.export_npz(path, tmp_path / "b.npz", split="randm")


# Columns


def test_columns_are_those_of_the_first_symbol():
    columns = attribute_columns([attributes(i) for i in range(6)], HEADER.symbols, FONTS)
    assert columns["label"].tolist() == [0, 1, 2, 0, 1, 2]
    assert columns["font"].tolist() == [0, 1, 2, 3, 4, 0]
    assert columns["num_symbols"].tolist() == [1, 2, 1, 2, 1, 2]
    assert columns["is_bold"].tolist() == [True, False] * 3
    assert columns["inverse_color"].tolist() == [True, False, False, False, False, True]
    np.testing.assert_allclose(columns["translation_y"], [-i / N for i in range(6)], rtol=1e-6)
    assert {k: a.dtype.name for k, a in columns.items() if k in ("label", "font", "rotation")} == {
        "label": "int32", "font": "int32", "rotation": "float32",
    }  # fmt: skip


def test_without_classes_the_values_that_occur_are_numbered_in_order():
    rows = [attributes(i) | {"char": c} for i, c in enumerate("zkz")]
    assert attribute_columns(rows)["label"].tolist() == [1, 0, 1]


def test_the_original_writes_flags_as_strings_and_one_number_for_both_axes():
    row = attributes(0) | {"is_bold": "True", "is_slant": "False", "translation": 10.0}
    del row["inverse_color"]
    columns = attribute_columns([row])
    assert columns["is_bold"].tolist() == [True]
    assert columns["is_slant"].tolist() == [False]
    assert columns["translation_x"] == columns["translation_y"] == 10
    assert "inverse_color" not in columns


def test_an_image_without_symbols_has_no_label():
    columns = attribute_columns([{"symbols": [], "inverse_color": True}, attributes(0)])
    assert columns["label"].tolist() == [-1, 0]
    assert columns["num_symbols"].tolist() == [0, 1]
    assert np.isnan(columns["scale"]).tolist() == [True, False]


def test_a_character_that_is_no_class_is_a_user_error():
    with pytest.raises(UserError, match="the char 'é' of a sample is none of the dataset's 2"):
        attribute_columns([attributes(2)], ("a", "b"), FONTS)
    with pytest.raises(UserError, match="not those that Synbols writes"):
        attribute_columns([{"char": "a"}])
