"""Experiments are run whole, interrupted and resumed, which is the same program each time."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Keeps the compiled programs of a module."""
    settings = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled"))}
    settings |= {"jax_persistent_cache_min_compile_time_secs": 0.2}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
