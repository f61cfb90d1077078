"""Ranges of a file that is read by requests, put one behind the other; what is in flight is bounded."""

from collections.abc import Callable, Collection, Sequence
from itertools import accumulate, pairwise
from typing import cast

import numpy as np
import pyarrow as pa

from tarloom.format.storage.base import RangeSource, Values
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
    return cast("Sequence[pa.Buffer]", pack_values(groups, fetch, apart=()))


def pack_values(groups: Sequence[Ranges], fetch: Fetch, apart: Collection[int]) -> Sequence[Values]:
    """What `RangeSource.read_values` gives: groups of these numbers as bytes, but where one is more than a request."""
    fits = [group.sizes.max(initial=0) <= REMOTE.request_bytes for group in groups]
    buffers = [
        None if i in apart and fits[i] else pa.allocate_buffer(int(group.sizes.sum())) for i, group in enumerate(groups)
    ]
    groups = [group.cut(REMOTE.request_bytes) for group in groups]
    targets: list[memoryview | None] = []
    for buffer, group in zip(buffers, groups, strict=True):
        targets += [None] * len(group) if buffer is None else views_in(buffer, group)
    values = _filled(targets, Ranges.joined(groups), fetch)
    bounds = pairwise(accumulate(map(len, groups), initial=0))
    return [values[i:j] if buffer is None else buffer for buffer, (i, j) in zip(buffers, bounds, strict=True)]


def _filled(targets: Sequence[memoryview | None], ranges: Ranges, fetch: Fetch) -> list[bytes]:
    """Copies each range to its target; the bytes of those that have none."""
    values = [b""] * len(targets)
    offsets, ends, requests = ranges.offsets.tolist(), ranges.ends.tolist(), coalesce(ranges, REMOTE)
    for numbers in requests.groups(IN_FLIGHT_BYTES):
        asked = requests.starts[numbers].tolist(), requests.ends[numbers].tolist()
        for number, start, part in zip(numbers, asked[0], fetch(*asked), strict=True):
            for i in requests.ranges_of(number).tolist():
                target, found = targets[i], part[offsets[i] - start : ends[i] - start]
                if target is None:
                    values[i] = bytes(found)
                else:
                    target[:] = found
    return values


def cut_from_pack(source: RangeSource, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
    """What read_ranges gives, by read_packed."""
    ranges = Ranges(offsets=np.array(offsets, np.int64), sizes=np.array(sizes, np.int64))
    (buffer,) = source.read_packed(name, [ranges])
    return views_in(buffer, ranges)


def views_in(buffer: pa.Buffer, ranges: Ranges) -> Sequence[memoryview]:
    """The ranges, which lie in a buffer one behind the other."""
    view, sizes = memoryview(buffer).cast("B"), ranges.sizes.tolist()
    return [view[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
