"""Every test sees the same empty cache folder, so that none depends on what is on the machine and data is made once."""

import os

import pytest

LONGEST_FILES = ("test_devices.py", "test_launch.py", "test_resume.py", "test_yoto.py", "test_dcgan.py", "test_sesn.py")


def pytest_collection_modifyitems(items):
    """Puts the longest files first, so that parallel workers (`make test` uses two) end together."""
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory):
    """Points $JAXREPRO_DATA to a folder of this session, shared by its workers, unless the caller chose one."""
    chosen = os.environ.get("JAXREPRO_DATA")
    root = tmp_path_factory.getbasetemp()
    folder = chosen or str((root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "jaxrepro_data")
    os.environ["JAXREPRO_DATA"] = folder
    yield folder
    if chosen is None:
        del os.environ["JAXREPRO_DATA"]


@pytest.fixture
def empty_data_dir(tmp_path, monkeypatch):
    """An empty folder of caches and prepared copies, and no other copies on this machine."""
    folder = tmp_path / "jaxrepro-data"
    monkeypatch.setenv("JAXREPRO_DATA", str(folder))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder
