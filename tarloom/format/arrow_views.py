"""What the 16 bytes of a binary_view say: its value's length, then the value itself if it is short, else the first
bytes of it, the number of its buffer, and where it begins there.

https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
"""

import numpy as np

from tarloom.format.arrow_types import Array

VIEW_BYTES = 16
LENGTH_BYTES = 4
PREFIX_BYTES = 4
SHORT_BYTES = VIEW_BYTES - LENGTH_BYTES
"""A value of up to so many bytes is in its view."""


def places_of_views(array: Array) -> tuple[list[memoryview], np.ndarray]:
    """Where the values of an array of binary_view lie: buffers, the first of them that of the views themselves, and for
    each value the number of its buffer, its first byte and its end; int64 of shape (values, 3). Those of nulls are
    somewhere."""
    buffers = [memoryview(buffer or b"").cast("B") for buffer in array.buffers()[1:]]
    numbers = array.offset + np.arange(len(array))
    words = np.frombuffer(buffers[0], np.int32).reshape(-1, VIEW_BYTES // 4)[numbers].astype(np.int64)
    sizes, of_long, firsts = words[:, 0], 1 + words[:, 2], words[:, 3]
    is_short = sizes <= SHORT_BYTES
    firsts = np.where(is_short, VIEW_BYTES * numbers + LENGTH_BYTES, firsts)
    return buffers, np.stack([np.where(is_short, 0, of_long), firsts, firsts + sizes], axis=1)
