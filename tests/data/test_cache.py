"""The cache: built once by one process, checked when opened, never half-written."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from jaxrepro.data import cache
from jaxrepro.errors import UserError


class Builder:
    """Writes two columns and counts how often."""

    calls = 0

    def __call__(self, create):
        self.calls += 1
        create("image", (5, 4, 4, 1), np.uint8)[:] = 7
        create("label", (5,), np.int32)[:] = np.arange(5)


@pytest.fixture
def entry(empty_data_dir):
    build = Builder()
    arrays = cache.cached_arrays("toy", {"seed": 0}, build)
    (folder,) = [p for p in (empty_data_dir / "arrays").iterdir() if p.is_dir()]
    return build, arrays, folder


def test_an_entry_is_built_once_and_memory_mapped(entry):
    build, arrays, _ = entry
    again = cache.cached_arrays("toy", {"seed": 0}, build)
    assert build.calls == 1
    assert isinstance(again["image"], np.memmap)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], again[name])
    np.testing.assert_array_equal(again["label"], np.arange(5))


def test_another_key_is_another_entry(entry):
    build, _, _ = entry
    cache.cached_arrays("toy", {"seed": 1}, build)
    assert build.calls == 2


def flip_a_byte(folder):
    path = folder / "image.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(folder):
    path = folder / "label.npy"
    path.write_bytes(path.read_bytes()[:-4])


def lie_about_the_shape(folder):
    meta = json.loads((folder / "meta.json").read_text())
    meta["columns"]["label"]["shape"] = [6]
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, cut, lie_about_the_shape, lambda f: (f / "image.npy").unlink(), lambda f: (f / "meta.json").unlink()],
)
def test_a_damaged_entry_is_built_again(entry, damage, caplog):
    build, _, folder = entry
    damage(folder)
    arrays = cache.cached_arrays("toy", {"seed": 0}, build)
    assert build.calls == 2
    assert (arrays["image"] == 7).all()
    assert "is damaged" in caplog.text


def test_a_build_that_fails_leaves_no_entry_and_the_next_one_succeeds(empty_data_dir):
    def fail(create):
        create("image", (5,), np.uint8)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.cached_arrays("toy", {}, fail)
    assert not [p for p in (empty_data_dir / "arrays").iterdir() if p.is_dir()]
    assert len(cache.cached_arrays("toy", {}, Builder())["label"]) == 5


def test_the_remains_of_a_killed_process_are_no_entry(empty_data_dir):
    build = Builder()
    cache.cached_arrays("toy", {}, build)
    (folder,) = [p for p in (empty_data_dir / "arrays").iterdir() if p.is_dir()]
    folder.rename(folder.with_name(folder.name + ".tmp"))
    cache.cached_arrays("toy", {}, build)
    assert build.calls == 2


def _build_in_process(barrier, counter, folder):
    os.environ["JAXREPRO_DATA"] = folder

    def build(create):
        with counter.get_lock():
            counter.value += 1
        create("x", (200_000,), np.int32)[:] = os.getpid()

    barrier.wait()
    values = cache.cached_arrays("race", {}, build)["x"]
    assert len(np.unique(values)) == 1


def test_of_several_processes_one_builds_and_all_read_the_same(empty_data_dir):
    context = multiprocessing.get_context("spawn")
    barrier, counter = context.Barrier(3), context.Value("i", 0)
    processes = [
        context.Process(target=_build_in_process, args=(barrier, counter, str(empty_data_dir))) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert counter.value == 1


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXREPRO_DATA", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set JAXREPRO_DATA to a folder that can be written"):
        cache.cached_arrays("toy", {}, Builder())


def test_a_full_disk_is_a_user_error_and_not_a_crash(empty_data_dir, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room for .* No space left on device; .* JAXREPRO_DATA"):
        cache.cached_arrays("toy", {}, Builder())


def test_the_default_folder_is_below_the_home_cache(monkeypatch):
    monkeypatch.delenv("JAXREPRO_DATA", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.data_dir() == Path("/home/someone/.cache/jaxrepro")
