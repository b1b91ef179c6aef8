"""An edited sampler is refused, whether its file is whole or was interrupted; a file never holds samples of two."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from jaxrepro.errors import UserError
from jaxrepro.synbols import (
    Choice,
    Gradient,
    ImagePattern,
    LogNormal,
    SolidColor,
    attribute_sampler,
    flatten_mask,
    write_dataset,
)
from jaxrepro.synbols.generate import Recipe, generate_file, merge_files
from jaxrepro.synbols.identity import probe
from jaxrepro.synbols.predefined import Dataset
from jaxrepro.synbols.storage import header_of, open_file, read

ROOT = Path(__file__).parents[2]
EXAMPLE = re.search(r"```python\n(# words\.py[^\n]*\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]

# Kills itself, as kill -9 would, when the first piece is there.
KILL = """
import os, signal
from jaxrepro.synbols import blocks
save, count = blocks.save, []
def killing(path, block):
    save(path, block)
    count.append(path)
    if len(count) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
blocks.save = killing
"""


def words(folder, edit=lambda text: text, before: str = "") -> subprocess.CompletedProcess:
    """Runs the README's words.py, edited."""
    text = EXAMPLE.replace("resolution=64", "resolution=16").replace("1000", "600")  # quick, and two pieces
    text = text.replace("workers=2", "workers=1")
    (folder / "words.py").write_text(before + edit(text))
    command = [sys.executable, "words.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT})


def smaller(text):
    assert "0.9 if word" in text
    return text.replace("0.9 if word", "0.8 if word")


def test_an_edited_words_py_is_refused_when_its_file_is_there(tmp_path):
    assert words(tmp_path).returncode == 0
    before = (tmp_path / "words.h5").read_bytes()
    assert words(tmp_path).returncode == 0  # unchanged: it is there
    done = words(tmp_path, smaller)
    assert done.stderr.splitlines()[-1].endswith(
        "UserError: words.h5 exists with other content: its sampler draws other samples (was the function edited?); "
        "delete it or choose another name"
    )
    assert (tmp_path / "words.h5").read_bytes() == before


def test_an_edited_words_py_does_not_continue_what_was_killed(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    assert words(whole).returncode == 0
    assert words(tmp_path, before=KILL).returncode == -9
    assert not (tmp_path / "words.h5").exists()
    assert len(list((tmp_path / "words.h5.partial").glob("*.npz"))) == 1
    done = words(tmp_path, smaller)
    assert "is an unfinished run of something else: its sampler draws other samples" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "words.h5").exists()
    assert words(tmp_path).returncode == 0  # the first one again
    assert (tmp_path / "words.h5").read_bytes() == (whole / "words.h5").read_bytes()


def rare(rng, scale):
    """A sampler whose scale differs for few samples, which the probe of the header does not happen to hold."""
    is_rare = rng.random() < 0.01
    return attribute_sampler(char="a", scale=scale if is_rare else 0.5, resolution=8)(rng)


def test_an_edit_of_rare_samples_is_found_in_what_an_interrupted_call_left(tmp_path, monkeypatch):
    from jaxrepro.synbols import identity, storage

    made, edited = (functools.partial(rare, scale=s) for s in (0.6, 0.7))
    monkeypatch.setattr(identity, "_PROBED", 10)
    out, write = tmp_path / "a.h5", storage.write_file

    def killed(path, header, blocks, *more):
        for _ in blocks:
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(out, made, 600)
    monkeypatch.setattr(storage, "write_file", write)
    with pytest.raises(
        UserError, match=r"a\.h5\.partial holds other samples than are drawn now: number \d+ has scale 0.6"
    ):
        write_dataset(out, edited, 600)
    assert not out.exists()
    write_dataset(out, made, 600)
    assert {row["scale"] for row in read(out)[2]} == {0.5, 0.6}


def bright(rng):
    return (1.0, 1.0, 1.0)


def dark(rng):
    return (0.2, 0.0, 0.0)


def test_edits_that_only_pixels_show_are_found_by_rendering_a_sample(tmp_path):
    bright.__qualname__ = dark.__qualname__ = "color"

    def write(color):
        gradient = Gradient(random_color=color)
        sampler = attribute_sampler(char="a", background=gradient, max_contrast=False, inverse_color=False)
        return write_dataset(tmp_path / "a.h5", sampler, 20)

    write(bright)
    write(bright)
    with pytest.raises(UserError, match=r"a\.h5 holds other samples .* number 0 has another image"):
        write(dark)


def test_declared_samplers_are_compared_by_what_they_declare(tmp_path):
    def write(**attributes):
        return write_dataset(tmp_path / "a.h5", attribute_sampler(char="a", **attributes), 20)

    write(scale=LogNormal(0.6, 0.1))
    with open_file(tmp_path / "a.h5") as file:
        header = header_of(file)
    assert header.probe == ""
    assert '"scale": {"median": 0.6, "std": 0.1, "type": "LogNormal"}' in header.sampler
    with pytest.raises(UserError, match=r"other content: sampler sampler\.scale\.median 0\.6, not 0\.7; delete it"):
        write(scale=LogNormal(0.7, 0.1))
    with pytest.raises(UserError, match=r"sampler sampler\.foreground"):
        write(scale=LogNormal(0.6, 0.1), foreground=SolidColor((1, 0, 0)))


def test_another_aggregator_of_masks_is_another_file(tmp_path):
    sampler = attribute_sampler(char="a")
    write_dataset(tmp_path / "a.h5", sampler, 20)
    with pytest.raises(UserError, match="other content: sampler mask_aggregator"):
        write_dataset(tmp_path / "a.h5", sampler, 20, mask_aggregator=flatten_mask)


def changing(rng):
    return attribute_sampler(char="a", scale=float(np.random.default_rng().random()) + 0.1)(rng)


def test_a_sampler_that_draws_from_something_else_is_refused(tmp_path):
    with pytest.raises(UserError, match="the sampler function changing draws something else from the same generator"):
        write_dataset(tmp_path / "a.h5", changing, 20)
    assert os.listdir(tmp_path) == []


def test_shards_of_an_edited_sampler_are_not_merged(tmp_path):
    for i, scale in enumerate((0.5, 0.6)):
        made = Dataset(functools.partial(sized, scale=scale), (), ())
        generate_file(Recipe("own", make=lambda name, made=made: made), 20, tmp_path / f"{i}.h5", shard=(i, 2))
    with pytest.raises(UserError, match="are not shards of one dataset: its sampler draws other samples"):
        merge_files([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "a.h5")


def sized(rng, scale):
    return attribute_sampler(char="a", scale=scale)(rng)


def test_the_probe_is_spread_over_the_dataset():
    def late(rng, scale):
        return attribute_sampler(char="a", scale=scale)(rng)

    one, other = (Dataset(functools.partial(late, scale=s), (), ()) for s in (0.5, 0.6))
    assert probe(one, 0, 5) != probe(other, 0, 5)
    assert probe(one, 0, 5) == probe(one, 0, 5) != probe(one, 1, 5)
    assert probe(Dataset(attribute_sampler(), (), ()), 0, 5) == ""


def test_what_is_no_image_is_named(tmp_path):
    with pytest.raises(UserError, match="the sampler gave None; it must give an Image"):
        write_dataset(tmp_path / "a.h5", lambda rng: None, 20)


def aggregator(first, later=None):
    """An aggregator of masks that gives other labels to images of two symbols, and does not tell."""

    def aggregate(masks):
        label = (later or first) if masks.shape[-1] == 2 else first
        return np.uint8(label) * (masks.max(-1) > 2), {}

    return aggregate


def two_later(rng):
    return attribute_sampler(char="a", n_symbols=1 + int(rng.random() < 0.5), resolution=8)(rng)


def interrupted(out, monkeypatch, *arguments, **options):
    """Writes a dataset and is killed when the pieces are there."""
    from jaxrepro.synbols import storage

    def killed(path, header, blocks, *more):
        for _ in blocks:
            pass
        raise KeyboardInterrupt

    write = storage.write_file
    monkeypatch.setattr(storage, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(out, *arguments, **options)
    monkeypatch.setattr(storage, "write_file", write)


@pytest.mark.parametrize("sampler", [attribute_sampler(char="a", n_symbols=2, resolution=8), two_later])
def test_an_edited_aggregator_does_not_continue_what_was_interrupted(tmp_path, monkeypatch, sampler):
    out = tmp_path / "a.h5"
    interrupted(out, monkeypatch, sampler, 600, mask_aggregator=aggregator(1))
    with pytest.raises(UserError, match=r"a\.h5\.partial holds other .* has another mask \(was the aggregator"):
        write_dataset(out, sampler, 600, mask_aggregator=aggregator(1, later=2))
    assert not out.exists()
    write_dataset(out, sampler, 600, mask_aggregator=aggregator(1))
    assert set(np.unique(read(out)[1])) == {0, 1}


@pytest.mark.parametrize("sampler", [attribute_sampler(char="a", n_symbols=2, resolution=8), two_later])
def test_the_file_of_an_edited_aggregator_is_refused(tmp_path, sampler):
    out = tmp_path / "a.h5"
    write_dataset(out, sampler, 20, mask_aggregator=aggregator(1))
    write_dataset(out, sampler, 20, mask_aggregator=aggregator(1))
    with pytest.raises(UserError, match=r"a\.h5 holds other samples .* has another mask \(was the aggregator"):
        write_dataset(out, sampler, 20, mask_aggregator=aggregator(1, later=2))


def test_masks_padded_in_the_file_are_equal_to_those_rendered_again(tmp_path, monkeypatch):
    def aggregate(masks):
        return masks, {"symbols_seen": masks.shape[-1]}

    interrupted(tmp_path / "a.h5", monkeypatch, two_later, 600, mask_aggregator=aggregate)
    for _ in range(2):
        write_dataset(tmp_path / "a.h5", two_later, 600, mask_aggregator=aggregate)

    def less(masks):
        return masks, {}

    less.__qualname__ = aggregate.__qualname__
    with pytest.raises(UserError, match="number 0 has symbols_seen, which is not there now"):
        write_dataset(tmp_path / "a.h5", two_later, 600, mask_aggregator=less)


def test_an_edit_of_a_rare_sample_is_found_in_a_whole_file(tmp_path):
    write_dataset(tmp_path / "a.h5", functools.partial(once, scale=0.6), 600)
    with pytest.raises(UserError, match="its sampler draws other samples"):
        write_dataset(tmp_path / "a.h5", functools.partial(once, scale=0.7), 600)


def once(rng, scale):
    """A sampler that has another scale in sample 16 only."""
    key = int(rng.bit_generator.state["state"]["key"][1])
    return attribute_sampler(char="a", scale=scale if key == 16 else 0.5, resolution=8)(rng)


def test_a_sampler_that_is_not_determined_in_some_samples_only_is_refused(tmp_path):
    def sometimes(rng):
        late = int(rng.bit_generator.state["state"]["key"][1]) > 10
        return attribute_sampler(char="a", scale=0.1 + float(np.random.default_rng().random()) * late)(rng)

    with pytest.raises(UserError, match="draws something else from the same generator"):
        write_dataset(tmp_path / "a.h5", sometimes, 20)


def from_pictures(rng, root):
    background = ImagePattern(root=str(root)) if rng.random() < 0.5 else Gradient()
    return attribute_sampler(char="a", resolution=8, background=background)(rng)


@pytest.mark.parametrize("declared", [True, False])
def test_replaced_pictures_are_other_samples(tmp_path, declared):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Picture.new("RGB", (40, 40), (255, 0, 0)).save(pictures / "one.png")
    backgrounds = Choice((Gradient(), ImagePattern(root=str(pictures))))
    sampler = attribute_sampler(char="a", resolution=8, background=backgrounds)
    if not declared:
        sampler = functools.partial(from_pictures, root=pictures)
    out, other = tmp_path / "a.h5", tmp_path / "b.h5"
    write_dataset(out, sampler, 20)
    write_dataset(out, sampler, 20)
    Picture.new("RGB", (40, 40), (0, 0, 255)).save(pictures / "one.png")
    with pytest.raises(UserError, match="pictures_hash" if declared else "its sampler draws other samples"):
        write_dataset(out, sampler, 20)
    write_dataset(other, sampler, 20)  # of the new pictures, though the old ones were read before
    assert (read(other)[0] != read(out)[0]).any()
