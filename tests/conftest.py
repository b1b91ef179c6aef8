"""Every test sees the same empty folders: none depends on what is on the machine, and what they share is made once."""

import os

import pytest

# The longest first, so that parallel workers (`make test` uses two) end together.
LONGEST_FILES = (
    "test_resume.py",
    "test_devices.py",
    "test_launch.py",
    "test_dcgan.py",
    "test_sesn.py",
    "test_steerable_conv.py",
    "test_synbols_supervised.py",
    "test_few_shot.py",
    "test_representation.py",  # among the last by name: a worker would be alone with it
    "test_yoto.py",
    "test_lowering.py",
)

COMPILED = "JAX_COMPILATION_CACHE_DIR"
SHORTEST_COMPILATION = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)


@pytest.fixture(scope="session", autouse=True)
def shared_folders(tmp_path_factory):
    """Data ($JAXREPRO_DATA) and compiled programs of this session, shared by its workers and by what they start.

    A folder that the caller chose is used as it is.
    """
    import jax

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in {"JAXREPRO_DATA": "jaxrepro_data", COMPILED: "compiled"}.items():
            patch.setenv(name, os.environ.get(name, str(root / folder)))
        patch.setenv(SHORTEST_COMPILATION, os.environ.get(SHORTEST_COMPILATION, "0.05"))
        jax.config.update(COMPILED.lower(), os.environ[COMPILED])
        jax.config.update(SHORTEST_COMPILATION.lower(), float(os.environ[SHORTEST_COMPILATION]))
        yield


@pytest.fixture
def plain_convolutions(monkeypatch):
    """XLA's own convolutions, as accelerators have them: for tests of shapes, since ours are seconds of tracing."""
    from jaxrepro.layers import conv

    monkeypatch.setattr(conv, "_on_cpu", lambda: False)


@pytest.fixture
def empty_data_dir(tmp_path, monkeypatch):
    """An empty folder of caches and prepared copies, and no other copies on this machine."""
    folder = tmp_path / "jaxrepro-data"
    monkeypatch.setenv("JAXREPRO_DATA", str(folder))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder
