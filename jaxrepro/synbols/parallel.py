"""Work on ranges of samples in several processes."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxrepro.errors import UserError

Range = tuple[int, int]


def run(
    make_task: Callable[[], Callable[[int, int], Any]], ranges: Sequence[Range], workers: int
) -> Iterator[tuple[Range, Any]]:
    """Yields (range, task(*range)) for every range, in any order.

    A worker takes the next range when it is free, and waits until its result is fetched, so memory stays bounded.
    Workers end with their parent, however it ends.

    Args:
      make_task: called once in every process; gives the task. It must be picklable where processes cannot be forked:
        outside Linux, and when threads or JAX are at work.
      ranges: (start, stop) of each piece.
      workers: processes; 1 works in this one.

    Raises:
      UserError: of a task. RuntimeError: a worker died or its task failed.
    """
    workers = min(workers, len(ranges))
    if workers <= 1:
        task = make_task()
        for piece in ranges:
            yield piece, task(*piece)
        return
    context = multiprocessing.get_context("fork" if can_fork() else "spawn")
    waiting, processes, taken = [], [], context.Value("q", 0)
    try:
        for _ in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            # Not a daemon: those may not have children, and a sampler may want some.
            process = context.Process(target=_work, args=(make_task, ranges, taken, sender))
            _start(process)
            sender.close()
            waiting.append(receiver)
            processes.append(process)
        while waiting:
            for receiver in multiprocessing.connection.wait(waiting):
                try:
                    piece, result, error = receiver.recv()
                except EOFError:
                    raise RuntimeError("a worker was killed; if memory ran out, use fewer workers") from None
                if error is not None:
                    raise error
                if piece is None:
                    waiting.remove(receiver)
                else:
                    yield piece, result
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def can_fork() -> bool:
    """Returns whether workers start as copies of this process: at once, and with everything it has."""
    return sys.platform == "linux" and threading.active_count() == 1 and "jax" not in sys.modules


def _start(process: Any) -> None:
    try:
        process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"this dataset cannot be sent to other processes ({error}); define its sampler at the top of a module, "
            "or use one worker"
        ) from error


def _work(make_task: Callable, ranges: Sequence[Range], taken: Any, sender: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        try:
            task = make_task()
            while (piece := _next(ranges, taken)) is not None:
                sender.send((piece, task(*piece), None))
            sender.send((None, None, None))
        except UserError as error:
            sender.send((None, None, error))
        except BrokenPipeError:
            raise
        except Exception:
            sender.send((None, None, RuntimeError(f"a worker failed:\n{traceback.format_exc()}")))


def _next(ranges: Sequence[Range], taken: Any) -> Range | None:
    """Returns a range that no worker has taken, and takes it; None after the last."""
    with taken.get_lock():
        i, taken.value = taken.value, taken.value + 1
    return ranges[i] if i < len(ranges) else None


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
