"""What a run says on the terminal, how fast it is, and how it is asked to stop."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np


class Progress:
    """A progress bar with rate and ETA on a terminal, plain lines elsewhere; silent with `active=False`."""

    def __init__(self, total: int, initial: int = 0, *, active: bool = True):
        self.total, self.active, self._bar = total, active, None
        if active and total and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=initial, unit="step", dynamic_ncols=True, smoothing=0.1)

    def advance(self, steps: int) -> None:
        if self._bar is not None:
            self._bar.update(steps)

    def log(self, step: int, message: str, rate: float | None) -> None:
        """Prints a line of metrics; rate and ETA too, where no bar shows them."""
        if self._bar is None and rate:
            message += f"  {rate:.3g} steps/s  ETA {format_seconds((self.total - step) / rate)}"
        self.say(f"step {step}/{self.total}  {message}")

    def say(self, message: str) -> None:
        """Prints a line, above the bar where there is one."""
        if not self.active:
            return
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def say(message: str) -> None:
    """Prints a line on stderr, on the first process only."""
    if jax.process_index() == 0:
        print(message, file=sys.stderr, flush=True)


def format_seconds(seconds: float) -> str:
    """Returns "1:02:03" or "4:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Clock:
    """Steps per second from `begin` (after the first chunk, which compiles) to the last `mark`, without evaluations."""

    def __init__(self):
        self.created = time.monotonic()
        self.begun: tuple[float, int] | None = None
        self.marked: tuple[float, int] | None = None
        self.evaluation_seconds = 0.0
        self._aside = 0.0

    def begin(self, step: int) -> None:
        """Notes that everything up to `step` is done and compiled."""
        self.begun = self.marked = (time.monotonic(), step)

    def mark(self, step: int) -> None:
        """Notes that everything up to `step` is done."""
        self.marked = (time.monotonic() - self._aside, step)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        spent = time.monotonic() - before
        self.evaluation_seconds += spent
        if self.begun is not None:
            self._aside += spent

    def rate(self) -> float | None:
        """Returns steps per second, or None before the second mark."""
        if self.begun is None or self.marked[1] == self.begun[1]:
            return None
        return (self.marked[1] - self.begun[1]) / (self.marked[0] - self.begun[0])

    def summary(self) -> dict[str, float]:
        """Returns seconds and rates for results.json."""
        first = 0.0 if self.begun is None else self.begun[0] - self.created
        times = {
            "training_and_evaluation_seconds": time.monotonic() - self.created,
            "first_chunk_seconds": first,
            "evaluation_seconds": self.evaluation_seconds,
        }
        return times | ({"steps_per_second": self.rate()} if self.rate() else {})


class Interrupt:
    """SIGTERM and SIGINT for a whole command: training notes them, saves and leaves; everything else ends at once.

        with Interrupt().listening() as interrupt:
            with interrupt.noting():
                ...                             # a signal only sets `requested`
            ...                                 # a signal raises KeyboardInterrupt

    A second SIGINT ends at once everywhere.
    """

    def __init__(self):
        self.requested = False
        self._noting = False

    @contextmanager
    def listening(self) -> Iterator["Interrupt"]:
        numbers = (signal.SIGTERM, signal.SIGINT)
        previous = {n: signal.signal(n, self._note) for n in numbers}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def noting(self) -> Iterator[None]:
        self._noting = True
        try:
            yield
        finally:
            self._noting = False

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Inside `noting`: work that may be left at any moment, such as an evaluator, and repeated.

        Several processes have to leave together, so they note even here.
        """
        before, self._noting = self._noting, jax.process_count() > 1
        if self.requested and not self._noting:
            self._noting = before
            raise KeyboardInterrupt
        try:
            yield
        finally:
            self._noting = before

    def _note(self, number, frame) -> None:
        again = self.requested and number == signal.SIGINT
        self.requested = True
        if again or not self._noting:
            raise KeyboardInterrupt

    def agreed(self) -> bool:
        """Returns whether any process was asked to stop; all processes call this together."""
        if jax.process_count() == 1:
            return self.requested
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(self.requested)).any())
