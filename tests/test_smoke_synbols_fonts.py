"""Fonts and pictures that no package brings, through the launcher: Debian's Korean fonts, a folder of photographs."""

import json
import shutil
import subprocess
import sys

import launching
import numpy as np
import pytest

from jaxrepro.synbols.fonts.similar import read_list

pytestmark = pytest.mark.slow

TINY = {"train.duration": "2 epochs", "train.batch_size": 32, "model.name": "MLP"}


@pytest.fixture(scope="session")
def debian_fonts(tmp_path_factory):
    """A folder with the fonts of Debian's fonts-nanum, unpacked there and installed nowhere."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is needed to fetch Debian's fonts")
    folder = tmp_path_factory.mktemp("debian")
    done = subprocess.run(["apt-get", "download", "fonts-nanum"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Debian's archive cannot be reached: {done.stderr.strip()[-200:]}")
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True)
    return folder / "unpacked" / "usr" / "share" / "fonts"


def launch(workdir, source, preset="smoke", name="synbols_supervised", **overrides):
    changed = TINY | {"data.source": source} | overrides
    done = subprocess.run(
        [
            sys.executable, "launch.py", f"--config=configs/{name}.py:{preset}", f"--workdir={workdir}",
            *(f"--config.{k}={v}" for k, v in changed.items()),
        ],
        cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return launching.results(workdir), done.stderr


def test_korean_syllables_are_classified_with_fonts_of_a_folder(debian_fonts, tmp_path):
    source = f"synbols:korean-1k?num_samples=4000&fonts_dir={debian_fonts}&strict=true"
    results, said = launch(tmp_path, source, **{"task.column": "Korean 100k", "task.num_classes": 1000})
    assert "classes; the published data" not in said  # a thousand, as published
    assert results["notes"] == []
    assert results["metrics"]["test/accuracy"] >= 0
    assert json.loads((tmp_path / "config.json").read_text())["config"]["data"]["source"] == source


def test_natural_patterns_are_drawn_from_pictures_of_a_folder(tmp_path):
    from PIL import Image

    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).resize((320, 240)).save(folder / f"{i}.jpg")
    source = "synbols:natural-patterns?num_samples=1000&auxiliary=false"
    results, _ = launch(tmp_path / "own", f"{source}&pictures={folder}&strict=true")
    assert results["notes"] == []
    results, said = launch(tmp_path / "two", source)
    assert results["notes"] == ["only two photographs: give a folder of `pictures`"]
    assert "only two photographs" in said
    assert "only two photographs" in (tmp_path / "two" / "report.html").read_text()


def test_a_classifier_of_fonts_says_which_look_alike(tmp_path):
    launch(
        tmp_path / "run", "synbols:default-bw?num_samples=2000&auxiliary=false&near_duplicates=true",
        name="synbols_fonts", **{"model.name": "Conv-4 GAP"},
    )  # fmt: skip
    embeddings = tmp_path / "run" / "arrays" / "font_embeddings.npz"
    command = ["-m", "jaxrepro.synbols", "similar", f"--embeddings={embeddings}", "--num_merges=3"]
    subprocess.run([sys.executable, *command, f"--out={tmp_path / 'list.txt'}"], cwd=launching.ROOT, check=True)
    assert len(read_list(tmp_path / "list.txt")) == 3
