"""The distribution of the generator alone, installed into an empty environment."""

import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 300e6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter whose environment holds nothing but the generator."""
    folder = tmp_path_factory.mktemp("alone") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", ROOT / "packages" / "synbols"]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return python


def run(python, *arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, *arguments], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_small_and_holds_no_jax(python, tmp_path):
    packages = next((python.parents[1] / "lib").glob("python*/site-packages"))
    names = {p.name.lower() for p in packages.iterdir()}
    assert not names & {"jax", "jaxlib", "flax", "tensorflow_datasets", "scipy"}
    assert {p.name for p in (packages / "jaxrepro").iterdir()} - {"__pycache__"} == {
        "__init__.py", "errors.py", "synbols",
    }  # fmt: skip
    size = sum(p.stat().st_size for p in packages.rglob("*") if p.is_file())
    start = time.monotonic()
    run(python, "-c", "import jaxrepro.synbols", cwd=tmp_path)
    print(f"{size / 1e6:.0f} MB, imported in {time.monotonic() - start:.2f} s")
    assert size < MOST_BYTES


def test_it_renders_the_same_file_as_the_whole_and_draws_it(python, tmp_path):
    options = ["--dataset=camouflage", "--num_samples=600", "--resolution=16", "--no_preview"]
    run(python, "-m", "jaxrepro.synbols", "generate", *options, "--workers=2", "--out=a.h5", cwd=tmp_path)
    run(sys.executable, "-m", "jaxrepro.synbols", "generate", *options, f"--out={tmp_path / 'b.h5'}", cwd=ROOT)
    with h5py.File(tmp_path / "a.h5") as one, h5py.File(tmp_path / "b.h5") as other:
        assert (one["x"][()] == other["x"][()]).all()
        assert (one["y"][()] == other["y"][()]).all()
        assert one.attrs["fonts"] == other.attrs["fonts"]
    for figure in ("grid", "letters", "attributes", "histograms"):
        run(python, "-m", "jaxrepro.synbols", "preview", f"--figure={figure}", f"--out={figure}.png", cwd=tmp_path)
        assert (tmp_path / f"{figure}.png").stat().st_size > 5000
    run(python, "-m", "jaxrepro.synbols", "fonts", cwd=tmp_path)


def test_what_it_lacks_is_one_line(python, tmp_path):
    done = subprocess.run(
        [python, "-m", "jaxrepro.synbols", "similar", "--out=a.txt"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "error: comparing fonts needs SciPy: pip install scipy\n")
