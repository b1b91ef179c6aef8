import pytest


@pytest.fixture
def empty_data_dir(tmp_path, monkeypatch):
    """An empty folder of caches and prepared copies, and no other copies on this machine."""
    folder = tmp_path / "jaxrepro-data"
    monkeypatch.setenv("JAXREPRO_DATA", str(folder))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder
