"""The folder FILE.partial: pieces of a file wait there until it is written, and the same command continues from it."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxrepro.errors import UserError
from jaxrepro.synbols import blocks
from jaxrepro.synbols.blocks import Block, Layout
from jaxrepro.synbols.storage import Header, difference

Range = tuple[int, int]


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it against other processes; the system frees it when its holder dies."""
    import fcntl

    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is writing {folder.with_suffix('')}") from error
        try:
            yield
        finally:
            for left in folder.glob("*.tmp"):  # of a worker that was stopped
                left.unlink()
    finally:
        os.close(handle)


def check_same(folder: Path, header: Header) -> None:
    """Notes whose pieces the folder holds; raises UserError if they are another dataset's."""
    path = folder / "header.json"
    if path.exists():
        if path.read_text() != header.to_json():
            found = Header(**json.loads(path.read_text()))
            raise UserError(f"{folder} is an unfinished run of something else: {difference(found, header)}; delete it")
        return
    temporary = folder / "header.json.tmp"
    temporary.write_text(header.to_json())
    temporary.rename(path)


def path_of(folder: Path, start: int, stop: int) -> Path:
    return folder / f"{start}-{stop}"


class MoreChannels(Exception):
    """A piece has more symbols than the first sample."""


@dataclass
class Pieces:
    """The pieces of a file, rendered by workers while the first ones are written already."""

    folder: Path
    ranges: Sequence[Range]
    there: set[Range]
    rendered: Iterator[tuple[Range, None]]
    progress: Callable[[int, int], None]

    def __post_init__(self):
        self._report()

    def in_order(self, layout: Layout) -> Iterator[Block]:
        """Yields the pieces as they get ready.

        Raises:
          MoreChannels: one has more masks than the layout.
        """
        for piece in self.ranges:
            while piece not in self.there:
                self._note(next(self.rendered))
            block = blocks.load(path_of(self.folder, *piece))
            if blocks.mask_shape(block)[2:] > layout.mask_shape[2:]:
                raise MoreChannels
            yield block

    def common_layout(self) -> Layout:
        """Returns the layout of a file that has room for the masks of every piece."""
        for found in self.rendered:
            self._note(found)
        loaded = (blocks.load(path_of(self.folder, *piece)) for piece in self.ranges)
        image, mask = zip(*((block.x.shape[1:], blocks.mask_shape(block)) for block in loaded))
        return blocks.layout_of(image[0], max(mask), self.ranges[-1][1] - self.ranges[0][0])

    def _note(self, found: tuple[Range, None]) -> None:
        self.there.add(found[0])
        self._report()

    def _report(self) -> None:
        self.progress(sum(b - a for a, b in self.there), self.ranges[-1][1] - self.ranges[0][0])
