"""Which processes join which run: schedulers by their variables, explicit addresses, and what users get wrong."""

import os
import subprocess
import sys

import jax
import launching
import pytest

from jaxrepro.cluster import Distributed, join
from jaxrepro.errors import UserError

VARIABLES = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "KUBERNETES_SERVICE_HOST")


@pytest.fixture
def calls(monkeypatch):
    """Records calls of jax.distributed.initialize; nothing is detected unless a test says so."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    made = []

    def initialize(*arguments, **options):
        made.append((arguments, options["initialization_timeout"]))

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return made


def test_an_explicit_address_is_joined_at_once_with_the_given_limit(calls, capsys):
    join(Distributed.AUTO, "host:1234", 2, 0, timeout=7)
    assert calls == [(("host:1234", 2, 0), 7)]
    assert "process 0 of 2 joins at host:1234, waiting at most 7 s" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"])
def test_a_scheduler_with_several_processes_is_joined_and_one_with_a_single_process_is_not(calls, monkeypatch, name):
    monkeypatch.setenv(name, "1")  # JAX would give it one device of several
    join(Distributed.AUTO)
    assert calls == []
    monkeypatch.setenv(name, "4")
    join(Distributed.AUTO)
    assert len(calls) == 1
    join(Distributed.OFF)
    assert len(calls) == 1


@pytest.mark.parametrize(("variables", "said"), [({}, ""), ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "jax[k8s]")])
def test_elsewhere_jax_looks_for_a_cluster_and_where_it_finds_none_the_process_runs_alone(variables, said):
    code = (
        "from jaxrepro.cluster import Distributed, join; join(Distributed.AUTO); import jax; print(jax.process_count())"
    )
    env = {k: v for k, v in os.environ.items() if k not in VARIABLES} | {"JAX_PLATFORMS": "cpu"} | variables
    done = subprocess.run([sys.executable, "-c", code], cwd=launching.ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
    assert said in done.stderr


def test_a_failed_detection_is_one_line_with_the_ways_out(monkeypatch):
    def initialize(**options):
        raise RuntimeError("Kubernetes API Error: 403 - Forbidden")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match="403 - Forbidden; give --coordinator_address"):
        join(Distributed.AUTO)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Distributed.AUTO, "host:1", None, None), "must be given together"),
        ((Distributed.OFF, "host:1", 2, 0), "contradicts"),
        ((Distributed.AUTO, "host:1", 2, 2), "it is 0 to 1"),
    ],
)
def test_contradicting_arguments_are_refused(calls, arguments, message):
    with pytest.raises(UserError, match=message):
        join(*arguments)
    assert calls == []


def test_a_variable_that_is_no_number_is_named(calls, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "abc")
    with pytest.raises(UserError, match=r"\$SLURM_NTASKS is 'abc'"):
        join(Distributed.AUTO)
