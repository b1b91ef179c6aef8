"""Training batches as pure functions of seed and step, from memory or from disk, and batches for evaluation.

    source, draw = make_source(table, 128, columns=("image", "label"), resident_limit_mb=4096)
    rows, mask = padded_batches(num_rows=1000, batch_size=128)

Rows come as one endless stream of shuffled epochs: example number p = step × batch size + position belongs to
epoch p // N, whose order is a permutation drawn from (seed, epoch) alone. Batches may straddle two epochs,
and nothing has to be saved to resume. A table that is too large for the device streams the same batches
through Grain.
"""

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxrepro.data.dataset import Table
from jaxrepro.errors import UserError, unknown
from jaxrepro.experiment import Source, streamed_rows, take_rows
from jaxrepro.rng import Purpose, generator

_PREFETCH_BYTES = 256 * 2**20
_MAX_STREAMS = 16
_ENDLESS = 2**62

Order = Callable[[int, int, int], np.ndarray]


def make_source(
    table: Table,
    batch_size: int,
    *,
    columns: Sequence[str],
    resident_limit_mb: float,
    shuffle: bool = True,
    whole_epochs: bool = False,
) -> tuple[Source, Callable]:
    """Returns the source of an experiment, and its `draw`.

    Args:
      table: training rows.
      batch_size: B, over all devices.
      columns: names to train on; others are not kept.
      resident_limit_mb: MiB up to which these columns stay on the device; a larger table is streamed. 0
        streams any.
      shuffle: False gives the table's own order in every epoch.
      whole_epochs: no batch straddles two epochs, see `epochs_of_whole_batches`; the source counts the filled-up rows.

    Returns:
      (source, take_rows) when resident: `source.block(seed, start, length)` is row numbers int32 [length, B].
      (source, streamed_rows) when streamed: it is {column: [length, B, ...]}, the very same batches.

    Raises:
      UserError: a column is not in the table, or batch_size is below 1.
    """
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1")
    for name in columns:
        if name not in table.columns:
            raise unknown(f"column of {table.name}", name, table.columns)
    order = row_order(table.num_rows, batch_size, shuffle=shuffle)
    num_rows = table.num_rows
    if whole_epochs:
        order = epochs_of_whole_batches(num_rows, batch_size, epoch_order(num_rows, shuffle=shuffle))
        num_rows = -(-num_rows // batch_size) * batch_size
    num_bytes = table.num_rows * sum(table.columns[name].nbytes for name in columns)
    if num_bytes <= resident_limit_mb * 2**20:
        arrays = table.arrays()
        arrays = {name: arrays[name] for name in columns}
        return Source(arrays, order, batch_size, num_rows), take_rows
    return Source({}, _stream(table, columns, batch_size, order), batch_size, num_rows), streamed_rows


def padded_batches(num_rows: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns batches that hold every row once, for evaluation.

    Returns:
      (rows, mask): int32 and float32 [K, B]; the last batch is filled up with row 0 under mask 0, so that
      sums weighted by the mask count each example exactly once.
    """
    num_batches = -(-num_rows // batch_size)
    rows = np.zeros(num_batches * batch_size, np.int32)
    rows[:num_rows] = np.arange(num_rows)
    mask = (np.arange(rows.size) < num_rows).astype(np.float32)
    return rows.reshape(num_batches, batch_size), mask.reshape(num_batches, batch_size)


def epoch_order(num_rows: int, *, shuffle: bool) -> Callable[[int, int], np.ndarray]:
    """Returns `(seed, epoch) -> int32 [N]`, the order of the rows in an epoch."""

    @functools.lru_cache(maxsize=32)  # a few seeds, each at the end of one epoch and the start of the next
    def permutation(seed: int, epoch: int) -> np.ndarray:
        if not shuffle:
            return np.arange(num_rows, dtype=np.int32)
        return generator(seed, Purpose.DATA, epoch).permutation(num_rows).astype(np.int32)

    return permutation


def row_order(num_rows: int, batch_size: int, *, shuffle: bool) -> Order:
    """Returns `(seed, start, length) -> int32 [length, B]`, the rows of steps start … start+length-1."""
    permutation = epoch_order(num_rows, shuffle=shuffle)

    def block(seed: int, start: int, length: int) -> np.ndarray:
        position, end = start * batch_size, (start + length) * batch_size
        pieces = []
        while position < end:
            epoch, offset = divmod(position, num_rows)
            piece = permutation(int(seed), epoch)[offset : offset + end - position]
            pieces.append(piece)
            position += len(piece)
        rows = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
        return rows.reshape(length, batch_size)

    return block


def epochs_of_whole_batches(num_rows: int, batch_size: int, order: Callable[[int, int], np.ndarray]) -> Order:
    """Returns `(seed, start, length) -> int32 [length, B]`: epochs of ceil(N / B) batches that never straddle two.

    The last batch of an epoch holds the rows that are left, repeated in turn until it is full. Where their number
    divides B (16 of 128) the loss, its gradient and the statistics of normalisation are those of the small batch; only
    dropout and augmentation differ between the copies.

    Args:
      order: `(seed, epoch) -> permutation [N]`.
    """
    per_epoch = -(-num_rows // batch_size)

    def block(seed: int, start: int, length: int) -> np.ndarray:
        rows = np.empty((length, batch_size), np.int32)
        for i, step in enumerate(range(start, start + length)):
            epoch, batch = divmod(step, per_epoch)
            chosen = order(int(seed), epoch)[batch * batch_size : (batch + 1) * batch_size]
            rows[i] = np.resize(chosen, batch_size)
        return rows

    return block


def whole_epoch_weights(num_rows: int, batch_size: int) -> Callable | None:
    """Returns `step -> float32 [B]`, row weights of mean 1 under which the last batch of a whole epoch counts its
    images equally, or None where it does so anyway.

    In a last batch of 96 images in 512 places 32 images stand there six times and the others five times.
    """
    per_epoch = -(-num_rows // batch_size)
    left = num_rows - (per_epoch - 1) * batch_size
    if batch_size % left == 0:
        return None
    rows = np.arange(batch_size) % left
    last = (batch_size / left / np.bincount(rows)[rows]).astype(np.float32)

    def weights(step):
        import jax.numpy as jnp

        return jnp.where((step + 1) % per_epoch == 0, last, jnp.float32(1))

    return weights


def _stream(table: Table, columns: Sequence[str], batch_size: int, order: Order) -> Callable:
    """Returns `block` for a table on disk: batches are read ahead by threads, one stream per seed.

    The result depends on the arguments only. A stream is but read-ahead: when `start` is not where it stands,
    it is opened again there.
    """
    batch_bytes = batch_size * sum(c.nbytes for c in table.columns.values())
    streams: OrderedDict[int, tuple[int, Iterator]] = OrderedDict()
    lock = threading.Lock()

    def read(seed: int, step: int) -> dict[str, np.ndarray]:
        rows = table.take(order(seed, step, 1)[0])
        return {name: rows[name] for name in columns}

    def block(seed: int, start: int, length: int) -> dict[str, np.ndarray]:
        seed = int(seed)
        with lock:
            position, iterator = streams.pop(seed, (None, None))
            if position != start:
                _close(iterator)
                iterator = read_ahead(functools.partial(read, seed), start, batch_bytes)
            batches = [next(iterator) for _ in range(length)]
            streams[seed] = (start + length, iterator)
            if len(streams) > _MAX_STREAMS:
                _close(streams.popitem(last=False)[1][1])
        return {name: np.stack([b[name] for b in batches]) for name in columns}

    return block


def read_ahead(read: Callable[[int], dict], start: int, batch_bytes: int) -> Iterator:
    """Returns an iterator over read(start), read(start + 1), …, which Grain's threads read ahead.

    Grain's elements are whole batches: if they were examples, its cost per element would dominate.
    """
    import grain

    threads = min(8, 2 * (os.cpu_count() or 1))
    options = grain.ReadOptions(
        num_threads=threads,
        prefetch_buffer_size=max(threads, min(16, _PREFETCH_BYTES // max(1, batch_bytes))),
    )
    return iter(grain.MapDataset.range(start, _ENDLESS).map(read).to_iter_dataset(options))


def _close(iterator: Iterator | None) -> None:
    if hasattr(iterator, "close"):
        iterator.close()
