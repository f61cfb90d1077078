"""Room for batches: memory of those that nobody has any more, for the next ones.

Fresh pages from the system are zeroed first. A batch of 256 pictures is 40 MB; that took a tenth of decoding them.
"""

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tarloom.format.arena import fresh

Bytes = npt.NDArray[np.uint8]


class Room:
    """Hands out arrays. The memory of one comes back when it and all its views are gone; `kept` of them wait at most,
    the others go back to the system."""

    def __init__(self, kept: int) -> None:
        self._free: deque[Bytes] = deque(maxlen=kept)

    def array(self, shape: tuple[int, ...]) -> Bytes:
        """Of this shape, with whatever was in it."""
        memory = self._taken(math.prod(shape))
        return lent(memory, shape, partial(self._free.append, memory))

    def _taken(self, size: int) -> Bytes:
        while self._free:
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread was faster
                break
            if len(memory) == size:
                return memory
        return fresh(size)[:size]


def lent(memory: Bytes, shape: tuple[int, ...], back: Callable[[], object]) -> Bytes:
    """The memory as an array. `back` is called where it and all its views are gone: in any thread, at any moment, so it
    must wait for nothing."""
    return np.asarray(_Lease(memory, shape, back))


class _Lease:
    """What an array and its views have their memory from."""

    def __init__(self, memory: Bytes, shape: tuple[int, ...], back: Callable[[], object]) -> None:
        self._memory, self._back = memory, back
        self.__array_interface__: dict[str, Any] = {**memory.__array_interface__, "shape": shape, "strides": None}

    def __del__(self) -> None:
        self._back()
