"""Ranges of a file that is read by requests, put one behind the other; what is in flight is bounded."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa

from tarloom.format.storage.base import RangeSource
from tarloom.format.storage.ranges import Medium, Ranges, coalesce

REMOTE = Medium(gap_bytes=512 << 10, request_bytes=8 << 20, worth=2)
"""Over S3 from radosgw on loopback a request cost as much as 440 KB more of another (python -m benchmarks.requests); of
pictures of 30 KB, one in ten was fetched 1.2 times as fast in the quick way with 6 times the bytes, one in five 4 times
as fast. So the frugal way is taken below about one in eight."""
IN_FLIGHT_BYTES = 64 << 20
"""Asked for at a time, beside the memory that it goes to."""

Fetch = Callable[[Sequence[int], Sequence[int]], Sequence[memoryview]]
"""Makes requests side by side: from their first bytes and ends to what is there."""


def pack(groups: Sequence[Ranges], fetch: Fetch) -> Sequence[pa.Buffer]:
    """A buffer for each group, as `RangeSource.read_packed` gives them."""
    buffers = [pa.allocate_buffer(int(group.sizes.sum())) for group in groups]
    groups = [group.cut(REMOTE.request_bytes) for group in groups]
    targets = [view for buffer, group in zip(buffers, groups, strict=True) for view in views_in(buffer, group)]
    ranges = Ranges.joined(groups)
    offsets, requests = ranges.offsets.tolist(), coalesce(ranges, REMOTE)
    for numbers in requests.groups(IN_FLIGHT_BYTES):
        starts, ends = requests.starts[numbers].tolist(), requests.ends[numbers].tolist()
        for number, start, part in zip(numbers, starts, fetch(starts, ends), strict=True):
            for i in requests.ranges_of(number).tolist():
                targets[i][:] = part[offsets[i] - start :][: len(targets[i])]
    return buffers


def cut_from_pack(source: RangeSource, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
    """What read_ranges gives, by read_packed."""
    ranges = Ranges(offsets=np.array(offsets, np.int64), sizes=np.array(sizes, np.int64))
    (buffer,) = source.read_packed(name, [ranges])
    return views_in(buffer, ranges)


def views_in(buffer: pa.Buffer, ranges: Ranges) -> Sequence[memoryview]:
    """The ranges, which lie in a buffer one behind the other."""
    view, sizes = memoryview(buffer).cast("B"), ranges.sizes.tolist()
    return [view[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
