"""What the machine holds and what it refuses: memory, disks, permissions, other processes.

Sizes are checked before anything is allocated, because a full memory kills without a word.
"""

import errno
import os
import re
from pathlib import Path

from jaxrepro.errors import UserError

# The machine or the folder does not allow it; anything else is a bug of ours.
MACHINE_ERRORS = {
    getattr(errno, name)
    for name in (
        "EACCES",
        "EPERM",
        "EROFS",
        "ENOSPC",
        "EDQUOT",
        "EFBIG",
        "ENAMETOOLONG",
        "ENOTDIR",
        "EISDIR",
        "EEXIST",
        "ELOOP",
    )
}


def machine_memory() -> int:
    """Returns the bytes of memory that this process may use: the machine's, or its container's."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return memory


def check_memory(what: str, num_bytes: int, fix: str) -> None:
    """Raises UserError where something would take more than half of the memory: sooner or later it is copied."""
    if num_bytes > machine_memory() // 2:
        raise UserError(
            f"{what} would take {num_bytes / 1e9:,.1f} GB of memory, of which this machine has "
            f"{machine_memory() / 1e9:,.1f}; {fix}"
        )


def lost_peer(error: Exception) -> str:
    """Returns how another process of a run was lost, where an error says so; else ""."""
    found = re.search(r"(Connection (closed by|reset by|refused)[^\n]*|[^\n]*(heartbeat|peer task)[^\n]*)", str(error))
    return found[1][:200] if found and re.search(r"(?i)gloo|nccl|coordination|distributed", str(error)) else ""


def machine_fault(error: BaseException | None) -> str:
    """Returns in one line what the machine refused, where an error or one that it came from says so; else "".

    Libraries wrap such errors, and those written in C++ give their text only.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            return f"{error.filename or 'cannot write'}: {error.strerror}"
        text = str(error)
        for number in MACHINE_ERRORS:
            if re.search(rf"\b{errno.errorcode[number]}\b", text) or os.strerror(number) in text:
                path = re.search(r"(/[^\s\"']*[^\s\"':,.\]])", text)
                return f"{path[1] if path else 'cannot write'}: {os.strerror(number)}"
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
            needed = re.search(r"[\d.]+ ?[KMGTP]i?B|[\d,]+ bytes", text)
            size = f" ({needed[0]} at once)" if needed else ""
            return f"out of memory{size}; choose a smaller config.train.batch_size, config.eval.batch_size or model"
        error = error.__cause__ or error.__context__
    return ""
