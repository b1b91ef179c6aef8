"""`python -m jaxrepro.synbols`: what it writes, what it says, and one line for every mistake."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from box_fonts import box_font, sizes
from PIL import Image

from jaxrepro.synbols import __main__ as command
from jaxrepro.synbols.storage import open_file, read

ROOT = Path(__file__).parents[2]


def call(*arguments):
    return command.main([str(a) for a in arguments])


def generate(out, *more):
    return call("generate", "--dataset=plain", "--num_samples=30", "--resolution=12", f"--out={out}", *more)


def test_a_dataset_is_written_with_the_chosen_options(tmp_path, capsys):
    out = tmp_path / "a.h5"
    assert call(
        "generate", "--dataset=default", "--num_samples=10", "--seed=3", "--resolution=20x10", "--language=greek",
        "--no_auxiliary", "--compat=v1", f"--out={out}",
    ) == 0  # fmt: skip
    assert capsys.readouterr().out == f"{out}\n"
    x, _, rows, _ = read(out)
    assert x.shape == (10, 10, 20, 3)
    assert {row["alphabet"] for row in rows} == {"greek"}
    assert {row["is_bold"] for row in rows} <= {"True", "False"}  # as the original writes them
    with open_file(out) as file:
        assert file.attrs["seed"] == 3
        assert len(file["classes/char"]) < 45  # without auxiliary letters


def test_no_auxiliary_gives_the_26_letters_of_the_paper(tmp_path):
    assert generate(tmp_path / "a.h5", "--no_auxiliary") == 0
    with open_file(tmp_path / "a.h5") as file:
        assert b"".join(file["classes/char"]).decode() == "abcdefghijklmnopqrstuvwxyz"


def test_shards_are_merged_and_exported(tmp_path, capsys):
    for i in range(3):
        assert generate(tmp_path / f"{i}.h5", f"--shard={i}/3") == 0
    assert call("merge", *(tmp_path / f"{i}.h5" for i in range(3)), f"--out={tmp_path / 'a.h5'}") == 0
    assert generate(tmp_path / "b.h5") == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert call("export", tmp_path / "a.h5", f"--out={tmp_path / 'a.npz'}", "--split=random") == 0
    assert {p.name for p in tmp_path.glob("*.png")} == {"a_preview.png", "b_preview.png"}
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["train/image"].shape == (18, 12, 12, 3)


def test_fonts_can_be_left_out(tmp_path):
    assert generate(tmp_path / "a.h5") == 0
    with open_file(tmp_path / "a.h5") as file:
        names = [n.decode() for n in file["classes/font"]]
    (tmp_path / "list.txt").write_text(f"# too plain\n{names[0]}  # 0.1\n")
    assert generate(tmp_path / "b.h5", f"--exclude_fonts={tmp_path / 'list.txt'}") == 0
    with open_file(tmp_path / "b.h5") as file:
        assert [n.decode() for n in file["classes/font"]] == names[1:]


def test_families_that_look_like_another_come_on_request(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    for family in ("Heebo", "Roboto"):
        box_font(tmp_path / f"{family}.ttf", family, sizes(letters))
    counts = []
    for i, more in enumerate(([], ["--near_duplicates"])):
        assert generate(tmp_path / f"{i}.h5", f"--fonts_dir={tmp_path}", "--no_auxiliary", *more) == 0
        with open_file(tmp_path / f"{i}.h5") as file:
            counts.append([n.decode() for n in file["classes/font"]].count("Heebo"))
    assert counts == [0, 1]


def test_what_a_dataset_lacks_is_said_and_recorded_and_strict_refuses_it(tmp_path, capsys):
    start = ["generate", "--dataset=few-shot", "--num_samples=10", "--resolution=8", f"--out={tmp_path / 'a.h5'}"]
    assert call(*start, "--strict") == 2
    lacks = "only 4 of 14 languages: no fonts for telugu"
    error = capsys.readouterr().err
    assert error.startswith("error: strict: few-shot falls short of the published dataset: " + lacks)
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == []
    assert call(*start) == 0
    assert f"note: few-shot: {lacks}" in capsys.readouterr().err
    with open_file(tmp_path / "a.h5") as file:
        assert file.attrs["note"].startswith(lacks)
    assert call("preview", "--dataset=natural-patterns", f"--out={tmp_path / 'b.png'}") == 0
    assert "note: natural-patterns: only two photographs" in capsys.readouterr().err
    assert generate(tmp_path / "c.h5", "--strict") == 0
    assert "note:" not in capsys.readouterr().err


def test_a_whole_file_has_a_preview_beside_it(tmp_path, capsys):
    assert generate(tmp_path / "a.h5") == 0
    assert f"preview: {tmp_path / 'a_preview.png'}\n" in capsys.readouterr().err
    picture, x = np.asarray(Image.open(tmp_path / "a_preview.png")), read(tmp_path / "a.h5")[0]
    assert picture.shape == (3 * 25 - 1, 10 * 25 - 1, 3)  # 30 images of 12 pixels, doubled
    np.testing.assert_array_equal(picture[25:49:2, 25:49:2], x[11])
    assert generate(tmp_path / "b.h5", "--no_preview") == 0
    assert generate(tmp_path / "c.h5", "--shard=0/2") == 0
    assert {p.name for p in tmp_path.glob("*.png")} == {"a_preview.png"}


def test_letters_that_are_not_bold_are_regular_if_wished(tmp_path):
    fonts = {}
    for weight in (500, 400):
        assert generate(tmp_path / f"{weight}.h5", f"--normal_weight={weight}") == 0
        with open_file(tmp_path / f"{weight}.h5") as file:
            fonts[weight] = file.attrs["fonts"]
    assert fonts[500] != fonts[400]
    one, other = (read(tmp_path / f"{weight}.h5")[1].mean() for weight in (500, 400))
    assert one > other  # Poppins has Medium


def test_datasets_lists_all_and_tells_what_one_is_drawn_from(tmp_path, capsys, monkeypatch):
    from jaxrepro.synbols.predefined import DATASETS

    assert call("datasets") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(DATASETS)
    assert next(line for line in lines if line.startswith("counting ")).split(maxsplit=3)[1:] == [
        "100,000", "128×128", "3 to 9 letters of different size, most of them a"
    ]  # fmt: skip
    assert call("datasets", "counting", f"--preview={tmp_path / 'a.png'}") == 0
    said = capsys.readouterr().out
    assert "char                  'a' (70 %) or any symbol of the alphabet (30 %)\n" in said
    assert "64 symbols, 10 fonts; masks: flatten_mask\n" in said
    assert Image.open(tmp_path / "a.png").size[0] > 500
    monkeypatch.setattr("jaxrepro.synbols.preview.DATASETS", {name: DATASETS[name] for name in ("plain", "tiny")})
    assert call("datasets", f"--preview={tmp_path / 'b.png'}") == 0
    assert Image.open(tmp_path / "b.png").size[0] > 500


def test_preview_draws_a_dataset_and_a_file(tmp_path):
    assert call("preview", "--dataset=camouflage", f"--out={tmp_path / 'a.png'}") == 0
    assert generate(tmp_path / "a.h5") == 0
    assert call("preview", f"--file={tmp_path / 'a.h5'}", f"--out={tmp_path / 'b.png'}") == 0
    for name in ("a.png", "b.png"):
        assert Image.open(tmp_path / name).size[0] > 500


def test_fonts_and_similar_say_what_was_found(tmp_path, capsys):
    assert call("fonts") == 0
    assert "fonts found" in capsys.readouterr().out
    assert call("fonts", "--language=korean") == 0
    assert "apt-get install" in capsys.readouterr().out
    assert call("similar", f"--out={tmp_path / 'list.txt'}", "--num_merges=2") == 0
    names = [line for line in (tmp_path / "list.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(names) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--dataset=camoflage", "--out={}"], "did you mean 'camouflage'"),
        (["generate", "--language=klingon", "--out={}"], "unknown language 'klingon'"),
        (["generate", "--num_samples=0", "--out={}"], "num_samples is 0"),
        (["generate", "--num_samples=many", "--out={}"], "--num_samples: invalid int value: 'many'"),
        (["generate", "--num_samples=100000000000000", "--out={}"], "would take 307,200,000.0 GB or more"),
        (["similar", "--max_distance=nan", "--out={}"], "max_distance is nan; it must be 0 or more"),
        (["similar", "--max_distance=-1", "--out={}"], "max_distance is -1"),
        (["generate", "--seed=-1", "--out={}"], "seed=-1"),
        (["generate", "--workers=0", "--out={}"], "workers is 0"),
        (["generate", "--shard=3/3", "--out={}"], "shard 3/3"),
        (["generate", "--shard=3", "--out={}"], "invalid shard value: '3'"),
        (["generate", "--resolution=2", "--out={}"], "4 to 4096 pixels"),
        (["generate", "--resolution=2y3", "--out={}"], "invalid resolution value"),
        (["generate", "--compat=v2", "--out={}"], "unknown value of compat 'v2'"),
        (["generate", "--dataset=korean-1k", "--language=greek", "--out={}"], "has no option 'language'"),
        (["generate", "--fonts_dir=/nowhere", "--out={}"], "/nowhere"),
        (["generate", "--exclude_fonts=/nowhere", "--out={}"], "/nowhere"),
        (["generate", "--out=/nowhere/a.h5"], "/nowhere does not exist"),
        (["generate"], "--out"),
        (["generate", "--nothing", "--out={}"], "unrecognized arguments: --nothing"),
        (["merge", "/nowhere.h5", "--out={}"], "/nowhere.h5 does not exist"),
        (["export", "/nowhere.h5", "--out={}"], "/nowhere.h5 does not exist"),
        (["preview", "--figure=grit", "--out={}"], "did you mean 'grid'"),
        (["preview", "--dataset=default", "--file=a.h5", "--out={}"], "exclude each other"),
        (["preview", "--out=/nowhere/a.png"], "/nowhere does not exist"),
        (["fonts", "--language=klingon"], "unknown language"),
        (["generate", "--normal_weight=450", "--out={}"], "normal_weight is 450; it must be 500 (Medium) or 400"),
        (["datasets", "camoflage"], "did you mean 'camouflage'"),
        (["draw"], "invalid choice: 'draw'"),
        ([], "COMMAND"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys, arguments, message):
    assert call(*(a.format(tmp_path / "a.h5") for a in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert os.listdir(tmp_path) == []


def test_fonts_to_leave_out_or_to_add_that_are_not_there_are_named(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("No Such Font\n")
    assert generate(tmp_path / "a.h5", f"--exclude_fonts={tmp_path / 'list.txt'}") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: none of the fonts to leave out, No Such Font…, is among the ")
    (tmp_path / "empty").mkdir()
    assert generate(tmp_path / "a.h5", f"--fonts_dir={tmp_path / 'empty'}") == 2
    assert f"no font (.ttf .otf .ttc .otc) in the folder {tmp_path / 'empty'}" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["empty", "list.txt"]


@pytest.mark.parametrize("name", ["generate", "merge", "export", "preview", "datasets"])
def test_what_cannot_be_written_is_one_line(tmp_path, capsys, name):
    long = tmp_path / f"{'a' * 250}.h5"  # with the ending of a temporary name the system refuses it, whoever we are
    options = ["--num_samples=4", "--resolution=8", "--no_preview"]
    assert call("generate", f"--out={tmp_path / 'b.h5'}", *options) == 0
    capsys.readouterr()
    arguments = {
        "generate": ["generate", *options, f"--out={long}"],
        "merge": ["merge", tmp_path / "b.h5", f"--out={long}"],
        "export": ["export", tmp_path / "b.h5", f"--out={long}"],
        "preview": ["preview", f"--file={tmp_path / 'b.h5'}", f"--out={long}"],
        "datasets": ["datasets", "tiny", f"--preview={long}"],
    }[name]
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert error == f"error: cannot write {long}: File name too long\n"
    assert os.listdir(tmp_path) == ["b.h5"]


def test_help_names_the_commands_and_needs_no_rendering():
    code = (
        "import sys; from jaxrepro.synbols.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "heavy = {'cairo', 'h5py', 'matplotlib', 'jax', 'tensorflow_datasets', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("generate", "merge", "export", "preview", "fonts", "similar"):
        assert f"    {name} " in done.stdout


def test_output_into_a_closed_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    start = [sys.executable, "-m", "jaxrepro.synbols", "fonts"]
    done = subprocess.run(start, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 11.5, 12.0, 21.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with command.Progress("default") as progress:
        for done in (100, 150, 1200, 1300, 2100):
            progress(done, 2100)
    assert capsys.readouterr().err.splitlines() == [
        "default: 1,200 of 2,100  105 images/s",  # 1,100 in 10.5 s
        "default: 2,100 of 2,100  100 images/s",
    ]
