"""The README's dataset of one's own is made as it stands there, and holds what the text says."""

import re
import subprocess
import sys
from pathlib import Path

from jaxrepro.synbols.storage import open_file, read

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_example_writes_its_dataset(tmp_path):
    example = re.search(r"```python\n(# words\.py[^\n]*\n.*?)```", README, re.DOTALL)[1]
    assert len([line for line in example.splitlines() if line.strip()]) <= 11  # a comment and ten lines
    (tmp_path / "words.py").write_text(example)
    subprocess.run([sys.executable, "words.py"], cwd=tmp_path, check=True)
    x, mask, rows, splits = read(tmp_path / "words.h5")
    assert x.shape == (1000, 64, 64, 3)
    assert mask.shape == (1000, 64, 64, 1)
    assert {row["char"] for row in rows} == {"maybe", "no", "yes"}
    assert all((row["scale"] == 0.9) == (row["char"] == "maybe") for row in rows)
    assert "random" in splits
    with open_file(tmp_path / "words.h5") as file:
        assert file.attrs["dataset"] == "words"
        assert list(file["classes/char"].asstr()) == ["maybe", "no", "yes"]


def test_commands_of_the_readme_are_valid():
    from jaxrepro.synbols.__main__ import parser

    commands = re.findall(r"^ +python -m jaxrepro\.synbols ([^\n#]*)", README, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        parser().parse_args(command.replace("$SLURM_ARRAY_TASK_ID", "3").split())
