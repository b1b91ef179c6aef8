"""The smoke runs of Synbols' representations as a user starts them."""

import re
import subprocess
import sys

import launching
import pytest

pytestmark = pytest.mark.slow


def test_a_sweep_trains_infomax_a_vae_and_a_hierarchical_one_and_shows_everything(tmp_path):
    command = [sys.executable, "launch.py", "--config=configs/synbols_unsupervised.py:smoke", "--sweep"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}"],
        cwd=launching.ROOT, env=launching.environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes = {"code_map", "neighbours"}
    vae = {"reconstructions", "samples", "kl_per_latent", "traversal_all"}
    hvae = vae - {"traversal_all"} | {"traversal_top", "traversal_low", "levels"}
    for model, pictures in (("Deep InfoMax", set()), ("VAE", vae), ("HVAE (2 level)", hvae)):
        folder = tmp_path / "sweep" / f"model.name={model}".replace(" ", "_")
        found = launching.results(folder)["metrics"]
        assert found["valid/frozen/mlp/char_accuracy"] > 100 / 26 + 4, model
        assert codes | pictures <= {p.stem for p in (folder / "figures").glob("*.png")}
        page = (folder / "report.html").read_text()
        assert "Table 4" in page
        assert not re.search(r'(src|href)="https?://', page), "the page must be self-contained"
