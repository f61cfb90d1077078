"""Decoded pictures as an Arrow column: copied behind each other one by one, while each is still in the CPU's cache."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tarloom.read.samples.binary import packed_array
from tarloom.read.view import RGB


class PictureColumn:
    """A column that grows; `finish` ends it. Room is made for so many rows like the first, up to a limit in bytes."""

    def __init__(self, *, rows: int, limit: int) -> None:
        self._rows, self._limit = rows, limit
        self._shapes: list[tuple[int, int]] = []
        self._sizes: list[int] = []
        self._pixels = np.empty(0, np.uint8)
        self._used = 0

    def append(self, picture: npt.NDArray[np.uint8] | None) -> None:
        """A picture of shape (height, width, 3), or none."""
        self._shapes.append((0, 0) if picture is None else picture.shape[:2])
        self._sizes.append(0 if picture is None else picture.size)
        if picture is None:
            return
        end = self._used + picture.size
        if end > len(self._pixels):
            self._make_room(end, picture.size)
        self._pixels[self._used : end] = picture.ravel()
        self._used = end

    def finish(self) -> pa.StructArray:
        """An array of RGB."""
        self._pixels.resize(self._used, refcheck=False)
        data = packed_array(pa.py_buffer(self._pixels.data), np.array(self._sizes, np.int64))
        shapes = np.array(self._shapes, np.int32).reshape(-1, 2)
        height, width = (pa.array(np.ascontiguousarray(shapes[:, side])) for side in (0, 1))
        absent = pa.array(shapes[:, 0] == 0)
        return pa.StructArray.from_arrays([height, width, data], fields=list(RGB), mask=absent)

    def _make_room(self, end: int, size: int) -> None:
        room = np.empty(max(end, 2 * self._used, min(size * self._rows, self._limit)), np.uint8)
        room[: self._used] = self._pixels[: self._used]
        self._pixels = room
