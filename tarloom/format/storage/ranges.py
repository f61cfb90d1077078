"""Which requests to make for many byte ranges of a file: pure, without I/O.

There are two ways. The quick one reads every gap between ranges that takes less time to read than another request
would; of ranges that lie dense it makes a few big requests. The frugal one lets gaps add at most half to the bytes that
are wanted, the smallest gaps first. It is taken for scattered ranges, unless the quick way is far quicker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MOST_EXTRA = 0.5
"""Of the bytes that are wanted: what the frugal way may read beside them."""


@dataclass(frozen=True, kw_only=True)
class Medium:
    """What requests cost where the bytes lie."""

    gap_bytes: int
    """Read in the time that another request takes (measured: python -m benchmarks.requests)."""
    request_bytes: int
    """A request that has grown to this size takes no more ranges."""
    worth: float
    """The quick way is taken where it is so many times as fast as the frugal one."""


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Byte ranges of a file. Arrays are int64 of shape (ranges,)."""

    offsets: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def ends(self) -> np.ndarray:
        found: np.ndarray = self.offsets + self.sizes
        return found

    @property
    def places(self) -> np.ndarray:
        """Where they lie when they are put one behind the other."""
        found: np.ndarray = np.cumsum(self.sizes) - self.sizes
        return found

    @staticmethod
    def joined(groups: "Sequence[Ranges]") -> "Ranges":
        """All of them, in their order."""
        nothing = np.zeros(0, np.int64)
        return Ranges(
            offsets=np.concatenate([nothing, *(group.offsets for group in groups)]),
            sizes=np.concatenate([nothing, *(group.sizes for group in groups)]),
        )

    def take(self, numbers: np.ndarray | slice) -> "Ranges":
        """These alone."""
        return Ranges(offsets=self.offsets[numbers], sizes=self.sizes[numbers])

    def cut(self, limit: int) -> "Ranges":
        """The same bytes in the same order, in ranges of at most `limit` bytes."""
        if self.sizes.max(initial=0) <= limit:
            return self
        parts = np.maximum(-(-self.sizes // limit), 1)
        whole = np.repeat(np.arange(len(self)), parts)
        behind = limit * (np.arange(len(whole)) - np.repeat(np.cumsum(parts) - parts, parts))
        return Ranges(offsets=self.offsets[whole] + behind, sizes=np.minimum(self.sizes[whole] - behind, limit))


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What to read for some ranges."""

    starts: np.ndarray
    ends: np.ndarray
    """int64 of shape (requests,): the bytes from `start` up to `end`."""
    order: np.ndarray
    """The numbers of all ranges that are not empty, in the order of their places in the file."""
    first: np.ndarray
    """int64 of shape (requests + 1,): request i serves the ranges order[first[i]:first[i + 1]], none overlapping."""

    def __len__(self) -> int:
        return len(self.starts)

    def ranges_of(self, request: int) -> np.ndarray:
        """The ranges that lie in a request, by place."""
        found: np.ndarray = self.order[self.first[request] : self.first[request + 1]]
        return found

    def groups(self, most_bytes: int) -> Iterator[range]:
        """The requests in their order, in groups of at most so many bytes, one request where that alone has more."""
        reached, begin = np.cumsum(self.ends - self.starts), 0
        while begin < len(self):
            before = int(reached[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(reached, before + most_bytes, side="right")))
            yield range(begin, end)
            begin = end


def coalesce(ranges: Ranges, medium: Medium) -> Requests:
    """The requests that cover all ranges that are not empty, in the order of their places."""
    order = np.argsort(ranges.offsets, kind="stable")
    order = order[ranges.sizes[order] > 0]
    starts, ends = ranges.offsets[order], ranges.ends[order]
    begins = np.ones(len(order), np.bool_)
    if len(order):
        begins[1:] = ~_bridged(starts[1:] - ends[:-1], int((ends - starts).sum()), medium)
        begins |= _full(starts, begins, medium.request_bytes)
    first = np.append(np.flatnonzero(begins), len(order))
    return Requests(starts=starts[first[:-1]], ends=ends[first[1:] - 1], order=order, first=first)


def _bridged(gaps: np.ndarray, wanted: int, medium: Medium) -> np.ndarray:
    """Which gaps between neighbours are read along. Ranges that overlap are read apart."""
    quick: np.ndarray = (gaps >= 0) & (gaps <= medium.gap_bytes)
    if gaps[quick].sum() <= MOST_EXTRA * wanted:
        return quick
    smallest = np.argsort(gaps, kind="stable")
    affordable = np.empty(len(gaps), np.bool_)
    affordable[smallest] = np.cumsum(np.maximum(gaps[smallest], 0)) <= MOST_EXTRA * wanted
    frugal: np.ndarray = quick & affordable

    def cost(bridged: np.ndarray) -> int:
        return wanted + int(gaps[bridged].sum()) + medium.gap_bytes * int(len(gaps) + 1 - bridged.sum())

    return quick if medium.worth * cost(quick) <= cost(frugal) else frugal


def _full(starts: np.ndarray, begins: np.ndarray, request_bytes: int) -> np.ndarray:
    """Where a request that would have more bytes is divided."""
    run_starts = starts[begins][np.cumsum(begins) - 1]
    part = (starts - run_starts) // request_bytes
    return np.append(False, part[1:] != part[:-1])
