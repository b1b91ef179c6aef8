"""The parent of a run of several processes passes on what is printed, and says in one line that another was lost."""

import os
import subprocess
import sys

import launching
import pytest

from jaxrepro.cluster import Distributed, several
from jaxrepro.watch import watch

DEATH = """E1126 03:12:35.223305   14385 coordination_service.cc:1549] Use error polling: UNAVAILABLE: unhealthy tasks:
1
F1126 03:12:35.224805   14396 client.h:80] Terminating process because the JAX distributed service detected errors.
*** Check failure stack trace: ***
    @     0x7f60c8cf0321  tsl::RPCState<>::OnCompleted()
"""


def run(end: str) -> subprocess.CompletedProcess:
    code = (
        "import os, signal, sys, time\nfrom jaxrepro.watch import watch\ncode = watch()\n"
        "if code is not None: sys.exit(code)\n"
        f"print('step 1', file=sys.stderr, flush=True)\n{end}"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=launching.ROOT, capture_output=True, text=True)


def test_an_abort_of_the_coordination_service_is_one_line():
    done = run(f"os.write(2, {DEATH.encode()!r}); os.abort()")
    assert done.returncode == 75
    assert done.stderr == (
        "step 1\nlost process 1 of this run; the same command on every host continues from the last checkpoint\n"
    )


@pytest.mark.parametrize(("end", "code"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), signal.SIGKILL)", 137)])
def test_every_other_end_keeps_its_code_and_its_lines(end, code):
    done = run(f"os.write(2, {DEATH.encode()!r}); {end}")
    assert done.returncode == code
    assert done.stderr == f"step 1\n{DEATH}"


def test_a_signal_reaches_the_child():
    end = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(30)"
    )
    assert run(end).returncode == 75


def test_one_process_is_not_watched(monkeypatch):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert not several(Distributed.AUTO, None)
    assert several(Distributed.AUTO, 2)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert several(Distributed.AUTO, None)
    assert not several(Distributed.OFF, None)


def test_a_process_that_has_jax_goes_on_unwatched(monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    assert "jax" in sys.modules
    assert watch() is None
