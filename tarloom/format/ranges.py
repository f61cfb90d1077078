"""Which requests to make for many small byte ranges of an object: pure, without I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COALESCE_BYTES = 1 << 20
"""Ranges closer than this are read in one request: the gap costs less than another request."""
SPAN_BYTES = 16 << 20
"""A request that has grown to this size takes no more ranges, so that big reads are made side by side."""


@dataclass(kw_only=True)
class Span:
    """One request: the bytes from `start` up to `end`, and which of the ranges lie in them."""

    start: int
    end: int
    ranges: list[int] = field(default_factory=list)


def coalesce(offsets: Sequence[int], sizes: Sequence[int]) -> list[Span]:
    """The requests that cover all ranges that are not empty, in the order of their place in the object."""
    spans: list[Span] = []
    for i in sorted((i for i, size in enumerate(sizes) if size), key=lambda i: offsets[i]):
        start, end = offsets[i], offsets[i] + sizes[i]
        if not spans or start > spans[-1].end + COALESCE_BYTES or spans[-1].end - spans[-1].start >= SPAN_BYTES:
            spans.append(Span(start=start, end=end))
        spans[-1].end = max(spans[-1].end, end)
        spans[-1].ranges.append(i)
    return spans


def cut_out(
    spans: Sequence[Span], parts: Iterable[memoryview], offsets: Sequence[int], sizes: Sequence[int]
) -> list[memoryview]:
    """The ranges, in the order asked for, from what the requests gave."""
    views = [memoryview(b"")] * len(offsets)
    for span, part in zip(spans, parts, strict=True):
        for i in span.ranges:
            views[i] = part[offsets[i] - span.start :][: sizes[i]]
    return views
