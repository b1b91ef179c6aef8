"""Every test sees the same empty cache folder, so that none depends on what is on the machine and data is made once."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory):
    """Points $JAXREPRO_DATA to a folder of this session, unless the caller chose one."""
    chosen = os.environ.get("JAXREPRO_DATA")
    folder = chosen or str(tmp_path_factory.mktemp("jaxrepro_data"))
    os.environ["JAXREPRO_DATA"] = folder
    yield folder
    if chosen is None:
        del os.environ["JAXREPRO_DATA"]
