"""The trials of `make test-faults` tell silent damage and crashes, and find none."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fuzz
from targets import Target

from jaxrepro.errors import UserError


def lab_of(tmp_path, read):
    def make(folder):
        (folder / "a.bin").write_bytes(bytes(range(256)))

    return fuzz.Lab(tmp_path, {"raw": Target(make, read)})


def outcomes(lab):
    return {lab.trial(0, number)[1] for number in range(30)}


def test_other_data_without_a_word_is_silent(tmp_path):
    def read(folder):
        path = folder / "a.bin"
        return path.read_bytes() if path.is_file() else b""

    assert outcomes(lab_of(tmp_path, read)) == {"silent"}


def test_a_refusal_is_detected_and_any_other_error_is_a_crash(tmp_path):
    def refuse(folder):
        if not (folder / "a.bin").is_file() or (folder / "a.bin").read_bytes() != bytes(range(256)):
            raise UserError("a.bin is damaged")

    assert outcomes(lab_of(tmp_path / "refuse", refuse)) == {"detected"}

    def crash(folder):
        if not (folder / "a.bin").is_file() or (folder / "a.bin").read_bytes() != bytes(range(256)):
            raise ValueError

    assert outcomes(lab_of(tmp_path / "crash", crash)) == {"crash"}


def test_the_table_counts_every_outcome():
    found = [(0, "npz", "detected", ""), (1, "npz", "crash", ""), (2, "zip", "harmless", "")]
    lines = [line.split() for line in fuzz.table(found).splitlines()]
    assert lines == [
        ["detected", "harmless", "silent", "crash"],
        ["npz", "1", "0", "0", "1"],
        ["zip", "0", "1", "0", "0"],
        ["all", "3", "1", "1", "0", "1"],
    ]


@pytest.mark.slow
def test_sixty_trials_are_neither_silent_nor_crash():
    command = [sys.executable, fuzz.__file__, "--trials=60", "--seed=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 60" in done.stdout
