"""TFDS sources: prepared copies are read without TensorFlow, downloads fail fast and say what to do."""

import shutil
import socket
import sys
import time

import launching
import numpy as np
import pytest
import tiny_tfds

from jaxrepro.data import known, load_dataset, tfds_download
from jaxrepro.errors import UserError


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    return tiny_tfds.write_copy(tmp_path_factory.mktemp("tfds")).parent.parent


@pytest.fixture
def copy(prepared, empty_data_dir):
    shutil.copytree(prepared, empty_data_dir / "tfds")
    return empty_data_dir / "tfds" / "cifar10" / "3.0.2"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def assert_is_tiny_cifar(splits):
    assert {k: t.num_rows for k, t in splits.items()} == tiny_tfds.SIZES
    for split, table in splits.items():
        arrays = table.arrays()
        assert list(arrays) == ["image", "label", "value_scale"]
        assert arrays["image"].dtype == np.uint8
        assert arrays["label"].dtype == np.int32
        original = (arrays["value_scale"] * 8).round().astype(int)  # TFDS shuffles what it writes
        assert sorted(original) == list(range(table.num_rows))
        np.testing.assert_array_equal(arrays["image"], [tiny_tfds.picture(split, i) for i in original])
        np.testing.assert_array_equal(arrays["label"], original % 10)


def test_a_prepared_copy_gives_the_pictures_and_labels_that_were_written(copy):
    assert_is_tiny_cifar(load_dataset("tfds:cifar10"))
    assert "tensorflow" not in sys.modules


def test_a_copy_in_tfrecord_files_reads_the_same_without_tensorflow(copy):
    rows = load_dataset("tfds:cifar10")["train"].arrays()
    tiny_tfds.turn_into_tfrecord(copy)
    for part in ("description", "train"):
        known.forget(f"tfds:{copy} {part}")
    again = load_dataset("tfds:cifar10")
    assert_is_tiny_cifar(again)
    np.testing.assert_array_equal(again["train"].arrays()["image"], rows["image"])
    assert "tensorflow" not in sys.modules


