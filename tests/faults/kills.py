"""Kills a run of 60 steps at random moments, starts it again until it ends, and compares the bits.

    python tests/faults/kills.py --kills=100 --out=benchmarks/results/kills.json     # about ten minutes on two cores

Every process runs the command, from its flags to its exit code, and is killed with SIGKILL at a moment that is uniform
over the time that one takes, wherever that is: data, compilation, training, evaluations, checkpoints,
the page. (Only the libraries are imported before, once for all.) A process that ends before its moment has finished the
run: its log, its last checkpoint and its records must be those of the uninterrupted run, and the next process begins
another one. All runs share the caches of data and compiled programs, so a kill while one is written counts too.
"""

import argparse
import json
import math
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import launching  # noqa: E402

import jaxrepro.experiments.yoto  # noqa: E402
import jaxrepro.run  # noqa: E402
import launch  # noqa: E402

CHANGES = {"checkpoint.every": "7 steps", "eval.every": "20 steps", "log.every": "5 steps"}


def start(workdir: Path, log: Path) -> int:
    """Forks a process that runs the command, with its libraries imported already, and returns its number."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.chdir(launching.ROOT)
    sys.argv = launching.command(workdir, CHANGES)[1:]
    code = 1
    try:
        code = launch.main(sys.argv)
    finally:
        os._exit(code)


def wait(child: int, seconds: float = math.inf) -> int | None:
    """Returns the exit code of a process, or None if it still runs after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def difference(workdir: Path, whole: Path) -> str:
    """Returns what of a finished run is not as in the uninterrupted one, "" if nothing."""
    if (workdir / "metrics.jsonl").read_bytes() != (whole / "metrics.jsonl").read_bytes():
        return "metrics.jsonl"
    one, other = launching.final_params(workdir), launching.final_params(whole)
    if one.keys() != other.keys():
        return "the leaves of the last checkpoint"
    if wrong := [name for name in one if not np.array_equal(one[name], other[name])]:
        return f"{wrong[0]} of the last checkpoint"
    records = [(launching.results(w)["records"], launching.results(w)["metrics"]) for w in (workdir, whole)]
    return "" if records[0] == records[1] else "records or metrics of results.json"


def compare(workdir: Path, whole: Path) -> str:
    """Returns `difference`, found in a process of its own: this one must start no threads, because it forks."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(write, "w") as pipe:
            pipe.write(difference(workdir, whole))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = pipe.read()
    return found if wait(child) == 0 else "could not be compared"


def last_step(workdir: Path) -> int:
    """Returns the newest checkpoint, -1 where the folder has no config yet."""
    if not (workdir / "config.json").exists():
        return -1
    folder = workdir / "checkpoints"
    return max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0) if folder.is_dir() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file of what was found")
    options = parser.parse_args()
    moments, begun = random.Random(options.seed), time.monotonic()
    folder = Path(tempfile.mkdtemp())
    os.environ["JAXREPRO_DATA"] = str(folder / "data")
    whole, log = folder / "whole", folder / "log"
    for workdir in (folder / "first", whole):  # the first one fills the caches
        before = time.monotonic()
        if wait(start(workdir, log)) != 0:
            sys.exit(log.read_text())
        seconds = time.monotonic() - before
    print(f"an uninterrupted run takes {seconds:.1f} s", flush=True)
    killed, ended, wrong, at = 0, 0, [], []
    workdir = folder / "run-0"
    while killed < options.kills:
        child, before = start(workdir, log), time.monotonic()
        code = wait(child, moments.uniform(0, seconds))
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            at.append(last_step(workdir))
            if killed % 10 == 0:
                print(f"{killed} kills, {ended} runs ended", flush=True)
            continue
        if code != 0:
            wrong.append(f"exit code {code} after {killed} kills: {log.read_text()[-500:]}")
        elif found := compare(workdir, whole):
            wrong.append(f"{found} after {killed} kills")
        seconds += (time.monotonic() - before - seconds) / 2  # the machine may have got quicker since
        ended += 1
        shutil.rmtree(workdir)
        workdir = folder / f"run-{ended}"
    if (code := wait(start(workdir, log))) != 0:
        wrong.append(f"exit code {code} at the end: {log.read_text()[-500:]}")
    elif found := compare(workdir, whole):
        wrong.append(f"{found} at the end")
    result = {
        "command": f"python tests/faults/kills.py --kills={options.kills} --seed={options.seed}",
        "kills": killed,
        "runs that ended, bit-equal": ended + 1 - len(wrong),
        "runs that differ or failed": wrong,
        "kills before the run had a config": sum(s < 0 for s in at),
        "kills before the first checkpoint": sum(s == 0 for s in at),
        "kills by newest checkpoint": {str(s): at.count(s) for s in sorted(set(at)) if s > 0},
        "seconds of an uninterrupted run": round(seconds, 1),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "environment": {
            "cores": os.cpu_count(), "jax": jax.__version__, "jaxrepro": jaxrepro.__version__,
            "python": platform.python_version(), "platform": "cpu",
        },
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
