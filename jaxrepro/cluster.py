"""Several processes of one command become one run: who they are, and how long to wait for them.

join(Distributed.AUTO)                                              # a no-op on one machine
join(Distributed.ON, "host0:1234", num_processes=2, process_id=0)   # where no scheduler tells
"""

import os
import sys
import warnings
from enum import StrEnum

from jaxrepro.errors import UserError


class Distributed(StrEnum):
    """AUTO: join where a scheduler started several processes, or JAX finds a pod or a cluster. ON: join, or fail."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


SCHEDULERS = {"SLURM_NTASKS": "Slurm", "OMPI_COMM_WORLD_SIZE": "Open MPI"}  # variable with the number of processes
ELSEWHERE = "give --coordinator_address=HOST:PORT --num_processes=N --process_id=I, or --distributed=off to run alone"


def several(mode: Distributed, num_processes: int | None) -> bool:
    """Returns whether this is one of several processes, as far as flags and schedulers tell."""
    if mode == Distributed.OFF:
        return False
    return max([num_processes or 1, *(_count(name) for name in SCHEDULERS if name in os.environ)]) > 1


def say(message: str) -> None:
    """Prints a line on stderr. To ask which process this is would start the devices, after which nobody can join."""
    print(message, file=sys.stderr, flush=True)


def join(
    mode: Distributed,
    address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: int = 300,
) -> None:
    """Joins the other processes of this command, where there are any; call it before anything touches a device.

    Args:
      address, num_processes, process_id: HOST:PORT of process 0, how many, and which this is; all three or none.
      timeout: seconds to wait for the others.

    Raises:
      UserError: contradicting arguments, or the others were not found in time.
    """
    explicit = (address, num_processes, process_id)
    if any(v is not None for v in explicit):
        if any(v is None for v in explicit):
            raise UserError("--coordinator_address, --num_processes and --process_id must be given together")
        if mode == Distributed.OFF:
            raise UserError("--distributed=off contradicts --coordinator_address; leave one of them out")
        if process_id >= num_processes:
            raise UserError(
                f"--process_id is {process_id}; with --num_processes={num_processes} it is 0 to {num_processes - 1}"
            )
        say(f"process {process_id} of {num_processes} joins at {address}, waiting at most {timeout} s for the others")
        return _initialize(timeout, address, num_processes, process_id)
    counts = {name: _count(name) for name in SCHEDULERS if name in os.environ}
    if mode == Distributed.OFF or (mode == Distributed.AUTO and counts and max(counts.values()) == 1):
        return None
    if counts or mode == Distributed.ON:
        say(f"joining the other processes of this job, waiting at most {timeout} s for them")
        return _initialize(timeout)
    return _join_if_found(timeout)


def _initialize(timeout: int, *explicit) -> None:
    import jax

    try:
        jax.distributed.initialize(*explicit, initialization_timeout=timeout)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"cannot join the other processes: {error}; {ELSEWHERE}") from None


def _join_if_found(timeout: int) -> None:
    """Joins what JAX itself detects: TPU VMs, and Kubernetes jobs where jax[k8s] is installed."""
    import jax

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            jax.distributed.initialize(initialization_timeout=timeout)
        except ValueError as error:
            if "coordinator_address" not in str(error):
                raise UserError(f"cannot join the other processes: {error}; {ELSEWHERE}") from None
        except RuntimeError as error:
            if "before any JAX" in str(error):  # called from Python, by somebody who has computed already
                return
            raise UserError(f"cannot join the other processes: {error}; {ELSEWHERE}") from None
    if any("kubernetes" in str(w.message) for w in caught):
        say(
            "Kubernetes without jax[k8s]: this process runs alone."
            f" For several hosts pip install jax[k8s], or {ELSEWHERE}"
        )


def _count(name: str) -> int:
    text = os.environ[name]
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise UserError(f"${name} is {text!r}; {SCHEDULERS[name]} sets a number of processes there")
    return count