def test_a_copy_in_the_folder_of_TFDS_DATA_DIR_is_found(prepared, empty_data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert_is_tiny_cifar(load_dataset("tfds:cifar10"))


def test_the_second_reading_decodes_nothing(copy, monkeypatch):
    load_dataset("tfds:cifar10")["train"].arrays()
    from jaxrepro.data import tfds

    monkeypatch.setattr(tfds, "_examples", None)
    assert load_dataset("tfds:cifar10")["train"].arrays()["image"].shape == (30, 32, 32, 3)


def test_a_split_too_large_for_the_cache_gives_the_same_rows(copy, monkeypatch):
    from jaxrepro.data import tfds

    rows = np.array([7, 3, 3, 29])
    cached = load_dataset("tfds:cifar10")["train"].take(rows)
    monkeypatch.setattr(tfds, "_CACHE_LIMIT_BYTES", 0)
    decoded = load_dataset("tfds:cifar10")["train"].take(rows)
    assert decoded.keys() == cached.keys()
    for name in cached:
        np.testing.assert_array_equal(decoded[name], cached[name])
        assert decoded[name].dtype == cached[name].dtype


@pytest.mark.parametrize("length", [1, 1000])
def test_a_shard_cut_short_is_a_user_error_that_names_the_folder(copy, length):
    shard = next(copy.glob("*-train.*"))
    shard.write_bytes(shard.read_bytes()[:length])
    with pytest.raises(UserError, match=f"{copy} cannot be read"):
        load_dataset("tfds:cifar10")["train"].arrays()


def test_a_tfrecord_cut_short_is_a_user_error(copy):
    tiny_tfds.turn_into_tfrecord(copy)
    shard = next(copy.glob("*-train.*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(UserError, match="the bytes of a record are cut short or changed") as raised:
        load_dataset("tfds:cifar10")["train"].arrays()
    assert len(str(raised.value)) < 600, "the bytes of the record are no part of the message"


def test_a_copy_with_fewer_examples_than_it_says_is_a_user_error(copy):
    tiny_tfds.turn_into_tfrecord(copy, leave_out=1)
    with pytest.raises(UserError, match="29 examples instead of 30"):
        load_dataset("tfds:cifar10")["train"].arrays()


def test_a_missing_shard_is_a_user_error_that_names_the_folder(copy):
    next(copy.glob("*-test.*")).unlink()
    with pytest.raises(UserError, match=f"{copy} cannot be read"):
        load_dataset("tfds:cifar10")


def test_a_damaged_description_is_a_user_error_that_names_the_folder(copy):
    (copy / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=f"{copy} cannot be read"):
        load_dataset("tfds:cifar10")


def test_an_unreachable_host_is_reported_within_seconds_with_both_ways_out(empty_data_dir, no_network):
    begin = time.monotonic()
    command = "python launch.py --config=configs/yoto_cifar.py:smoke"
    with pytest.raises(UserError) as error:
        load_dataset("tfds:cifar10", smoke_command=command)
    assert time.monotonic() - begin < 20
    assert "www.cs.toronto.edu" in str(error.value)
    assert str(empty_data_dir / "tfds" / "cifar10" / "3.0.2") in str(error.value)
    assert command in str(error.value)


def test_without_a_command_the_message_points_to_the_smoke_preset(empty_data_dir, no_network):
    with pytest.raises(UserError, match="add :smoke to the config"):
        load_dataset("tfds:cifar10")


def test_a_host_that_never_answers_counts_as_unreachable(monkeypatch):
    monkeypatch.setattr(tfds_download, "_ALL_SECONDS", 0.1)
    monkeypatch.setattr(tfds_download, "_ask", lambda url: time.sleep(0.5))
    assert tfds_download.unreachable(["https://host.invalid/a"]) == "host.invalid cannot be reached (no answer)"


def test_hosts_that_answer_are_reachable_and_asked_once_each(monkeypatch):
    asked = []
    monkeypatch.setattr(tfds_download, "_ask", asked.append)
    assert tfds_download.unreachable(["https://a.invalid/1", "https://a.invalid/2", "https://b.invalid/1"]) is None
    assert len(asked) == 2


def test_preparing_without_tensorflow_names_the_extra_before_any_download(empty_data_dir, monkeypatch):
    monkeypatch.setattr(tfds_download, "unreachable", lambda urls: None)
    monkeypatch.setattr(tfds_download.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(tfds_download, "_download", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[datasets\]"):
        load_dataset("tfds:cifar10")


def test_a_reachable_dataset_is_prepared_and_read(empty_data_dir, monkeypatch):
    monkeypatch.setattr(tfds_download, "unreachable", lambda urls: None)
    monkeypatch.setattr(
        tfds_download,
        "_builder",
        lambda name, folder: tiny_tfds.Cifar10(data_dir=folder, file_format="array_record"),
    )
    assert_is_tiny_cifar(load_dataset("tfds:cifar10"))


def test_an_unknown_dataset_suggests_the_nearest_name(empty_data_dir):
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        load_dataset("tfds:cifar01")


def test_pictures_of_different_sizes_are_scaled_and_cut_to_one(empty_data_dir, monkeypatch):
    tiny_tfds.write_lsun(empty_data_dir / "tfds")
    with pytest.raises(UserError, match=r"differ in size; .*tfds:lsun/church_outdoor\?size=64"):
        load_dataset("tfds:lsun/church_outdoor")
    for limit in (2**30, 0):  # decoded at once, and row by row
        monkeypatch.setattr("jaxrepro.data.tfds._CACHE_LIMIT_BYTES", limit)
        splits = load_dataset("tfds:lsun/church_outdoor?size=32")
        assert {name: table.num_rows for name, table in splits.items()} == {"train": 12, "valid": 5}
        images = splits["train"].arrays()["image"]
        assert images.shape == (12, 32, 32, 3)
        assert (images[:, :14] < 20).all()
        assert (images[:, 18:] > 180).all()


def test_features_inside_features_are_columns_by_their_own_names(empty_data_dir):
    tiny_tfds.write_celeb_a(empty_data_dir / "tfds")
    table = load_dataset("tfds:celeb_a?size=16")["valid"]
    assert list(table.columns) == ["image", "Male", "Smiling", "nose_x"]
    rows = table.arrays()
    np.testing.assert_array_equal(rows["Smiling"], rows["nose_x"] % 2)
    np.testing.assert_array_equal(rows["Male"], rows["nose_x"] // 2 % 2)
    assert rows["Smiling"].dtype == bool
    bright = rows["image"][:, 12:, 0, 1].mean(1) > 128
    np.testing.assert_array_equal(bright, rows["Smiling"])


def test_a_size_of_zero_is_refused(empty_data_dir):
    with pytest.raises(UserError, match="at least 1"):
        load_dataset("tfds:cifar10?size=0")


@pytest.mark.slow
def test_the_paper_config_trains_on_a_prepared_copy_from_the_command_line(copy, tmp_path):
    full_size = {"data.source": "tfds:cifar10", "model.image_shape": "(32,32,3)", "model.num_blocks": 3}
    changes = full_size | {"train.duration": "3 steps"}
    words = launching.command(tmp_path / "run", changes, config="configs/yoto_cifar.py")
    assert launching.call_main(*words[2:]).returncode == 0
    assert launching.results(tmp_path / "run")["step"] == 3


def test_the_launcher_reports_an_unreachable_download_in_one_line(empty_data_dir, no_network, tmp_path):
    done = launching.call_main("--config=configs/yoto_cifar.py", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(empty_data_dir / "tfds") in done.stderr
    assert "python launch.py --config=configs/yoto_cifar.py:smoke" in done.stderr
