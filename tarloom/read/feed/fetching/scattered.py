"""Values of a member where they were read: views of large buffers, taken and joined by numbers alone."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa

from tarloom.format.arrow_types import Array
from tarloom.format.arrow_views import places_of_views
from tarloom.read.feed.order.chance import Numbers


class Scattered(Sequence[memoryview | None]):
    """Values, None where a sample lacks the member. A buffer lives as long as one of them is referred to from here.

    buffers: what was read. where: of each value the number of its buffer, its first byte and its end; int64 of shape
    (values, 3); a value that is not there ends at -1.
    """

    def __init__(self, buffers: Sequence[memoryview], where: Numbers) -> None:
        self._buffers, self._where = tuple(buffers), where
        self._places: list[tuple[int, int, int]] | None = None

    @classmethod
    def of(cls, values: Array) -> "Scattered":
        """Of an array of type binary, large_binary or binary_view."""
        if values.type == pa.binary_view():
            buffers, where = places_of_views(values)
            where[_missing(values), 2] = -1
            return cls(buffers, where)
        width = np.int64 if values.type == pa.large_binary() else np.int32
        _, ends, data = values.buffers()
        bounds = np.frombuffer(memoryview(ends or b""), width)[values.offset :][: len(values) + 1].astype(np.int64)
        where = np.zeros((len(values), 3), np.int64)
        where[:, 1], where[:, 2] = bounds[:-1], np.where(_missing(values), -1, bounds[1:])
        return cls([memoryview(data or b"").cast("B")], where)

    @classmethod
    def nothing(cls, count: int) -> "Scattered":
        """So many samples that lack the member."""
        return cls([memoryview(b"")], np.tile(np.array([0, 0, -1]), (count, 1)))

    @classmethod
    def joined(cls, parts: "Sequence[Scattered]") -> "Scattered":
        """All of them, in their order."""
        where = np.concatenate([np.zeros((0, 3), np.int64), *(part._where for part in parts)])
        counts = np.array([len(part._buffers) for part in parts], np.int64)
        where[:, 0] += np.repeat(np.cumsum(counts) - counts, [len(part) for part in parts])
        return cls([buffer for part in parts for buffer in part._buffers], where)

    def take(self, numbers: Numbers) -> "Scattered":
        """These alone."""
        where = self._where[numbers]
        used, buffers = np.unique(where[:, 0], return_inverse=True)
        kept = [self._buffers[number] for number in used.tolist()]
        return Scattered(kept, np.concatenate([buffers.reshape(-1, 1), where[:, 1:]], axis=1))

    @property
    def sizes(self) -> Numbers:
        """Bytes of each, -1 where there is none."""
        return np.where(self._where[:, 2] < 0, -1, self._where[:, 2] - self._where[:, 1])

    def __len__(self) -> int:
        return len(self._where)

    @overload
    def __getitem__(self, row: int) -> memoryview | None: ...

    @overload
    def __getitem__(self, row: slice) -> "Scattered": ...

    def __getitem__(self, row: int | slice) -> "memoryview | Scattered | None":
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        if self._places is None:
            self._places = [tuple(place) for place in self._where.tolist()]
        buffer, first, end = self._places[row]
        return None if end < 0 else self._buffers[buffer][first:end]

    def __iter__(self) -> Iterator[memoryview | None]:
        return map(self.__getitem__, range(len(self)))


def _missing(values: Array) -> np.ndarray:
    """Which are null."""
    found: np.ndarray = values.is_null().to_numpy(zero_copy_only=False)
    return found
