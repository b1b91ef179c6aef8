"""The timetable of active learning: rounds of training that grow with the labels, and their batches.

    rounds = Rounds(initial=2000, queries=100, epochs=10, batch_size=32)
    rounds.end_of(0), rounds.end_of(1)                  # 630 and 1290 steps done
    rounds.block(seed=0, start=600, length=60)          # positions int32 [60, 32] among the labelled images

Round r trains on initial + r * queries images for whole epochs; the last batch of an epoch is smaller, its places
without an image hold -1.
"""

import bisect
import functools
import itertools
from dataclasses import dataclass

import numpy as np

from jaxrepro.rng import Purpose, generator


@dataclass(frozen=True)
class Rounds:
    """initial: labels of round 0. queries: labels more in every further round. epochs: of a round. batch_size: B."""

    initial: int
    queries: int
    epochs: int
    batch_size: int

    def num_labels(self, round_: int) -> int:
        return self.initial + round_ * self.queries

    def steps_per_epoch(self, round_: int) -> int:
        return -(-self.num_labels(round_) // self.batch_size)

    def end_of(self, round_: int) -> int:
        """Returns the steps done when a round ends, 0 for round -1."""
        return self.ends(round_ + 1)[-1] if round_ >= 0 else 0

    def ends(self, num_rounds: int) -> tuple[int, ...]:
        """Returns the steps at which the first rounds end."""
        return tuple(itertools.accumulate(self.epochs * self.steps_per_epoch(r) for r in range(num_rounds)))

    def round_at(self, step: int) -> int:
        """Returns the round that step number `step`, counted from 0, belongs to."""
        return bisect.bisect_right(self._ends_beyond(step), step)

    def _ends_beyond(self, step: int) -> tuple[int, ...]:
        num_rounds = 16
        while (ends := _ends(self, num_rounds))[-1] <= step:
            num_rounds *= 2
        return ends

    def block(self, seed: int, start: int, length: int) -> np.ndarray:
        """Returns int32 [length, B]: which labelled images, by position in the order of labelling, or -1."""
        found = np.full((length, self.batch_size), -1, np.int32)
        for i, step in enumerate(range(start, start + length)):
            round_ = self.round_at(step)
            epoch, batch = divmod(step - self.end_of(round_ - 1), self.steps_per_epoch(round_))
            order = _permutation(int(seed), round_ * self.epochs + epoch, self.num_labels(round_))
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            found[i, : len(rows)] = rows
        return found


@functools.lru_cache(maxsize=32)
def _ends(rounds: Rounds, num_rounds: int) -> tuple[int, ...]:
    return rounds.ends(num_rounds)


@functools.lru_cache(maxsize=32)  # a few seeds, each at the end of one epoch and the start of the next
def _permutation(seed: int, epoch: int, num_labels: int) -> np.ndarray:
    return generator(seed, Purpose.DATA, epoch).permutation(num_labels).astype(np.int32)
