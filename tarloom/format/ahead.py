"""Many small things to wait for, done side by side and handed on in order, with little of it waiting in memory."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from time import perf_counter, thread_time
from typing import TypeVar

from tarloom.format.storage import Storage

Thing = TypeVar("Thing")
Made = TypeVar("Made")

THREADS = 16
"""For what mostly waits for storage."""
LOCAL_THREADS = 2
"""For what is on this machine, or looks like it: a network file system. More stand in each other's way: with three, the
rows of a condition took a quarter longer."""
COPY_THREADS = 2
"""For what has many bytes: two threads copy as fast as memory gives, and two batches is what waits in it."""


def threads_for(storage: Storage) -> int:
    """How many threads may wait for it."""
    return LOCAL_THREADS if storage.is_local else THREADS


class Threads(ThreadPoolExecutor):
    """Threads of an iterator, which nobody may end before the program ends. Modules are taken apart by then, also what
    throws away the work that waits; but there is none any more."""

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, ends: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        """As every executor's."""
        super().shutdown(wait, cancel_futures=cancel_futures and not ends())


def ahead(make: Callable[[Thing], Made], things: Iterable[Thing], *, threads: int, each: int = 1) -> Iterator[Made]:
    """What `make` makes of each, in their order; for every thread, `each` are made or wait to be taken. Errors are
    raised in their turn; whoever stops taking stops the making."""
    pool, coming = Threads(threads, thread_name_prefix="tarloom-ahead"), deque[Future[Made]]()
    try:
        for thing in things:
            coming.append(pool.submit(make, thing))
            if len(coming) == threads * each:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def ahead_where_it_waits(
    make: Callable[[Thing], Made], things: Iterable[Thing], storage: Storage, *, remote_threads: int = THREADS
) -> Iterator[Made]:
    """As `ahead`, by as many threads as may wait for this storage, which `make` reads.

    What this machine has in its memory is made in turn, until most of the time is spent waiting: threads that need not
    wait are in each other's way, with Python's lock, and with memory that one fills and the other empties.
    """
    left = iter(things)
    if storage.is_local:
        yield from _until_it_waits(make, left)
    yield from ahead(make, left, threads=LOCAL_THREADS if storage.is_local else remote_threads)


def _until_it_waits(make: Callable[[Thing], Made], things: Iterator[Thing]) -> Iterator[Made]:
    """Each in turn, up to the first that takes more than twice the time for which the processor has worked."""
    for thing in things:
        began, worked = perf_counter(), thread_time()
        made = make(thing)
        waits = perf_counter() - began > 2 * (thread_time() - worked)
        yield made
        del made  # the next one gets its memory
        if waits:
            return


def first_part(read: Callable[[Thing], Iterator[Made]]) -> Callable[[Thing], Iterator[Made]]:
    """What `read` reads, but so that its first part has been read already: to be read ahead."""

    def begin(thing: Thing) -> Iterator[Made]:
        reading = read(thing)
        return chain(list(islice(reading, 1)), reading)

    return begin
