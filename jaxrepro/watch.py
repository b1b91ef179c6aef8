"""A parent that watches the process of a run of several, because JAX ends that one by itself when it loses another.

    code = watch()        # None in the child, which goes on; the exit code in the parent

JAX's coordination service aborts in C++, behind Python's back, with a stack of seventy lines. The parent passes on what
the child prints, keeps that stack back, and says in one line what happened.
"""

import os
import re
import signal
import sys

INTERRUPTED = 75
LOST = "the same command on every host continues from the last checkpoint"
_DYING = re.compile(r"[EF]\d{4} \d\d:.*(coordination|distributed service)")  # as C++ logs
_TASK = re.compile(r"(?:.*/task:)?(\d+)$")


def watch() -> int | None:
    """Forks, unless JAX is imported already: its threads do not survive that, and the run goes on unwatched."""
    if "jax" in sys.modules:
        return None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(write, 2)
        os.close(write)
        die_with_parent()
        return None
    os.close(write)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child, too
    kept: list[str] = []
    with os.fdopen(read, errors="replace") as stream:
        for line in stream:
            if kept or _DYING.match(line):
                kept.append(line)
            else:
                print(line, end="", file=sys.stderr, flush=True)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != -signal.SIGABRT or not kept:
        print("".join(kept), end="", file=sys.stderr)
        return code if code >= 0 else 128 - code
    tasks = sorted({found[1] for line in kept if (found := _TASK.match(line.strip()))})
    which = f"process {', '.join(tasks)}" if tasks else "another process"
    print(f"lost {which} of this run; {LOST}", file=sys.stderr)
    return INTERRUPTED


def die_with_parent() -> None:
    """Lets the system kill this process when its parent is killed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
