"""The same samples whatever the workers, shards and interruptions; files that are whole or not there."""

import functools
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.synbols import Dataset, attribute_sampler, blocks, dataset_generator, parallel, write_dataset
from jaxrepro.synbols.generate import Recipe, generate_file, merge_files, render_arrays, shard_rows
from jaxrepro.synbols.masks import flatten_mask
from jaxrepro.synbols.storage import open_file, read

N = 1700  # more than three pieces of 512
ROOT = Path(__file__).parents[2]
RECIPE = Recipe("less-variations", 5, {"resolution": 16})

# A command that stops by a signal to itself as soon as 1000 samples are done.
STOP = """
import os, signal, sys
from jaxrepro.synbols import __main__ as command
class Stopping(command.Progress):
    def __call__(self, done, total):
        if 1000 <= done < total:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
command.Progress = Stopping
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start us with it ignored
sys.exit(command.main(sys.argv[2:]))
"""


def arguments(out, *more):
    start = [
        "generate",
        "--dataset=less-variations",
        "--seed=5",
        "--resolution=16",
        f"--num_samples={N}",
        "--no_preview",
    ]
    return [*start, f"--out={out}", *more]


def run(*arguments, code=None, **options):
    start = [sys.executable, "-c", code] if code else [sys.executable, "-m", "jaxrepro.synbols"]
    return subprocess.run([*start, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The file as one process writes it."""
    return generate_file(RECIPE, N, tmp_path_factory.mktemp("whole") / "whole.h5")


def test_a_file_holds_what_the_generator_yields(whole):
    x, mask, rows, _ = read(whole)
    made = RECIPE.load()
    samples = list(dataset_generator(made.sampler, 30, seed=5))
    np.testing.assert_array_equal(x[:30], [s[0] for s in samples])
    np.testing.assert_array_equal(mask[:30], [s[1] for s in samples])
    assert rows[:30] == [json.loads(json.dumps(s[2])) for s in samples]
    assert len({image.tobytes() for image in x}) == N


def test_the_header_says_where_the_file_comes_from(whole):
    from jaxrepro.synbols.drawing import GENERATOR_VERSION

    with open_file(whole) as file:
        assert file.attrs["dataset"] == "less-variations"
        assert (file.attrs["seed"], file.attrs["num_samples"]) == (5, N)
        assert json.loads(file.attrs["options"]) == {"resolution": [16, 16]}
        assert file.attrs["generator_version"] == GENERATOR_VERSION
        assert file.attrs["fonts"] == RECIPE.fingerprint(RECIPE.load().font_names)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_do_not_change_the_bytes(whole, tmp_path, workers):
    done = run(*arguments(tmp_path / "a.h5", f"--workers={workers}"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.h5").read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize(("signal", "workers"), [("SIGKILL", 1), ("SIGKILL", 2), ("SIGTERM", 1), ("SIGINT", 2)])
def test_a_stopped_command_leaves_no_file_and_the_same_command_finishes_it(whole, tmp_path, signal, workers):
    out = tmp_path / "a.h5"
    command = arguments(out, f"--workers={workers}")
    # `run` returns when all processes have closed their output: so the workers end as well.
    stopped = run(signal, *command, code=STOP)
    if signal == "SIGKILL":
        assert stopped.returncode == -9
    else:
        assert stopped.returncode == 75
        assert stopped.stderr == "interrupted; the same command continues\n"
    assert os.listdir(tmp_path) == ["a.h5.partial"]
    done = []
    generate_file(RECIPE, N, out, progress=lambda n, total: done.append(n))
    assert done[0] >= 500  # pieces are kept
    assert out.read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == ["a.h5"]


def test_workers_compress_and_parse_so_that_the_first_process_only_copies(whole, tmp_path, monkeypatch):
    first, work = os.getpid(), {name: getattr(blocks, name) for name in ("compressed", "pack")}

    def elsewhere(name):
        def call(*arguments):
            assert os.getpid() != first or len(arguments[0]) == 1  # but for one sample, drawn to find mistakes
            return work[name](*arguments)

        return call

    for name in work:
        monkeypatch.setattr(blocks, name, elsewhere(name))
    monkeypatch.setattr(parallel, "can_fork", lambda: True)
    out = generate_file(RECIPE, N, tmp_path / "a.h5", workers=2)
    assert out.read_bytes() == whole.read_bytes()


def test_large_shards_are_merged_without_compressing_again(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "MOST_ROWS", 16)
    rows = [shard_rows(530, (i, 2)) for i in range(2)]
    assert rows == [(0, 256), (256, 530)]
    whole = generate_file(RECIPE, 530, tmp_path / "whole.h5")
    shards = [generate_file(RECIPE, 530, tmp_path / f"{i}.h5", shard=(i, 2)) for i in range(2)]
    monkeypatch.setattr(blocks, "compressed", lambda *_: pytest.fail("compressed again"))
    assert merge_files(shards, tmp_path / "a.h5").read_bytes() == whole.read_bytes()


def test_shards_merge_to_the_same_bytes_in_any_order(whole, tmp_path):
    paths = [generate_file(RECIPE, N, tmp_path / f"{i}.h5", shard=(i, 3)) for i in range(3)]
    merge_files([paths[2], paths[0], paths[1]], tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == whole.read_bytes()


def test_a_set_of_shards_that_does_not_fit_is_refused(tmp_path):
    zero, one, two = (generate_file(RECIPE, 30, tmp_path / f"{i}.h5", shard=(i, 3)) for i in range(3))
    other = generate_file(Recipe("less-variations", 6, {"resolution": 16}), 30, tmp_path / "o.h5", shard=(1, 3))
    out = tmp_path / "a.h5"
    with pytest.raises(UserError, match=r"2\.h5 begins with sample 20: samples 10 to 19 are missing"):
        merge_files([zero, two], out)
    with pytest.raises(UserError, match="samples 20 to 29 are missing; give the shards"):
        merge_files([zero, one], out)
    with pytest.raises(UserError, match="its samples are there twice"):
        merge_files([zero, one, one, two], out)
    with pytest.raises(UserError, match=r"o\.h5 and .*0\.h5 are not shards of one dataset: seed 6, not 5"):
        merge_files([zero, other, two], out)
    content = one.read_bytes()
    one.write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"1\.h5 is damaged, cut short"):
        merge_files([zero, one, two], out)
    assert not out.exists()


def test_shards_cover_all_samples_once():
    rows = [shard_rows(100, (i, 16)) for i in range(16)]
    assert [r[0] for r in rows] == [0, *(r[1] for r in rows[:-1])]
    assert rows[-1][1] == 100
    for shard in ((16, 16), (-1, 16), (0, 0), (0, 101)):
        with pytest.raises(UserError, match="write I/N"):
            shard_rows(100, shard)


def test_a_sample_does_not_depend_on_how_many_there_are(whole, tmp_path):
    few = read(generate_file(RECIPE, 20, tmp_path / "a.h5"))
    for one, other in zip(few[:3], read(whole)[:3]):
        np.testing.assert_array_equal(one, other[:20])


def test_another_seed_gives_other_samples():
    made = RECIPE.load()
    one, other = (render_arrays(made, seed, range(20))[0] for seed in (5, 6))
    assert all((a != b).any() for a, b in zip(one, other))


def test_single_samples_equal_those_of_a_batch():
    made = Recipe("counting", 1, {"resolution": 32}).load()
    x, mask, rows = render_arrays(made, 1, range(40))
    for i in (0, 1, 17, 39):
        one = render_arrays(made, 1, [i])
        np.testing.assert_array_equal(one[0][0], x[i])
        np.testing.assert_array_equal(one[1][0], mask[i])
        assert one[2][0] == rows[i]
    assert all("overlap_score" in row for row in rows)


def test_a_finished_file_is_not_made_again(tmp_path):
    out = generate_file(RECIPE, 20, tmp_path / "a.h5")
    before = out.stat().st_mtime_ns
    seen = []
    generate_file(RECIPE, 20, out, progress=lambda *numbers: seen.append(numbers))
    assert seen == [(20, 20)]
    assert out.stat().st_mtime_ns == before


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    out = generate_file(RECIPE, 20, tmp_path / "a.h5")
    before = out.read_bytes()
    with pytest.raises(UserError, match="exists with other content: num samples 20, not 21"):
        generate_file(RECIPE, 21, out)
    out.write_bytes(before[:-5])
    with pytest.raises(UserError, match="damaged, cut short"):
        generate_file(RECIPE, 20, out)


def test_an_unfinished_run_of_something_else_is_not_continued(tmp_path):
    run("SIGKILL", *arguments(tmp_path / "a.h5"), code=STOP)
    with pytest.raises(UserError, match=r"a\.h5\.partial is an unfinished run of something else: seed 5, not 6"):
        generate_file(Recipe("less-variations", 6, {"resolution": 16}), N, tmp_path / "a.h5")


def test_a_damaged_piece_is_rendered_again(whole, tmp_path):
    out = tmp_path / "a.h5"
    run("SIGKILL", *arguments(out), code=STOP)
    piece = next((tmp_path / "a.h5.partial").glob("0-512.npz"))
    piece.write_bytes(piece.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"is damaged .* and was deleted; the same command renders it again"):
        generate_file(RECIPE, N, out)
    assert not out.exists()
    assert generate_file(RECIPE, N, out).read_bytes() == whole.read_bytes()


def test_two_commands_cannot_write_one_file(tmp_path):
    import fcntl

    folder = tmp_path / "a.h5.partial"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UserError, match=r"another process is writing .*a\.h5$"):
        generate_file(RECIPE, 20, tmp_path / "a.h5")
    os.close(handle)


@pytest.mark.parametrize("limit", [200_000, 1_000_000])
def test_a_full_disk_is_one_line_and_the_same_command_continues(whole, tmp_path, limit):
    # The first limit stops a piece, the second the file that is made of them.
    out = tmp_path / "a.h5"
    code = (
        "import resource, sys; from jaxrepro.synbols.__main__ import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = run(*arguments(out, "--workers=2"), code=code)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no room left for ")
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["a.h5.partial"]
    assert not list((tmp_path / "a.h5.partial").glob("*.tmp"))
    assert generate_file(RECIPE, N, out).read_bytes() == whole.read_bytes()


# Your own dataset


def ragged_sampler(rng):
    return attribute_sampler(n_symbols=int(rng.integers(1, 5)), resolution=16, char="a")(rng)


def test_masks_of_different_numbers_of_symbols_are_padded(tmp_path):
    path = write_dataset(tmp_path / "a.h5", ragged_sampler, 40, seed=3)
    assert write_dataset(path, ragged_sampler, 40, seed=3) == path  # it is there
    _, mask, rows, _ = read(path)
    assert mask.shape == (40, 16, 16, 4)
    for row, found, sample in zip(rows, mask, dataset_generator(ragged_sampler, 40, seed=3)):
        count = len(row["symbols"])
        np.testing.assert_array_equal(found[..., :count], sample[1])
        assert not found[..., count:].any()


def make_ragged(name):
    return Dataset(ragged_sampler, (), ())


def test_masks_of_different_numbers_of_symbols_give_the_same_bytes_for_any_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "MOST_ROWS", 8)  # pieces of 8, of which some have up to 4 symbols and some fewer
    recipe = Recipe("ragged", 3, make=make_ragged)
    whole = generate_file(recipe, 50, tmp_path / "whole.h5").read_bytes()
    assert generate_file(recipe, 50, tmp_path / "two.h5", workers=2).read_bytes() == whole
    shards = [generate_file(recipe, 50, tmp_path / f"{i}.h5", shard=(i, 3)) for i in range(3)]
    assert merge_files(shards, tmp_path / "merged.h5").read_bytes() == whole


def test_an_aggregator_makes_the_mask_and_adds_attributes(tmp_path):
    path = write_dataset(tmp_path / "a.h5", ragged_sampler, 10, mask_aggregator=flatten_mask)
    _, mask, rows, _ = read(path)
    assert mask.shape == (10, 16, 16)
    assert all(0 <= row["overlap_score"] <= 1 for row in rows)


def test_images_of_different_sizes_are_refused(tmp_path):
    def sampler(rng):
        return attribute_sampler(resolution=int(rng.integers(8, 20)))(rng)

    with pytest.raises(UserError, match="those of one file must have one size"):
        write_dataset(tmp_path / "a.h5", sampler, 40)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: generate_file(RECIPE, 0, out), "num_samples is 0; it must be a whole number of 1 or more"),
        (lambda out: generate_file(RECIPE, 5, out, workers=0), "workers is 0"),
        (lambda out: generate_file(Recipe("defalt"), 5, out), "did you mean 'default'"),
        (lambda out: generate_file(Recipe("default", -1), 5, out), "seed=-1; it must be 0 to"),
        (lambda out: generate_file(Recipe("default", options={"colour": 1}), 5, out), "unknown option"),
        (lambda out: generate_file(RECIPE, 5, out / "b" / "c.h5"), "b does not exist"),
        (lambda out: next(dataset_generator(lambda rng: None, 0)), "n_samples is 0"),
    ],
)
def test_bad_input_is_a_user_error_and_writes_nothing(tmp_path, call, message):
    with pytest.raises(UserError, match=message):
        call(tmp_path / "a.h5" if "b does" not in message else tmp_path)
    assert os.listdir(tmp_path) == []


# Processes


def failing(kind):
    def task(start, stop):
        if start == 2:
            raise kind("the reason")
        return start

    return task


def dying():
    def task(start, stop):
        if start == 2:
            os._exit(9)
        return start

    return task


PIECES = [(i, i + 1) for i in range(5)]


def test_a_mistake_in_a_worker_is_raised_here():
    with pytest.raises(UserError, match="the reason"):
        list(parallel.run(functools.partial(failing, UserError), PIECES, 2))
    with pytest.raises(RuntimeError, match=r"(?s)a worker failed.*ZeroDivisionError: the reason"):
        list(parallel.run(functools.partial(failing, ZeroDivisionError), PIECES, 2))
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_noticed():
    with pytest.raises(RuntimeError, match="a worker was killed; if memory ran out, use fewer workers"):
        list(parallel.run(dying, PIECES, 2))
    assert multiprocessing.active_children() == []


def test_started_processes_give_the_same_as_copies(monkeypatch, whole, tmp_path):
    monkeypatch.setattr(parallel, "can_fork", lambda: False)
    out = generate_file(RECIPE, N, tmp_path / "a.h5", workers=2)
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(UserError, match="cannot be sent to other processes"):
        write_dataset(tmp_path / "b.h5", lambda rng: attribute_sampler()(rng), 1001, workers=2)
