"""Spans: steps that are read together, and the next span in the background while the last one is used up.

The more samples of a window are read at a time, the longer the ranges of bytes that they lie in; a whole window of
samples is whole blocks of shards. So spans end where windows do. The first one is one step, for a first batch soon.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from itertools import chain, islice
from typing import TypeVar

from tarloom.format.ahead import Threads

Span = TypeVar("Span")
Read = TypeVar("Read")

GROWTH = 8
"""How many times as large as the last one a span may be."""
HELD = 3
"""Spans in memory: one that is used up, one that is read, and of one the last batches."""
LOCAL_BYTES = 128 << 20
"""Of a span of files on this machine, where scattered ranges cost little and larger spans would only take memory ..."""
LOCAL_ROWS = 64
"""... unless it has fewer rows of a shard than these: to open a shard costs as much as to read some rows of it."""
PATIENCE = 30.0
"""Seconds to wait for a span before it is said what is waited for."""

_log = logging.getLogger(__name__)


def spans(steps: range, *, most: Callable[[], int], window: int | None) -> Iterator[range]:
    """The steps, in their order, in spans of at most `most()` steps that end where windows do.

    steps: the positions at which they begin. most: asked when the next span is. window: samples of one; None where
    nothing is gained by keeping to them.
    """
    first, size = 0, 1
    while first < len(steps):
        left = len(steps) - first
        if window is not None:
            left = min(left, -(-(window - steps[first] % window) // steps.step))
        size = min(size, -(-left // -(-left // most())))  # equal parts of what is left
        yield steps[first : first + size]
        first, size = first + size, GROWTH * size


def read_ahead(
    read: Callable[[Span], Read], spans: Iterable[Span], *, close: Callable[[], None], missing: Callable[[], str]
) -> Iterator[Read]:
    """What is read of each, in their order; the next one is read while the caller is busy with the last.

    close: called when nobody wants more; it makes `read` end soon. missing: what `read` waits for, in words.
    """
    pool, coming = Threads(1, thread_name_prefix="tarloom-spans"), deque[Future[list[Read]]]()
    wanted = iter(spans)

    def read_next() -> list[Read]:  # in the pool: a span, too, is asked for when those before it have been read
        return [read(span) for span in islice(wanted, 1)]

    def begin() -> None:
        coming.append(pool.submit(read_next))

    def next_one() -> list[Read]:
        begin()
        return _taken(coming.popleft(), missing)

    try:
        begin()
        yield from chain.from_iterable(iter(next_one, []))
    finally:
        close()
        pool.shutdown(cancel_futures=True)


def _taken(coming: Future[Read], missing: Callable[[], str]) -> Read:
    while not wait([coming], PATIENCE).done:
        _log.warning("nothing to feed for %.0f seconds, still waiting for %s", PATIENCE, missing())
    return coming.result()
