"""Byte ranges of a local file, each straight to its place in memory: one copy, hundreds of ranges in a system call.

`preadv` fills a list of places in memory with consecutive bytes of a file. Gaps between ranges go to one place that
nobody looks at. Nothing is memory-mapped: a file that is cut while it is read is an error, not the end of the process.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tarloom.format.storage.ranges import Medium, Ranges, Requests, coalesce

LOCAL = Medium(gap_bytes=32 << 10, request_bytes=4 << 20, worth=1)
"""A call cost as much as 12 KB more of another where the file was in the page cache, 110 KB where it was on the disk
(python -m benchmarks.requests). Bytes alone cost nothing here, so the quick way is always taken."""
_MOST_RANGES = 512
"""In one call, each behind its gap: it takes 1024 places on every system."""
_ANNOUNCED_BYTES = 1 << 20
"""Requests below this are small."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.preadv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_libc.preadv.restype = ctypes.c_ssize_t


class EndsBefore(Exception):
    """The file ends before a range does."""


def scatter(descriptor: int, ranges: Ranges, addresses: np.ndarray) -> None:
    """Copy every range to its address, where there must be room for it. addresses: uint64 of shape (ranges,).

    Raises EndsBefore, OSError.
    """
    requests = coalesce(ranges, LOCAL)
    if hasattr(os, "posix_fadvise"):  # not on macOS
        for start, end in announced(requests):
            os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_WILLNEED)
    ranges = ranges.take(requests.order)
    gaps = _gaps(requests, ranges)
    nowhere = np.empty(int(gaps.max(initial=0)), np.uint8)
    places = np.empty((len(ranges), 2, 2), np.uint64)
    places[:, 0, 0], places[:, 0, 1] = nowhere.ctypes.data, gaps
    places[:, 1, 0], places[:, 1, 1] = addresses[requests.order], ranges.sizes
    starts, ends = ranges.offsets - gaps, ranges.ends
    for first, last in pairwise(requests.first.tolist()):
        for i in range(first, last, _MOST_RANGES):
            j = min(i + _MOST_RANGES, last)
            _fill(descriptor, places[i:j].reshape(-1, 2), int(starts[i]), int(ends[j - 1]))


def announced(requests: Requests) -> Iterator[tuple[int, int]]:
    """Where those begin and end that the system is to know of before they are made: it fetches small ones from the disk
    side by side then. Ahead of large ones it reads by itself."""
    small = requests.ends - requests.starts < _ANNOUNCED_BYTES
    return zip(requests.starts[small].tolist(), requests.ends[small].tolist(), strict=True)


def _gaps(requests: Requests, ranges: Ranges) -> np.ndarray:
    """Bytes between a range and the one before it in the same request; else 0. ranges: by place in the file."""
    gaps = np.zeros(len(ranges), np.int64)
    gaps[1:] = ranges.offsets[1:] - ranges.ends[:-1]
    gaps[requests.first[:-1]] = 0
    return gaps


def _fill(descriptor: int, places: np.ndarray, position: int, end: int) -> None:
    """Fill places, uint64 of shape (places, 2): addresses and lengths, with the file's bytes from `position` to `end`.

    A system call may end early: then the rest is asked for.
    """
    while position < end:
        count = _libc.preadv(descriptor, places.ctypes.data, len(places), position)
        if count < 0 and ctypes.get_errno() == errno.EINTR:
            continue
        if count < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if count == 0:
            raise EndsBefore
        position += count
        places = _unfilled(places, count) if position < end else places


def _unfilled(places: np.ndarray, count: int) -> np.ndarray:
    """The places that are left when so many bytes have come, fewer than all."""
    reached = np.cumsum(places[:, 1])
    done = int(np.searchsorted(reached, np.uint64(count), side="right"))
    within = np.uint64(count) - (reached[done - 1] if done else np.uint64(0))
    left: np.ndarray = places[done:].copy()
    left[0, 0] += within
    left[0, 1] -= within
    return left
