"""Room for batches that other processes take: memory that both have, used again and again.

    blocks = Blocks.new(count=20, size=40 << 20)    # where batches are taken, before the workers start that get it
    room = SharedRoom(blocks, range(10), kept=4)    # in a worker, which alone fills these ten
    pixels = room.array((256, 224, 224, 3))
    sent = blocks.send(pixels.ctypes.data, pixels.nbytes)   # a few numbers
    received(sent)                                  # where batches are taken: these bytes, where they are

Whoever is sent a copy in shared memory of its own waits for pages to be zeroed, and for the copy: that took a fifth of
all time.
"""

import math
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.reduction import DupFd
from typing import Any, Final, NamedTuple

import numpy as np

from tarloom.errors import UsageError
from tarloom.read.feed.batches.room import Bytes, Room, lent

_SENT: Final = 8
"""Times that a block may be out at once: of views of one array, each is sent."""
_TAKEN: Final = 8
"""Batches of a worker that have blocks beside those that wait to be taken: three are made, one was made last, and
whoever takes them has some."""


class Sent(NamedTuple):
    """Where bytes are that were sent."""

    blocks: int
    """Their number."""
    flag: int
    """To be cleared when nobody there has them any more."""
    first: int
    size: int


class Blocks:
    """Equal blocks of memory of no file system; it is gone with the processes that have it.

    A block has no pages until it is filled for the first time. One that was sent has a flag set: a byte that the worker
    sets and the process that takes batches clears, so that nobody needs a lock.
    """

    def __init__(self, file: int, *, number: int, count: int, size: int) -> None:
        weakref.finalize(self, os.close, file)
        self.count, self.size = count, _whole_pages(size)
        self._file, self._number, self._process = file, number, os.getpid()
        self._begin = _whole_pages(count * _SENT)
        """Flags lie before it."""
        length = self._begin + self.count * self.size
        os.ftruncate(file, length)
        self._map = mmap.mmap(file, length)
        self._bytes: Bytes = np.frombuffer(self._map, np.uint8)

    @classmethod
    def new(cls, *, count: int, size: int) -> "Blocks":
        """What is sent of them is received here. Raises OSError where the system does not give so much room."""
        blocks = cls(os.memfd_create("tarloom-batches"), number=int.from_bytes(os.urandom(8)), count=count, size=size)
        _ours[blocks._number] = blocks
        return blocks

    def block(self, number: int) -> Bytes:
        """Its memory."""
        first = self._begin + number * self.size
        return self._bytes[first : first + self.size]

    def is_back(self, number: int) -> bool:
        """Whether nobody has what was sent of the block."""
        return not any(self._map[number * _SENT : (number + 1) * _SENT])

    def send(self, address: int, size: int) -> Sent | None:
        """What to send instead of bytes that lie here; None where they lie elsewhere, or were sent too often."""
        first = address - self._bytes.ctypes.data
        if not self._begin <= first < len(self._bytes):
            return None
        block = (first - self._begin) // self.size
        flag = self._map.find(b"\0", block * _SENT, (block + 1) * _SENT)
        if flag < 0:
            return None
        self._map[flag] = 1
        return Sent(blocks=self._number, flag=flag, first=first, size=size)

    def lend(self, sent: Sent) -> Bytes:
        """The bytes that were sent; they are given back when nobody has a view of them any more."""
        return lent(self._bytes[sent.first : sent.first + sent.size], (sent.size,), partial(self._give_back, sent.flag))

    def _give_back(self, flag: int, process: Callable[[], int] = os.getpid) -> None:
        if process() == self._process:  # else it was forked from the one that still has them
            self._map[flag] = 0

    def __reduce__(self) -> Any:
        return _opened, (DupFd(self._file), self._number, self.count, self.size)


_ours: weakref.WeakValueDictionary[int, Blocks] = weakref.WeakValueDictionary()
"""Those that this process made, by their numbers, which are by chance: no other process has one of them."""


def received(sent: Sent) -> Bytes:
    """The bytes, in the process that made the blocks. Raises UsageError in others."""
    blocks = _ours.get(sent.blocks)
    if blocks is None:
        raise UsageError("pictures of a loader's worker can be sent to its loader alone; send others a clone of them")
    return blocks.lend(sent)


def blocks_for(arrays: Sequence[int], *, workers: int, waiting: int) -> Blocks | None:
    """For so many workers that send batches with arrays of so many bytes, some of which wait to be taken; None where
    there is nothing for them, or the system has no such memory."""
    if not workers or not any(arrays) or not hasattr(os, "memfd_create"):  # which is Linux's
        return None
    try:
        return Blocks.new(count=workers * len(arrays) * (_TAKEN + waiting), size=max(arrays))
    except OSError:  # a limit on files, or on addresses: batches are copied then
        return None


class SharedRoom(Room):
    """Hands out arrays in those of the blocks that are this worker's. One is free when its array and all views of it
    are gone, here and where it was sent. What they have no room for is in memory of this process alone."""

    def __init__(self, blocks: Blocks, numbers: range, *, kept: int) -> None:
        super().__init__(kept)
        self._blocks, self._numbers = blocks, numbers
        self._here = bytearray(blocks.count)
        """Which have an array here."""
        self._taking = threading.Lock()

    def array(self, shape: tuple[int, ...]) -> Bytes:
        """Of this shape, with whatever was in it."""
        size = math.prod(shape)
        block = self._free_block() if 0 < size <= self._blocks.size else None
        if block is None:
            return super().array(shape)
        return lent(self._blocks.block(block)[:size], shape, partial(self._here.__setitem__, block, 0))

    def _free_block(self) -> int | None:
        """The first of them, so that few ever get pages."""
        with self._taking:
            for block in self._numbers:
                if not self._here[block] and self._blocks.is_back(block):
                    self._here[block] = 1
                    return block
        return None


def _opened(handle: Any, number: int, count: int, size: int) -> Blocks:
    return Blocks(handle.detach(), number=number, count=count, size=size)


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
