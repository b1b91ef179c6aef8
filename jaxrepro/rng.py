"""Randomness: every key is a function of (seed, purpose, index), nothing random is ever stored.

    key(seed=0, purpose=Purpose.TRAIN, index=step)     # the key of one training step
    key(seed=0, purpose="eval/frontier", index=step)   # evaluators and transitions use their own names
    generator(0, Purpose.DATA, epoch)                  # the same for host-side NumPy

A resumed run therefore draws what the uninterrupted run would have drawn, and a new evaluator changes no weight.
"""

import hashlib
from enum import StrEnum

import jax
import numpy as np


class Purpose(StrEnum):
    """What a key is for. Evaluators and transitions use `eval/<name>` and `transition/<name>` instead."""

    INIT = "init"
    TRAIN = "train"
    DATA = "data"


def purpose_id(purpose: str) -> int:
    """Returns a stable 32-bit number for a purpose (Python's own `hash` changes from process to process)."""
    return int.from_bytes(hashlib.sha256(str(purpose).encode()).digest()[:4], "little")


def key(seed: int | jax.Array, purpose: str, index: int | jax.Array = 0) -> jax.Array:
    """Returns the typed PRNG key of (seed, purpose, index).

    Args:
      seed: int or int32/uint32 scalar array; may be traced, so that seeds can be a vmapped axis.
      purpose: a `Purpose`, or any other stable name.
      index: step, epoch or example number in [0, 2**32); may be traced.
    """
    root = jax.random.key(seed)
    return jax.random.fold_in(jax.random.fold_in(root, purpose_id(purpose)), index)


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Returns a counter-based NumPy generator for (seed, purpose, index), for work done on the host."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, purpose_id(purpose), index])))
