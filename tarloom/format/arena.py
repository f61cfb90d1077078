"""Memory for a great many buffers that come and go together, used again when all of them are gone.

    arena = Arenas(kept=2).arena(300 << 20)
    with arena.here():                      # in this thread
        ...                                 # memory.allocate() takes from it, as long as there is room

Pages that are fresh from the system cost more than what is read into them: a third of all time where pictures of 30 KB
are read a quarter of a GiB at a time.
"""

import mmap
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

_ALIGNED = 64
_here = threading.local()


class Arenas:
    """Regions of memory; of those that are free, `kept` wait for the next arena, the others go back to the system."""

    def __init__(self, kept: int) -> None:
        self._free: deque[np.ndarray] = deque(maxlen=kept)
        """Without a lock: a lease may end at any moment, in any thread."""
        self._largest = 0

    def arena(self, size: int) -> "Arena":
        """Of at least this size."""
        size = self._largest = max(self._largest, size)  # so that it fits whatever comes next: pages cost when touched
        for _ in range(len(self._free)):
            try:
                region = self._free.popleft()
            except IndexError:  # another thread was faster
                break
            if size <= len(region):
                return Arena(region, self._free)
        return Arena(fresh(size), self._free)


class Arena:
    """A region from which buffers are cut; it is free again when they and the arena are gone."""

    def __init__(self, region: np.ndarray, free: deque[np.ndarray]) -> None:
        self._lease, self._address, self._left = _Lease(region, free), region.ctypes.data, len(region)
        self._lock = threading.Lock()

    def buffer(self, size: int) -> pa.Buffer | None:
        """One to be filled by its address; None where there is no room any more."""
        room = -(-size // _ALIGNED) * _ALIGNED
        with self._lock:
            if room > self._left:
                return None
            self._left -= room
            address = self._address + self._left
        return pa.foreign_buffer(address, size, self._lease)

    @contextmanager
    def here(self) -> Iterator[None]:
        """What this thread allocates meanwhile comes from here."""
        _here.arena = self
        try:
            yield
        finally:
            del _here.arena


def current_arena() -> Arena | None:
    """Where this thread is to allocate."""
    return getattr(_here, "arena", None)


class _Lease:
    """Lives as long as its arena and all buffers of it."""

    def __init__(self, region: np.ndarray, free: deque[np.ndarray]) -> None:
        self._region, self._free = region, free

    def __del__(self) -> None:
        self._free.append(self._region)


def fresh(size: int) -> np.ndarray:
    """Memory that goes back to the system as soon as nothing refers to it. (The C library keeps what threads free.)"""
    region = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(region, np.uint8)
