"""Byte ranges of a local file where they lie in the system's memory: looked at through a mapping, and not copied.

Who maps a file says that nobody changes it. One that is cut short meanwhile ends the process that looks behind its new
end (SIGBUS, mmap(2)), as does a disk that fails; one that is overwritten in place changes what was taken from it. Files
that are replaced by renaming, as all of ours are, stay what they were for those who have them.
"""

import mmap

import numpy as np
import pyarrow as pa

from tarloom.format.arrow_types import Array, validity
from tarloom.format.arrow_views import PREFIX_BYTES, SHORT_BYTES
from tarloom.format.storage.base import cut_short
from tarloom.format.storage.local import LocalStorage
from tarloom.format.storage.ranges import Ranges, coalesce
from tarloom.format.storage.scatter import LOCAL, announced

WINDOW_BYTES = 1 << 30
"""Views count 31 bits from where their buffer begins: there is one for each so many bytes. Larger values have no
view."""


class MappedFile:
    """A file that stays mapped while views of it live. Raises StorageError where it cannot be opened."""

    def __init__(self, storage: LocalStorage, name: str) -> None:
        self._where = storage.describe(name)
        self._file = storage.map(name)
        self._bytes = np.frombuffer(self._file, np.uint8)

    def prepare(self, ranges: Ranges) -> None:
        """Say that these will be looked at. Around pages that it was not told of, the system reads others, too: of
        ranges that lie apart, several times what is wanted. (Of others it need not be told.) Raises as `parts` does."""
        self._check(ranges)
        pages, between = self._file.obj, ranges.ends.max(initial=0) - ranges.offsets.min(initial=len(self._bytes))
        if isinstance(pages, mmap.mmap) and 2 * ranges.sizes.sum() < between:
            for start, end in announced(coalesce(ranges, LOCAL)):
                first = start - start % mmap.PAGESIZE
                pages.madvise(mmap.MADV_WILLNEED, first, end - first)

    def parts(self, ranges: Ranges) -> list[memoryview]:
        """Each range. Raises StorageError where the file ends before."""
        self._check(ranges)
        return [self._bytes.data[i:j] for i, j in zip(ranges.offsets.tolist(), ranges.ends.tolist(), strict=True)]

    def blocks(self, offsets: np.ndarray, size: int) -> pa.Buffer:
        """A copy of all ranges of one size, one behind the other. Raises as `parts` does."""
        self._check(Ranges(offsets=offsets, sizes=np.full(len(offsets), size)))
        return pa.py_buffer(self._at(offsets, size).data)

    def views(self, ranges: Ranges) -> Array:
        """The ranges as an array of binary_view, null where the size is -1, and all below WINDOW_BYTES.

        arrow_views.py says of what its views are made. Raises as `parts` does.
        """
        present = ranges.sizes >= 0
        there = ranges.take(present)
        self._check(there)
        begin, end = int(there.offsets.min(initial=len(self._bytes))), int(there.ends.max(initial=0))
        offsets, sizes = np.where(present, ranges.offsets, begin), np.maximum(ranges.sizes, 0)
        views = np.zeros((len(ranges), 4), np.int32)
        views[:, 0], long = sizes, sizes > SHORT_BYTES
        views[long, 1] = self._at(offsets[long], PREFIX_BYTES).view(np.int32)
        views[long, 2], views[long, 3] = np.divmod(offsets[long] - begin, WINDOW_BYTES)
        views[~long, 1:] = self._short(offsets[~long], sizes[~long])
        starts = range(begin, begin + 1 + int((offsets - begin).max(initial=0)), WINDOW_BYTES)
        windows = [self._bytes.data[start : min(start + 2 * WINDOW_BYTES - 1, end)] for start in starts]
        buffers = [validity(present), *map(pa.py_buffer, (views.data, *windows))]
        array: Array = pa.Array.from_buffers(pa.binary_view(), len(views), buffers)
        return array

    def _short(self, offsets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Values of up to SHORT_BYTES, zeros behind them: int32 of shape (values, 3)."""
        places = offsets[:, None] + np.arange(SHORT_BYTES)
        inside = places < (offsets + sizes)[:, None]
        found = np.zeros(inside.shape, np.uint8)
        found[inside] = self._bytes[places[inside]]
        return found.view(np.int32)

    def _at(self, offsets: np.ndarray, size: int) -> np.ndarray:
        """As many bytes from each place: of shape (offsets,), each a void."""
        everywhere = np.ndarray((max(len(self._bytes) - size + 1, 0),), f"V{size}", self._bytes, strides=(1,))
        found: np.ndarray = everywhere[offsets]
        return found

    def _check(self, ranges: Ranges) -> None:
        if len(ranges) and (ranges.offsets.min() < 0 or ranges.ends.max() > len(self._bytes)):
            raise cut_short(self._where)
