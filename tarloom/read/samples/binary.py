"""Members in memory: an Arrow array that is read like a list of views, without a copy."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa

from tarloom.format.arrow_types import Array, validity

LARGEST_BINARY = 2**31 - 1
"""More bytes than this in one Arrow array need 64-bit offsets."""


class Binary(Sequence[memoryview | None]):
    """Values of one member, None where a sample lacks it. `array` has them as binary, or as large_binary."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, row: int) -> memoryview | None: ...

    @overload
    def __getitem__(self, row: slice) -> "Binary": ...

    def __getitem__(self, row: int | slice) -> "memoryview | Binary | None":
        if isinstance(row, slice):
            return Binary(self.array[row])
        value = self.array[row].as_buffer()
        return None if value is None else memoryview(value).cast("B")

    def __iter__(self) -> Iterator[memoryview | None]:
        return map(self.__getitem__, range(len(self)))


def packed_array(buffer: pa.Buffer, sizes: np.ndarray) -> Array:
    """The array of values that lie in a buffer one behind the other. sizes: int64 of shape (rows,), -1 for null."""
    present, ends = sizes >= 0, np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(np.maximum(sizes, 0), out=ends[1:])
    large = int(ends[-1]) > LARGEST_BINARY
    offsets = pa.py_buffer((ends if large else ends.astype(np.int32)).data)
    kind = pa.large_binary() if large else pa.binary()
    array: Array = pa.Array.from_buffers(kind, len(sizes), [validity(present), offsets, buffer])
    return array


def joined_array(values: Sequence[memoryview | bytes | None]) -> Array:
    """One copy of all bytes into an array: much faster than appending one by one."""
    if isinstance(values, Binary):
        return values.array
    sizes = np.fromiter((-1 if value is None else len(value) for value in values), np.int64, len(values))
    return packed_array(pa.py_buffer(b"".join(value for value in values if value is not None)), sizes)
