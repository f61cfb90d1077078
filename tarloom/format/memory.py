"""Memory for large buffers, used again when they are gone.

What is read has tens of MiB at a time. Fresh pages from the system are zeroed first, which takes longer than to fill
them from the page cache, and Arrow's allocator takes a gigabyte of them before it comes back to those that are free.
"""

from collections import deque

import numpy as np
import pyarrow as pa

from tarloom.format.arena import current_arena, fresh

LARGE_BYTES = 64 << 10
KEPT_BYTES = 96 << 20
"""Held for the next buffers at most, in a process."""
_STEP_BYTES = 8 << 20
"""Regions have multiples of this, smaller ones powers of two: so they fit what comes next."""

_free: deque[np.ndarray] = deque()
"""Without a lock: a lease may end at any moment, in any thread, and a forked process must not wait for one."""


def allocate(size: int) -> pa.Buffer:
    """A buffer to be filled by its address. Its memory goes back when nothing refers to it any more."""
    arena = current_arena()
    if arena is not None and (buffer := arena.buffer(size)) is not None:
        return buffer
    if size < LARGE_BYTES:
        return pa.allocate_buffer(size)
    region = _taken(size)
    return pa.foreign_buffer(region.ctypes.data, size, _Lease(region))


class _Lease:
    """Lives as long as its buffer."""

    def __init__(self, region: np.ndarray) -> None:
        self._region = region

    def __del__(self) -> None:
        _free.append(self._region)
        try:
            while sum(map(len, tuple(_free))) > KEPT_BYTES:
                _free.popleft()
        except IndexError:  # another thread was faster
            pass


def _taken(size: int) -> np.ndarray:
    """A region of at least this size, and not far more; the last one used, which may be in the processor's cache."""
    unfit: list[np.ndarray] = []
    try:
        while not size <= len(region := _free.pop()) <= 2 * size:
            unfit.append(region)
    except IndexError:
        region = _new(size)
    _free.extend(reversed(unfit))
    return region


def _new(size: int) -> np.ndarray:
    """In small pages: a virtual machine gives large free ones back to its host, and has to ask for each one again."""
    step = min(1 << (size - 1).bit_length(), _STEP_BYTES)
    return fresh(-(-size // step) * step)
