"""What benchmarks share: programs that take turns on the clock, and the report of what was measured, where.

report = new_report(preset="paper", ms={})
times = time_in_turn({"ours": lambda: ours(x), "theirs": lambda: theirs(x)}, repetitions=5)     # name -> seconds
report["ms"] = {name: spread(1000 * s for s in found) for name, found in times.items()}
save(args.out, report)
"""

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxrepro import __version__

Program = Callable[[], Any]


def seconds(program: Program) -> float:
    """Returns how long a call takes until its arrays are there."""
    start = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - start


def time_in_turn(programs: Mapping[str, Program], repetitions: int, slow_s: float = math.inf) -> dict[str, list[float]]:
    """Returns seconds of every repetition; the first call, which compiles, does not count.

    Args:
      slow_s: what takes longer is not repeated.
    """
    for program in programs.values():
        seconds(program)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for i in range(repetitions):
        for name, program in programs.items():
            if i == 0 or times[name][0] < slow_s:
                times[name].append(seconds(program))
    return times


def spread(values: Iterable[float]) -> dict[str, float]:
    """Returns {"median", "low", "high"}."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def new_report(**found: Any) -> dict[str, Any]:
    """Returns {"command", "device", "versions"} of this process, and what is to be found."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "jaxrepro": __version__},
        **found,
    }


def save(path: Path | None, report: Mapping[str, Any]) -> None:
    """Writes a report as JSON, where a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
